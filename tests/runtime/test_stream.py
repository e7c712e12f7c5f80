"""Work on many items at once: order, bounds, errors, and an early end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from segc.runtime.stream import in_order


def test_results_come_in_order_whatever_finishes_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(60)  # the first ends after the second
        if item == 1:
            second.set()
        return item * item

    assert list(in_order(work, range(20), at_once=2)) == [item * item for item in range(20)]


def test_so_many_are_worked_on_at_once_and_no_more() -> None:
    together = threading.Barrier(3)
    running, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)
        with lock:
            running -= 1

    assert len(list(in_order(work, range(9), at_once=3))) == 9
    assert most == 3


def test_items_are_taken_when_they_are_needed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    results = in_order(lambda item: item, items(), at_once=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert taken <= 5 + 2 * 2
    results.close()  # type: ignore[attr-defined]


def test_an_exception_is_raised_in_its_turn_and_work_that_began_is_finished() -> None:
    finished: list[int] = []

    def work(item: int) -> int:
        if item == 3:
            raise KeyError(item)
        finished.append(item)
        return item

    results = in_order(work, range(100), at_once=2)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert len(finished) < 10
