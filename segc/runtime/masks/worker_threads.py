"""Waiting threads that share a caller's work, each on another core than the caller's.

A kernel of two milliseconds is too short for Linux to balance its load: a thread that is started or woken usually
begins on the core of the thread that woke it, and both take turns there until the next scheduler tick. So the threads
stay alive, and before the caller wakes one it restricts that thread to the other cores. Where that is impossible (other
systems, sandboxes that forbid it) they are woken without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
from collections.abc import Callable, Sequence
from functools import cache

Job = Callable[[], None]


class Helper:
    """A daemon thread that runs one job after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Lock]] = queue.SimpleQueue()
        self._known = threading.Event()
        self._thread = 0
        threading.Thread(target=self._serve, daemon=True, name="segc-helper").start()
        self._known.wait()

    def _serve(self) -> None:
        self._thread = threading.get_native_id()
        self._known.set()
        while True:
            job, done = self._jobs.get()
            try:
                job()
            finally:
                done.release()
            del job  # or what it refers to, such as logits, stays in memory until the next job

    def start(self, job: Job, cores: Sequence[int]) -> threading.Lock:
        """Start `job`, which raises nothing, on one of `cores` (empty: any); the lock is released when it is done."""
        if cores:
            with contextlib.suppress(OSError):  # forbidden, or a core went offline
                os.sched_setaffinity(self._thread, cores)
        done = threading.Lock()
        done.acquire()
        self._jobs.put((job, done))
        return done


_idle: list[Helper] = []  # append and pop are atomic


def run_in_threads(count: int, job: Job) -> None:
    """Run `job`, which raises nothing, in the caller's thread and `count` others at once; returns when all are done."""
    helpers = [_idle_or_new_helper() for _ in range(count)]
    others = other_cores() if helpers else []
    # one group of cores per thread, or two might be woken on the same core
    parts = [others[at::count] for at in range(count)] if len(others) >= count else [others] * count
    waits = [helper.start(job, cores) for helper, cores in zip(helpers, parts, strict=True)]
    try:
        job()
    finally:
        for helper, wait in zip(helpers, waits, strict=True):
            wait.acquire()
            _idle.append(helper)


def other_cores() -> list[int]:
    """The cores this thread may use except its current one, unless it is the only one; empty where unknown."""
    here = _core_of_caller()
    if here is None:
        return []
    allowed = os.sched_getaffinity(0)
    return sorted(allowed - {here()} or allowed)


def _idle_or_new_helper() -> Helper:
    try:
        return _idle.pop()
    except IndexError:
        return Helper()


@cache
def _core_of_caller() -> Callable[[], int] | None:
    """The C library's sched_getcpu; None where there is none."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        found = ctypes.CDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return None
    return found


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork
