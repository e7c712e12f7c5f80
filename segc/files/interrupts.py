"""Ctrl-C and SIGTERM wait while what is published and what is said about it would differ."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held() -> Iterator[None]:
    """Let interrupts that arrive in the block take effect at its end.

    Handlers run in the main thread alone, so that other threads need nothing. A signal that no Python code handles (one
    that is ignored, or that ends the process) stays as it is.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda n, _: arrived.append(n))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(arrived):
            signal.raise_signal(late)
