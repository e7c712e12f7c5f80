"""Frames between threads: none is lost unless dropping is asked for, and errors come through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from segc.streams.mailbox import Mailbox, read_ahead


def test_the_oldest_are_dropped_where_that_is_asked_for() -> None:
    box: Mailbox[int] = Mailbox(drops=True, held=2)
    for number in range(5):
        assert box.put(number)
    box.close()
    assert list(box) == [3, 4] and (box.dropped, box.most) == (3, 2)


def test_items_and_errors_come_in_order_and_few_are_held() -> None:
    def numbers() -> Iterator[int]:
        yield from range(100)
        raise ValueError("the end")

    seen = []
    with read_ahead(numbers(), drops=False) as box, pytest.raises(ValueError, match="the end"):
        for number in box:
            seen.append(number)
    assert seen == list(range(100)) and box.dropped == 0 and box.most <= 2


def test_who_gives_stops_when_nobody_takes() -> None:
    given = list[int]()

    def endless() -> Iterator[int]:
        while True:
            given.append(len(given))
            yield given[-1]

    with read_ahead(endless(), drops=False) as box:
        assert next(iter(box)) == 0
    count = len(given)
    assert count <= 5 and not box.put(1)
