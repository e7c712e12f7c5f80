"""Who may import whom, and that nothing outside targets/ knows one target from another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from segc import targets
from tests.helpers.source_tree import imports, modules, package

# Of each package what it may import besides itself and `segc` itself, also inside functions. Absent: anything.
ALLOWED = {
    "errors": set[str](),
    "files": {"errors"},
    "packages": {"errors"},
    "ranges": {"errors"},
    "suggestions": {"errors"},
    "graph": {"errors", "files", "isolation"},
    "bundle": {"errors", "files", "packages"},
    "isolation": {"errors", "targets"},
    "pictures": {"bundle", "errors", "files", "packages", "runtime"},
    "streams": {"errors", "files", "packages", "runtime"},
    "serving": {"bundle", "errors", "runtime"},
    "packaging": {"bundle", "errors", "files", "serving"},
    "passes": {"errors", "graph", "isolation", "packages", "parity", "runtime"},
    "frontend": {"bundle", "errors", "files", "graph", "isolation", "suggestions"},
    "parity": {"errors", "frontend", "graph", "isolation", "passes", "ranges", "runtime", "targets"},
    "pipeline": {"errors", "files", "graph", "parity", "passes", "runtime", "suggestions", "targets"},
    "legality": {"errors", "graph", "passes", "pipeline", "targets"},
    "targets": {"bundle", "errors", "graph", "isolation", "packages", "parity", "passes", "runtime", "suggestions"},
}
HOST = "onnxruntime"  # the default, and what runs the nodes that another target refuses


@pytest.mark.parametrize("name", ALLOWED)
def test_packages_import_only_what_lies_below_them(name: str) -> None:
    known = modules()
    members = [module for module in known if package(module) == name]
    assert members
    found = {
        f"{module} imports {other}"
        for module in members
        for other in imports(module, known[module], known, inside_functions=True)
        if package(other) not in ALLOWED[name] | {name, "segc"}
    }
    assert found == set()


def comparisons(path: Path, names: set[str]) -> list[int]:
    """Lines that compare something with a target's name, or match it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Compare | ast.MatchValue):
            continue
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else [node.value]
        if names & {c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)}:
            found.append(node.lineno if isinstance(node, ast.Compare) else node.value.lineno)
    return found


def test_no_code_outside_targets_branches_on_the_name_of_a_target() -> None:
    names = set(targets.names())
    assert HOST in names
    assert len(names) > 4
    known = modules()
    found = [
        f"{module}:{line}"
        for module, path in known.items()
        if package(module) not in ("targets", "support_matrix")
        for line in comparisons(path, names)
    ]
    assert found == []


def test_a_branch_on_a_name_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('x = t.name == "ncnn"\ny = t.name in ("ncnn", "z")\nmatch t:\n    case "ncnn":\n        pass\n')
    assert comparisons(path, {"ncnn"}) == [1, 2, 4]
    assert comparisons(path, {"openvino"}) == []


def test_sessions_of_onnxruntime_are_made_in_one_place() -> None:
    makers = [m for m, path in modules().items() if "InferenceSession(" in path.read_text(encoding="utf-8")]
    assert makers == ["segc.runtime.ort"]
