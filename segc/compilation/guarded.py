"""The guard around libraries that look at an ONNX file from elsewhere, see segc.isolation.native."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from segc import ranges
from segc.compilation.setup import Setup
from segc.frontend.source import is_onnx
from segc.isolation import native


def guarded_libraries(what: str, memory_limit: float | None, time_limit: float | None) -> AbstractContextManager[None]:
    """In the block ONNX's C++ and ONNX Runtime look at graphs in a child process. what: the file, for messages.

    memory_limit: GiB; time_limit: seconds of one call; None: the usual. Raises UsageError.
    """
    for name, value, takes in (
        ("--memory-limit", memory_limit, ranges.GIBIBYTES), ("--time-limit", time_limit, ranges.SECONDS),
    ):  # fmt: skip
        if value is not None:
            takes.require(name, value)
    return native.guarded(native.Limits.of(memory_limit, time_limit), what, "segc.graph.libraries")


def guarded(setup: Setup) -> AbstractContextManager[None]:
    """The guard for the steps of a compile: of an ONNX file; PyTorch models run in this process anyway."""
    request = setup.request
    if not is_onnx(request.source):
        return nullcontext()
    return guarded_libraries(f"'{request.source}'", request.memory_limit, request.time_limit)
