"""Errors that mean that memory ran out: Python's own, and those of systems that cannot load a library any more."""

from __future__ import annotations

import contextlib
import errno
import traceback

from segc.errors import Code, CompileError

_SAID = (
    "failed to map segment", "cannot allocate memory", "can't start new thread", "std::bad_alloc", "bad allocation",
    "cannot create thread", "resource temporarily unavailable",
)  # fmt: skip


def refusal(error: BaseException) -> CompileError | None:
    """What to say when memory ran out; None for any other error. The causes of an error count."""
    found: BaseException | None = error
    while found is not None:
        if _is_exhaustion(found):
            return CompileError(
                "memory ran out", code=Code.OUT_OF_MEMORY, because=f"{type(found).__name__}: {found}".rstrip(": "),
                so="end other programs, raise the limit of this process (ulimit -v), or use a smaller model or image",
            )  # fmt: skip
        found = found.__cause__ or found.__context__
    return None


def _is_exhaustion(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, KeyboardInterrupt):
        return _limited() and _while_loading_a_library(error)
    return isinstance(error, (ImportError, RuntimeError, OSError)) and any(s in str(error).lower() for s in _SAID)


def _limited() -> bool:
    """Whether this process may have less memory than the machine."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in (resource.RLIMIT_AS,))
    return False


def _while_loading_a_library(error: BaseException) -> bool:
    """Whether an interrupt came while a library was loaded: OpenBLAS sends one to its own process."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].name in ("_call_with_frames_removed", "create_module", "exec_module")
