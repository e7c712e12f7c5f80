"""Work on many files at once: reading, preparing, inference and writing of different images overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 3  # images: one in the runtime, which uses all cores, one being read, one being written


def in_order(work: Callable[[T], R], items: Iterable[T], *, at_once: int = AT_ONCE) -> Iterator[R]:
    """The results of `work`, in the order of the items, `at_once` of them at a time in threads.

    Items are taken when a thread is free for them or at most one more round is waiting, so that memory does not grow
    with their number. An exception of `work` is raised in its turn. When the caller stops, work that began is finished
    first: files are whole.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="segc-stream")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            while len(waiting) >= 2 * at_once or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
