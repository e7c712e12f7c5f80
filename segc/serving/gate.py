"""How many requests are worked on and may wait; the others are told to come later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

R = TypeVar("R")


class BusyError(Exception):
    """As many requests as may are waiting already."""


class LateError(Exception):
    """A request waited as long as it may."""


class Gate:
    """Works on `at_once` requests in threads while up to `queue` wait, each for at most `seconds`."""

    def __init__(self, at_once: int, queue: int, seconds: float) -> None:
        self.at_once, self.queue, self.seconds = at_once, queue, seconds
        self.inside = 0  # worked on or waiting; requests count from before their body is read
        self.admissions = 0  # ever
        self._threads = anyio.CapacityLimiter(at_once)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count the request for the block. Raises BusyError."""
        if self.inside >= self.at_once + self.queue:
            raise BusyError
        self.inside += 1
        self.admissions += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, work: Callable[[], R]) -> R:
        """What `work` returns, called in a thread when it is the request's turn. Raises LateError."""
        turn = object()
        try:
            with anyio.fail_after(self.seconds):
                await self._threads.acquire_on_behalf_of(turn)
        except TimeoutError:
            raise LateError from None
        try:
            return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))
        finally:
            self._threads.release_on_behalf_of(turn)
