"""Ctrl-C and SIGTERM: none is lost on the way, and none comes between publishing and saying so."""

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
    """Raise KeyboardInterrupt at the end of the block when a signal arrived in it, whatever became of its exception.

    Python raises KeyboardInterrupt wherever the program happens to be. In a finalizer, or in native code that calls
    back, it is lost or becomes another error; so it can in libraries that catch everything.
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
    """Raise KeyboardInterrupt now when a signal was noted: between the steps of long work."""
    if any(_blocks):
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let interrupts that arrive in the block take effect at its end.

    A signal that no Python code handles (one that is ignored, or that ends the process) stays as it is.
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
    """Those of this process that are Python code; none in other threads than the main one, where none ever runs."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if callable(handler)}
