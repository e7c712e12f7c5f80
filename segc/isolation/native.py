"""Native libraries on graphs that somebody else wrote: in one child process, with limits of memory and time.

A library may divide by zero, recurse without end or ask for terabytes on a graph that its authors did not think of.
While `guarded` is in force, `call` asks a child, so that all this ends the child and not the caller; otherwise `call`
calls. The child is made when the guard goes up, beside what the caller does meanwhile, and answers all questions.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from segc.errors import Code, CompileError, SourceError
from segc.isolation.client import CAN_FORK
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised

GIB = 1 << 30
SECONDS = 600.0
_TASK = "segc.isolation.calls"
_LEAST_MEMORY = 1 << 28  # bytes: the libraries themselves


def usual_memory() -> int:
    """Three quarters of the machine's memory, 8 GiB where the system does not say how much there is. In bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3
    except (AttributeError, ValueError, OSError):
        return 8 * GIB


@dataclass(frozen=True)
class Limits:
    """memory: bytes that the child may allocate, and that one tensor may need. seconds: of one call."""

    memory: int = field(default_factory=usual_memory)
    seconds: float = SECONDS

    @staticmethod
    def of(gib: float | None, seconds: float | None) -> Limits:
        """From options; None: the usual."""
        memory = usual_memory() if gib is None else max(int(gib * GIB), _LEAST_MEMORY)
        return Limits(memory, SECONDS if seconds is None else seconds)


class NativeError(ValueError):
    """What a library raised in the child; the message is the library's."""


class _Guard:
    """A child that is started at once, and again after it ended."""

    def __init__(self, limits: Limits, what: str, imports: str) -> None:
        self.limits, self._what, self._imports = limits, what, imports
        self._child: Child | None = None
        self._failed: BaseException | None = None
        self._starter = threading.Thread(target=self._start, daemon=True)
        self._starter.start()

    def ask(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        """Its answer. Raises SourceError when the child ends, NativeError for what it raises, SegcError as it is."""
        child = self._ready()
        try:
            return child.ask((function, arguments), self.limits.seconds)
        except ChildRaised as raised:
            kind, _, text = str(raised).partition(": ")
            raise NativeError(text or kind) from raised
        except ChildEnded as ended:
            self.close()
            raise self._refusal(ended) from ended

    def close(self) -> None:
        """End the child."""
        self._starter.join()
        if self._child is not None:
            self._child.close()
            self._child = None

    def _start(self) -> None:
        try:
            self._child = Child(_TASK, self._imports, memory=self.limits.memory)
        except BaseException as error:  # raised where the child is asked
            self._failed = error

    def _ready(self) -> Child:
        self._starter.join()
        if self._failed is not None:
            raise self._failed
        if self._child is None:
            self._start()
            return self._ready()
        return self._child

    def _refusal(self, ended: ChildEnded) -> SourceError:
        limits = f"it may take {self.limits.memory / GIB:.1f} GiB of memory and {self.limits.seconds:.0f} s"
        return SourceError(
            f"{self._what} cannot be used: a library that looks at it fails",
            code=Code.NATIVE_FAILURE,
            because=[ended.reason, limits],
            so="if the file is one you trust and it needs more, raise --memory-limit or --time-limit",
        )


_active: ContextVar[_Guard | None] = ContextVar("segc_native_guard", default=None)


@contextmanager
def guarded(limits: Limits, what: str, imports: str) -> Iterator[None]:
    """Let `call` ask a child in the block. what: the file, for messages. imports: a module that the child imports.

    Inside another guard nothing changes.
    """
    if _active.get() is not None:
        yield
        return
    guard = _Guard(limits, what, imports)
    token = _active.set(guard)
    try:
        yield
    finally:
        _active.reset(token)
        guard.close()


def prepare(imports: str) -> None:
    """Start what guards fork from, if there are forks here, while the caller still imports what it needs itself."""
    if CAN_FORK:
        threading.Thread(target=_fork_once, args=(imports,), daemon=True).start()


def _fork_once(imports: str) -> None:
    with contextlib.suppress(CompileError):  # said where a guard needs a child
        Child(_TASK, imports).close()


def is_guarded() -> bool:
    """Whether `call` asks a child."""
    return _active.get() is not None


def limits() -> Limits:
    """The limits of the guard in force, or the usual ones."""
    guard = _active.get()
    return Limits() if guard is None else guard.limits


def call(function: Callable[..., Any], *arguments: object) -> Any:
    """function(*arguments), in the child where a guard is up: function and values are pickled then."""
    guard = _active.get()
    return function(*arguments) if guard is None else guard.ask(function, arguments)
