"""Ctrl-C and SIGTERM: no signal is lost, and none separates publishing a file from reporting it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object]


_blocks: list[list[int]] = []  # signals that arrived in each block of `noted` that is open


@contextmanager
def noted() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block if a signal arrived in it, even if its exception was swallowed.

    Python raises KeyboardInterrupt wherever the program happens to be. The exception is lost or replaced in finalizers,
    in callbacks from native code, and in libraries that catch everything.
    """
    arrived: list[int] = []
    before = _handlers()

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        before[signal.Signals(number)](number, frame)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, note)
    _blocks.append(arrived)
    try:
        yield
    except Exception as error:
        if arrived:
            raise KeyboardInterrupt from error
        raise
    finally:
        _blocks.pop()
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt now if a signal was noted. Call it between the steps of long work."""
    if any(_blocks):
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Delay interrupts that arrive in the block until its end.

    A signal without a Python handler (ignored, or fatal by default) keeps its effect.
    """
    arrived: list[int] = []
    before = _handlers()
    for number in before:
        signal.signal(number, lambda n, _: arrived.append(n))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(arrived):
            signal.raise_signal(late)


def _handlers() -> dict[signal.Signals, _Handler]:
    """This process's Python signal handlers. Empty outside the main thread, the only one where they run."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if callable(handler)}
