"""A pass stands alone: what several passes read lies in passes/support, not in one of them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from segc.passes.base import Pass
from tests.helpers.source_tree import modules

NO_PASSES = ("segc.passes.support.", "segc.passes.base", "segc.passes.registry")


def is_pass_module(module: str) -> bool:
    return module.startswith("segc.passes.") and not module.startswith(NO_PASSES) and module.count(".") == 3


def helpers_taken(path: Path) -> set[str]:
    """Names, with their modules, that a file imports from a pass's module and that are no passes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and is_pass_module(node.module):
            module = importlib.import_module(node.module)
            for alias in node.names:
                value = getattr(module, alias.name)
                if not (isinstance(value, type) and issubclass(value, Pass)):
                    found.add(f"{node.module}.{alias.name}")
    return found


def test_helpers_of_passes_are_taken_from_support_only() -> None:
    known = modules()
    assert sum(map(is_pass_module, known)) > 60
    assert {module: taken for module, path in known.items() if (taken := helpers_taken(path))} == {}


def test_a_helper_taken_from_a_pass_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("from segc.passes.cleanup.merge_concats import MergeConcats, piece_of\n")
    assert helpers_taken(path) == {"segc.passes.cleanup.merge_concats.piece_of"}
