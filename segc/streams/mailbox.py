"""Frames handed from the thread that decodes to the one that segments; few are held, and live ones may be dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
_HELD = 2


class Mailbox(Generic[T]):
    """At most `held` items. Where `drops`, a new item takes the place of the oldest; else the giver waits."""

    def __init__(self, *, drops: bool, held: int = _HELD) -> None:
        self.dropped = 0
        self.most = 0  # that were held at a time
        self._drops, self._room = drops, held
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed, self._left = False, False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Hand over an item; False if nobody wants any more."""
        with self._changed:
            while len(self._items) >= self._room and not self._drops and not self._left:
                self._changed.wait()
            if self._left:
                return False
            if len(self._items) >= self._room:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self.most = max(self.most, len(self._items))
            self._changed.notify_all()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """Say that no more come, and the error that is raised after the last."""
        with self._changed:
            self._closed, self._error = True, error
            self._changed.notify_all()

    def leave(self) -> None:
        """Say that nobody takes any more."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items as they come. Raises the error that the giver ended with."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait()
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


@contextmanager
def read_ahead(items: Iterable[T], *, drops: bool) -> Iterator[Mailbox[T]]:
    """A mailbox that a thread fills from `items`; it ends with the block."""
    box: Mailbox[T] = Mailbox(drops=drops)

    def fill() -> None:
        try:
            for item in items:
                if not box.put(item):
                    break
        except BaseException as error:  # raised where the items are taken
            box.close(error)
        else:
            box.close()

    thread = threading.Thread(target=fill, name="segc-decode", daemon=True)
    thread.start()
    try:
        yield box
    finally:
        box.leave()
        thread.join(timeout=30)
