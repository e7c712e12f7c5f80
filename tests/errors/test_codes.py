"""Every raise names a code that fits its class, and every code is raised."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import segc.errors
from segc.errors import Code, CompileError, MissingPackageError, SegcError, ShapeError
from segc.errors.reference import GROUPS

ROOT = Path(__file__).parents[2]
CLASSES = {name: cls for name, cls in vars(segc.errors).items() if isinstance(cls, type) and issubclass(cls, SegcError)}
GENERAL = {cls.general for cls in CLASSES.values()}


def raised(text: str, where: str) -> Iterator[tuple[str, type[SegcError], str | None]]:
    """Place, class and name of the code of every error that `text` makes; `runtime_errors` makes CompileErrors."""
    makers = {**CLASSES, "runtime_errors": CompileError}
    for node in ast.walk(ast.parse(text)):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call) or name not in makers:
            continue
        given = [k.value for k in node.keywords if k.arg == "code"] or node.args[1:2]
        if given and isinstance(given[0], ast.Name):
            continue  # passed on from the caller, which is looked at itself
        yield (
            f"{where}:{node.lineno}",
            makers[name],
            given[0].attr if given and isinstance(given[0], ast.Attribute) else None,
        )


def all_raised() -> list[tuple[str, type[SegcError], str | None]]:
    files = [p for folder in ("segc", "passes", "targets") for p in sorted((ROOT / folder).rglob("*.py"))]
    linked = (ROOT / "segc" / "passes", ROOT / "segc" / "targets", ROOT / "segc" / "errors")
    own = [p for p in files if not any(p.is_relative_to(folder) for folder in linked)]
    return [site for p in own for site in raised(p.read_text(encoding="utf-8"), str(p.relative_to(ROOT)))]


def test_every_error_names_its_code() -> None:
    sites = all_raised()
    assert len(sites) > 200
    assert [where for where, _, code in sites if code is None] == []
    assert [code for _, _, code in sites if code not in Code.__members__] == []


def test_an_error_without_a_code_would_be_seen() -> None:
    assert [code for *_, code in raised("raise ShapeError('a', code=Code.SHAPE)\nraise ShapeError('b')", "")] == [
        "SHAPE",
        None,
    ]


def test_the_letter_of_a_code_says_the_exit_code_of_its_class() -> None:
    wrong = [where for where, cls, code in all_raised() if GROUPS[Code[str(code)][5]][0] != cls.exit_code]
    assert wrong == []
    assert all(GROUPS[cls.general[5]][0] == cls.exit_code for cls in CLASSES.values())


def test_every_code_is_raised_or_the_general_one_of_a_class() -> None:
    assert {Code[str(code)] for _, _, code in all_raised()} | GENERAL == set(Code)


def test_codes_differ_and_exit_codes_are_those_of_the_page() -> None:
    assert len(Code.__members__) == len(list(Code))  # two names of one code would be aliases
    exit_codes = {name: cls.exit_code for name, cls in CLASSES.items()}
    assert exit_codes == {
        "SegcError": 9, "UsageError": 2, "SourceError": 3, "CheckpointError": 3, "ShapeError": 3, "LegalityError": 4,
        "ParityError": 5, "BundleError": 6, "MissingPackageError": 7, "FileError": 8, "CompileError": 9,
    }  # fmt: skip


def test_an_error_without_a_way_out_refers_to_its_explanation() -> None:
    assert "segc explain SEGC-C302" in str(CompileError("the engine failed", code=Code.ENGINE_RUN))
    assert "segc explain" not in str(CompileError("the engine failed", code=Code.ENGINE_RUN, so="wait"))


def test_a_code_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(ShapeError("no", code=Code.ENGINE_SHAPE, so="resize")))
    assert (type(error), error.code, str(error)) == (
        ShapeError,
        Code.ENGINE_SHAPE,
        "no   [SEGC-S303]\n  so       resize",
    )
    assert MissingPackageError("no").code is Code.MISSING_PACKAGE  # of a package that names none
