"""docs/architecture.md: its generated parts are those of the code, and the rules it states hold."""

from __future__ import annotations

import ast

import pytest

from tools import draw_pipeline, layout

COMPILER = {"passes", "graph", "frontend", "pipeline", "legality", "hybrid", "compilation", "commands", "cli"}


def test_the_tree_and_the_table_are_those_of_the_code() -> None:
    text = layout.PAGE.read_text(encoding="utf-8")
    assert layout.page(text) == text, "run `make generated`"


def test_the_picture_shows_the_stages_and_targets_of_the_code() -> None:
    assert draw_pipeline.PICTURE.read_text(encoding="utf-8") == draw_pipeline.picture(), "run `make generated`"


def test_every_folder_says_what_it_holds() -> None:
    folders = [folder for top in layout.CODE for folder in layout.folders(top)]
    assert len(folders) > 30
    assert [folder for folder in folders if not layout.sentence(folder).endswith(".")] == []


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("passes", {"targets", "pipeline", "frontend", "legality", "hybrid", "compilation", "commands", "cli"}),
        ("frontend", {"passes", "targets", "pipeline", "graph", "hybrid", "compilation", "commands", "cli"}),
        ("runtime", COMPILER | {"parity"}),
        ("bundle", COMPILER | {"targets", "runtime"}),
    ],
)
def test_a_package_imports_nothing_from_above_it(package: str, never: set[str]) -> None:
    assert layout.imports()[package] & never == set()


def test_commands_are_imported_by_the_command_line_and_the_matrix_alone() -> None:
    users = {name for name, uses in layout.imports().items() if "commands" in uses}
    assert users - {"segc"} == {"cli", "support_matrix"}
    assert {name for name, uses in layout.imports().items() if "cli" in uses} <= {"__main__"}


def test_torch_and_mmseg_are_imported_by_three_packages_alone() -> None:
    found = {
        layout.package_of(name)
        for name, path in layout.modules().items()
        for asked in layout.asked_for(ast.parse(path.read_text(encoding="utf-8")))
        if asked.split(".")[0] in ("torch", "mmseg", "mmengine", "mmcv")
    }
    assert found == {"frontend", "parity", "support_matrix"}
