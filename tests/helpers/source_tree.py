"""The modules of segc as files, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules() -> dict[str, Path]:
    """Every module of segc by its dotted name; passes/ and targets/ under the names they are imported by."""
    found = {}
    for folder, prefix in (("segc", ""), ("passes", "segc."), ("targets", "segc.")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if folder == "segc" and parts[1] in ("passes", "targets"):
                continue  # the links
            found[prefix + ".".join(parts).removesuffix(".__init__")] = path
    return found


def statements(body: Sequence[ast.AST], *, inside_functions: bool) -> Iterator[ast.AST]:
    """The statements that run on import, or also those of functions; never what only type checkers read."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse, inside_functions=inside_functions)
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from statements(getattr(node, field, None) or (), inside_functions=inside_functions)


def imports(name: str, path: Path, known: dict[str, Path], *, inside_functions: bool) -> set[str]:
    """The modules that `name` imports, with the packages they lie in, whose `__init__` runs too."""
    asked: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            asked |= {each if each in known else node.module for each in full}
    parents = {each.rsplit(".", level)[0] for each in asked for level in range(each.count(".") + 1)}
    return {each for each in asked | parents if each in known and each != name and not name.startswith(f"{each}.")}


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else "segc"
