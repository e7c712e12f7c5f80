"""Threads that take a share of a kernel's work."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from segc.runtime.masks import worker_threads
from segc.runtime.masks.worker_threads import run_in_threads

on_linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinities")


def threads_of(count: int) -> set[int]:
    """The threads that took part; all at once, or the barrier breaks."""
    meeting, seen = threading.Barrier(count + 1), set()

    def job() -> None:
        meeting.wait(20)
        seen.add(threading.get_ident())

    run_in_threads(count, job)
    return seen


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_job_runs_in_all_threads_at_once(count: int) -> None:
    seen = threads_of(count)
    assert len(seen) == count + 1 and threading.get_ident() in seen


def test_helpers_are_used_again() -> None:
    assert threads_of(2) == threads_of(2)


@on_linux
def test_helpers_leave_the_callers_core_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    here = max(allowed)
    monkeypatch.setattr(worker_threads, "_core_of_caller", lambda: lambda: here)
    meeting, cores = threading.Barrier(2), {}

    def job() -> None:
        meeting.wait(20)
        cores[threading.get_ident()] = os.sched_getaffinity(0)

    run_in_threads(1, job)
    assert cores.pop(threading.get_ident()) == allowed
    assert [*cores.values()] == [allowed - {here}]


def test_where_cores_are_not_known_they_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "_core_of_caller", lambda: None)
    assert worker_threads.other_cores() == [] and len(threads_of(2)) == 3


@on_linux
def test_a_core_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "other_cores", lambda: [4095])
    assert len(threads_of(1)) == 2


def test_callers_do_not_share_helpers_at_the_same_time() -> None:
    found: list[set[int]] = []
    callers = [threading.Thread(target=lambda: found.append(threads_of(1))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(len(seen) == 2 for seen in found) and len(found) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own() -> None:
    threads_of(1)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(len, (threads_of(1),)).get(20) == 2
        assert len(pool.apply_async(threads_of, (1,)).get(20)) == 2
