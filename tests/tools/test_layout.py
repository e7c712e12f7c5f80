"""docs/architecture.md: its generated parts are those of the code, and the rules it states hold."""

from __future__ import annotations

import ast

from tests.helpers.source_tree import modules, package, statements
from tools import draw_pipeline, layout


def test_the_tree_and_the_table_are_those_of_the_code() -> None:
    text = layout.PAGE.read_text(encoding="utf-8")
    assert layout.page(text) == text, "run `make generated`"


def test_the_picture_shows_the_stages_and_targets_of_the_code() -> None:
    assert draw_pipeline.PICTURE.read_text(encoding="utf-8") == draw_pipeline.picture(), "run `make generated`"


def test_every_folder_says_what_it_holds() -> None:
    folders = [folder for top in layout.CODE for folder in layout.folders(top)]
    assert len(folders) > 30
    assert [folder for folder in folders if not layout.sentence(folder).endswith(".")] == []


def test_torch_and_mmseg_are_imported_where_the_page_says() -> None:
    known = modules()
    asked = {
        (package(name), word)
        for name, path in known.items()
        for node in statements(ast.parse(path.read_text(encoding="utf-8")).body, inside_functions=True)
        for word in words(node)
    }
    assert {name for name, word in asked if word == "torch"} == {"frontend", "parity", "support_matrix"}
    assert {name for name, word in asked if word in ("mmseg", "mmengine", "mmcv")} == {"frontend", "support_matrix"}


def test_every_session_of_onnx_runtime_is_made_where_the_page_says() -> None:
    makers = [name for name, path in modules().items() if "InferenceSession(" in path.read_text(encoding="utf-8")]
    assert makers == ["segc.runtime.ort"]


def words(node: ast.AST) -> set[str]:
    """The top packages that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and node.module else set()
