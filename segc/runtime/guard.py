"""The guard around calls of runtimes, whose exceptions have no common base and are often private."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from segc.errors import Code, CompileError, SegcError


@contextmanager
def runtime_errors(what: str, code: Code, *, where: str = "", so: str | Sequence[str] = ()) -> Iterator[None]:
    """Raise CompileError, which says `what`, in place of a runtime's exception. segc's own and MemoryError pass."""
    try:
        yield
    except (SegcError, MemoryError):
        raise
    except Exception as error:
        if _interrupted(error):
            raise KeyboardInterrupt from error
        raise CompileError(what, code=code, because=str(error), where=where, so=so) from error


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: an extension module that it reaches while it is imported says ImportError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
