"""Calls under a guard: answers come from the child, and what ends the child is a message here."""

from __future__ import annotations

import os
import signal
import time

import pytest

from segc.errors import SourceError, UsageError
from segc.isolation import native
from segc.isolation.native import Limits, NativeError, call, guarded, is_guarded

IMPORTS = "segc.isolation.calls"
LIMITS = Limits(memory=1 << 30, seconds=60.0)


def crash(number: int) -> None:
    os.kill(os.getpid(), number)


def raise_value(text: str) -> None:
    raise KeyError(text)


def raise_usage() -> None:
    raise UsageError("no")


def take(size: int) -> int:
    return len(bytearray(size))


def test_without_a_guard_functions_are_called() -> None:
    assert not is_guarded()
    assert call(os.getpid) == os.getpid()
    with pytest.raises(KeyError):
        call(raise_value, "x")


def test_with_a_guard_one_child_answers() -> None:
    with guarded(LIMITS, "the file", IMPORTS):
        first = call(os.getpid)
        assert first != os.getpid() and call(os.getpid) == first and is_guarded()
        with guarded(Limits(), "another", IMPORTS):  # nothing changes inside
            assert call(os.getpid) == first
        assert call(os.getpid) == first
    assert not is_guarded()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGKILL])
def test_a_crash_is_a_message_and_the_next_call_works(number: signal.Signals) -> None:
    with guarded(LIMITS, "the file", IMPORTS):
        with pytest.raises(SourceError, match="the file cannot be used") as caught:
            call(crash, int(number))
        assert number.name in str(caught.value) and "1.0 GiB" in str(caught.value)
        assert call(len, "four") == 4


def test_a_hang_ends_after_its_time() -> None:
    with guarded(Limits(1 << 30, 0.5), "the file", IMPORTS), pytest.raises(SourceError, match="within"):
        call(time.sleep, 600)


def test_memory_has_a_limit() -> None:
    with guarded(Limits(1 << 28, 60.0), "the file", IMPORTS):
        with pytest.raises(NativeError):
            call(take, 1 << 33)
        assert call(take, 1 << 20) == 1 << 20


def test_what_functions_raise_arrives() -> None:
    with guarded(LIMITS, "the file", IMPORTS):
        with pytest.raises(NativeError, match="x"):
            call(raise_value, "x")
        with pytest.raises(UsageError, match="no"):
            call(raise_usage)


def test_limits_come_from_options() -> None:
    assert Limits.of(2.0, 5.0) == Limits(2 << 30, 5.0)
    assert Limits.of(None, None) == Limits(native.usual_memory(), native.SECONDS)
    assert native.usual_memory() > 1 << 28
