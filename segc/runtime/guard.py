"""The guard around calls of runtimes, whose exceptions have no common base and are often private."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from segc.errors import CompileError, SegcError


@contextmanager
def runtime_errors(what: str, *, where: str = "", so: str | Sequence[str] = ()) -> Iterator[None]:
    """Raise CompileError, which says `what`, in place of a runtime's exception. segc's own and MemoryError pass."""
    try:
        yield
    except (SegcError, MemoryError):
        raise
    except Exception as error:
        raise CompileError(what, because=str(error), where=where, so=so) from error
