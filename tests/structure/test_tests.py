"""Tests mirror the code: whoever knows where a module lies knows where its tests lie, and the other way round."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers.order import LONGEST_FIRST
from tests.helpers.source_tree import ROOT, modules

TESTS = ROOT / "tests"
# Folders whose modules are tested together, in files by subject, and why; a folder stands for those below it too.
BY_SUBJECT = {
    ".": "the door of the package and its errors: tests of all commands go through them",
    "passes": "the contract: every test of a pass goes through tests/helpers/checks.py, which asserts it",
    "passes/support": "helpers of passes: the tests of the passes that share them show what they are for",
    "bundle": "a format: one file writes bundles, reads them back and breaks them",
    "cli": "one script calls the commands as a user does",
    "commands": "a command is its effect on files, which tests of the command line and of bundles show",
    "compilation": "steps of one compile; tests/commands compiles whole models",
    "frontend": "what several front ends share is tested through each of them",
    "comparing": "what two sides differ in is found by the whole comparison, in tests/commands",
    "diagnosis": "a fault is found by the whole search: tests/commands plants faults and runs it",
    "files": "tests/robustness kills whole commands and fills the disk",
    "golden": "a kit is what its checkers say: tests/commands makes kits and runs them",
    "graph": "views of a graph and its invariants: passes and pipelines are checked with them in every test",
    "hybrid": "a plan, its parts and its bundle are only right together",
    "isolation": "client, server and fork are one conversation between processes",
    "legality": "what is refused and how it is said",
    "parity": "what is compared is the engine of a whole compile",
    "pipeline": "the order of passes and what hangs on it",
    "runtime": "kernels are compared with each other and with torch",
    "packaging": "a package is right as a whole, in the browser or server that it is for",
    "reporting": "a page is what a browser makes of it",
    "pictures": "a picture is right as a whole: its mask, its place on Earth, and what a killed run left",
    "streams": "decoding, threads and files of a stream are right together, frame by frame",
    "serving": "what a server does shows in its answers",
    "traces": "a kept trace is right or wrong as a whole",
    "support_matrix": "cells, jobs and page are one run",
    "validation": "areas, labels and whole evaluations are compared with mmseg's",
    "targets": "a target's table, files and engine are only right together: tests by kind of model",
}
# Folders of tests that mirror no folder of segc.
OF_THEIR_OWN = {
    "benchmarks": "mirrors benchmarks/",
    "examples": "mirrors examples/",
    "tools": "mirrors tools/",
    "data": "what tests compare with",
    "robustness": "hostile, damaged and odd inputs of every kind, through whole commands",
    "helpers": "what tests share",
    "structure": "rules about the tree as a whole",
}


def folder(module: str) -> Path:
    """The folder of a module below segc, such as passes/cleanup."""
    return Path(*module.split(".")[1:-1])


def is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def mirror(module: str) -> Path:
    return TESTS / folder(module) / f"test_{module.split('.')[-1]}.py"


def by_subject(where: Path) -> bool:
    """Whether a folder, or one above it below the top, is in the table."""
    return any(each.as_posix() in BY_SUBJECT for each in (where, *where.parents) if each != Path() or where == Path())


def test_every_module_has_a_mirrored_test_file_or_a_reason() -> None:
    known = {module: path for module, path in modules().items() if not is_package(path)}
    assert len(known) > 200
    missing = [module for module in known if not mirror(module).is_file()]
    assert [module for module in missing if not by_subject(folder(module))] == []


def test_every_pass_has_a_test_file_of_its_own() -> None:
    from segc.passes import REGISTRY

    own = {step.__module__ for step in REGISTRY.values() if step.__module__.startswith("segc.passes.")}
    assert len(own) > 60
    assert [module for module in sorted(own) if not mirror(module).is_file()] == []


def test_no_reason_is_left_over() -> None:
    known = [module for module, path in modules().items() if not is_package(path)]
    used = {each.as_posix() for m in known if not mirror(m).is_file() for each in (folder(m), *folder(m).parents)}
    assert set(BY_SUBJECT) - used == set()
    assert [name for name in OF_THEIR_OWN if not (TESTS / name).is_dir()] == []


def test_every_folder_of_tests_mirrors_one_of_code() -> None:
    code = {folder(f"{module}.any") if is_package(path) else folder(module) for module, path in modules().items()}
    found = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert [where for where in sorted(found) if where not in code and where.parts[0] not in OF_THEIR_OWN] == []
    untested = {where for where in code if not by_subject(where)} - found
    assert untested == set()


def test_the_files_that_run_first_are_there() -> None:
    assert [name for name in LONGEST_FIRST if not (TESTS / name).is_file()] == []


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_files_of_tests_share_through_helpers_only() -> None:
    files = list(TESTS.rglob("*.py"))
    assert len(files) > 150
    foreign = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if name.startswith("tests.") and not name.startswith("tests.helpers.") and name != "tests.helpers"
    }
    assert foreign == set()


@pytest.mark.parametrize("text", ["from tests.a.test_b import c", "import tests.a.test_b"])
def test_an_import_from_a_test_file_would_be_seen(tmp_path: Path, text: str) -> None:
    (tmp_path / "test_x.py").write_text(text)
    assert all(name.startswith("tests.a.test_b") for name in imported(tmp_path / "test_x.py"))
