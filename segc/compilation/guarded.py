"""Run native libraries on an untrusted ONNX file in a child process; see segc.isolation.native."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from segc import ranges
from segc.compilation.setup import Setup
from segc.errors import Code, SegcError, SourceError
from segc.frontend.source import is_onnx
from segc.isolation import native


@contextmanager
def guarded_libraries(path: str | Path, memory_limit: float | None, time_limit: float | None) -> Iterator[None]:
    """In the block, ONNX's C++ code and ONNX Runtime read the ONNX file in a child process.

    memory_limit: GiB; time_limit: seconds per call; None: the default. If an unexpected error occurs and ONNX's full
    check, types and shapes included, refuses the file, the file is blamed. Raises UsageError, SourceError.
    """
    for name, value, takes in (
        ("--memory-limit", memory_limit, ranges.GIBIBYTES), ("--time-limit", time_limit, ranges.SECONDS),
    ):  # fmt: skip
        if value is not None:
            takes.require(name, value)
    with native.guarded(native.Limits.of(memory_limit, time_limit), f"'{path}'", "segc.graph.libraries"):
        try:
            yield
        except (SegcError, MemoryError):
            raise
        except Exception as error:
            _require_valid(Path(path), error)
            raise


def guarded(setup: Setup) -> AbstractContextManager[None]:
    """The guard for compiling an ONNX file. PyTorch models run in this process anyway and need none."""
    request = setup.request
    if not is_onnx(request.source):
        return nullcontext()
    return guarded_libraries(request.source, request.memory_limit, request.time_limit)


def _require_valid(path: Path, error: Exception) -> None:
    """Raise SourceError instead of `error` if ONNX's full check refuses the file."""
    from segc.graph import libraries

    if not path.is_file():
        return
    try:
        libraries.check_file(path)
    except (*libraries.CHECK_ERRORS, ValueError) as refusal:
        raise SourceError(
            f"'{path}' is not a valid ONNX model", code=Code.NOT_ONNX, because=str(refusal).splitlines()[:1],
            so="export it again",
        ) from error  # fmt: skip
