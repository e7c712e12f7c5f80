"""Every error segc raises on purpose: what, why, where from, what was tried, what to do.

A class for each exit code, and a `Code` for each kind of failure: `raise ShapeError("...", code=Code.FIXED_SHAPE)`.
docs/errors.md and `segc explain CODE` say what a code means. Exit codes of the command line:

    0  done                               5  parity gate failed, bundle not published
    1  a bug in segc                      6  bundle damaged, incomplete or of a newer format
    2  wrong command line                 7  a runtime or package is not installed
    3  source, checkpoint or shape bad    8  a file or folder cannot be read or written
    4  target refuses part of the graph   9  export, a pass, emission or a runtime failed
    130  interrupted
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from segc.errors.codes import Code as Code


class SegcError(Exception):
    """Base of all errors users see; `str()` is the whole message.

    what: one sentence. because, where, tried, so: further lines, each may be empty. `so` says what to do; without it
    the message refers to the explanation of its code. code: the kind of failure, by default the general one of the
    class.
    """

    exit_code: ClassVar[int] = 9
    general: ClassVar[Code] = Code.COMPILE
    code: Code

    def __init__(
        self,
        what: str,
        *,
        because: str | Iterable[str] = (),
        where: str | Iterable[str] = (),
        tried: str | Iterable[str] = (),
        so: str | Iterable[str] = (),
        code: Code | None = None,
    ) -> None:
        self.what = what
        self.code = code or self.general
        remedies = _lines(so) or [f"segc explain {self.code} tells typical causes and remedies"]
        self.details = {"because": _lines(because), "from": _lines(where), "tried": _lines(tried), "so": remedies}
        super().__init__(what)

    def __reduce__(self) -> tuple[Callable[..., SegcError], tuple[object, ...]]:
        return _restored, (type(self), self.what, self.details, self.code)

    def __str__(self) -> str:
        lines = [f"{self.what}   [{self.code}]"]
        for label, texts in self.details.items():
            for i, text in enumerate(texts):
                lines.append(f"  {label if i == 0 else '':<9}{text}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same content for scripts."""
        return {"error": self.what, "code": str(self.code), "exit_code": self.exit_code, **self.details}


def _restored(cls: type[SegcError], what: str, details: dict[str, list[str]], code: Code) -> SegcError:
    """Unpickle an error that crosses from a child process."""
    error = cls(what, code=code)
    error.details = details
    return error


def _lines(text: str | Iterable[str]) -> list[str]:
    return [line for part in ([text] if isinstance(text, str) else text) for line in part.splitlines() if line.strip()]


class UsageError(SegcError):
    """The request itself is wrong: an unknown target, a malformed shape, options that exclude each other."""

    exit_code, general = 2, Code.USAGE


class SourceError(SegcError):
    """The model source cannot be used: config, Python file or ONNX file."""

    exit_code, general = 3, Code.SOURCE


class CheckpointError(SegcError):
    """The checkpoint cannot be loaded into the model."""

    exit_code, general = 3, Code.CHECKPOINT


class ShapeError(SegcError):
    """The model does not run at this shape, or the bundle was not compiled for it."""

    exit_code, general = 3, Code.SHAPE


class LegalityError(SegcError):
    """The target refuses nodes, after its legalizations."""

    exit_code, general = 4, Code.LEGALITY


class ParityError(SegcError):
    """What the engine computes differs from PyTorch by more than the limits."""

    exit_code, general = 5, Code.PARITY


class BundleError(SegcError):
    """The bundle is damaged, incomplete or of another format version."""

    exit_code, general = 6, Code.BUNDLE


class MissingPackageError(SegcError):
    """A package this step needs is not installed."""

    exit_code, general = 7, Code.MISSING_PACKAGE


class FileError(SegcError):
    """A file or folder cannot be read or written."""

    exit_code, general = 8, Code.FILE


class CompileError(SegcError):
    """Export, a pass, emission or a runtime failed."""

    exit_code, general = 9, Code.COMPILE
