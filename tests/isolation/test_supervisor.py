"""Child processes: limited in time and memory, ended with all they started, and their ends said in words."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from segc.errors import ShapeError
from segc.isolation import client
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised, call, describe_exit, run_command
from tests.helpers import child_work as work

linux = pytest.mark.skipif(not client.CAN_FORK, reason="forks are for Linux")


@pytest.fixture(params=[pytest.param(False, marks=linux, id="fork"), pytest.param(True, id="fresh")])
def fresh(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def gone(process: int) -> bool:
    """Whether it ended, within a second. A zombie has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


class TestEitherWay:
    def test_a_function_runs_in_another_process(self, fresh: bool) -> None:
        total, process = call(work.add, 2, 3, seconds=60, fresh=fresh)
        assert total == 5
        assert process != os.getpid()

    def test_paths_are_relative_to_the_folder_of_the_caller(
        self, fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call(os.getcwd, seconds=60, fresh=fresh)  # from here on a server runs, in another folder
        monkeypatch.chdir(tmp_path)
        assert call(os.getcwd, seconds=60, fresh=fresh) == str(tmp_path)

    def test_its_refusal_is_raised_here(self, fresh: bool) -> None:
        with pytest.raises(ShapeError, match="not today"):
            call(work.refuse, seconds=60, fresh=fresh)

    def test_any_other_exception_comes_as_text(self, fresh: bool) -> None:
        with pytest.raises(ChildRaised, match="KeyError: 'who'"):
            call(work.fail, seconds=60, fresh=fresh)

    def test_a_crash_is_said_in_words(self, fresh: bool) -> None:
        with pytest.raises(ChildEnded, match="its process ended with SIGSEGV") as ended:
            call(work.crash, seconds=60, fresh=fresh)
        assert (ended.value.timed_out, ended.value.code) == (False, -signal.SIGSEGV)
        assert ended.value.lines[-1] == "about to crash"

    def test_what_takes_too_long_is_ended_with_what_it_started(self, fresh: bool, tmp_path: Path) -> None:
        note = tmp_path / "number"
        child = Child("segc.isolation.calls", work.__name__, fresh=fresh)
        with pytest.raises(ChildEnded, match="did not answer within 3 s") as ended:
            child.ask((work.start_and_wait, (str(note),)), 3)
        assert ended.value.timed_out
        child.close()
        assert gone(int(note.read_text()))

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit counts other memory, or there is none")
    def test_it_may_allocate_so_much_and_no_more(self, fresh: bool) -> None:
        assert call(work.allocate, 1 << 20, seconds=60, memory=1 << 30, fresh=fresh) == 1 << 20
        with pytest.raises(ChildRaised, match="MemoryError"):
            call(work.allocate, 2 << 30, seconds=60, memory=1 << 30, fresh=fresh)


@linux
def test_what_a_fork_started_ends_when_it_ends_by_itself(tmp_path: Path) -> None:
    note = tmp_path / "number"
    with pytest.raises(ChildEnded, match="exit code 3"):
        call(work.start_and_exit, str(note), seconds=60)
    assert gone(int(note.read_text()))


def test_commands_are_limited_and_say_how_they_ended() -> None:
    done = run_command([sys.executable, "-c", "print('well'); raise SystemExit(4)"], 60)
    assert (done.code, done.last_lines, done.reason) == (4, ["well"], "exit code 4")
    timed_out = run_command([sys.executable, "-c", "import time; print('x', flush=True); time.sleep(60)"], 2)
    assert timed_out.code is None
    assert timed_out.output == "x\n"


def test_ends_in_words() -> None:
    assert describe_exit(7) == "exit code 7"
    assert describe_exit(-signal.SIGABRT) == "SIGABRT"
    assert describe_exit(-signal.SIGKILL) == "SIGKILL, possibly because the system ran out of memory"
    assert describe_exit(-200) == "signal 200"
