"""Work that is ended at a chosen point: around a rename, an exchange of names, an fsync, a deletion, a child's start.

`Worker` is a process that has everything imported and forks for each piece of work. A first run without a signal lists
the points of the work; then one run for each point sends a signal there, so that no test depends on time.

Any function does: `worker.run("segc.cli:main", ["opt", "a.onnx"])`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WATCHED = ("rename", "replace", "link", "unlink", "remove", "rmdir")  # of os, where they touch the folder
PATIENCE = 60.0  # seconds that processes may take to notice that the one they work for is gone


@dataclass(frozen=True)
class Ended:
    """How the work ended: exit status, negative for a signal; what it printed; the points that it came to."""

    code: int
    out: str
    err: str
    points: tuple[str, ...]


class Worker:
    """A process that forks for each piece of work. imports: modules that all of it needs."""

    def __init__(self, *imports: str) -> None:
        code = "from tests.helpers.kills import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *imports], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(
        self, function: str, *arguments: Any, folder: Path, at: int | None = None,
        number: signal.Signals = signal.SIGKILL, without: Sequence[str] = (),
    ) -> Ended:  # fmt: skip
        """Call "module:function" in a fork, in `folder`; send the signal `number` at point `at`.

        without: "exchange" plays a system that cannot exchange names, "points" watches nothing. Waits for all processes
        that the work started.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {
            "function": function, "arguments": arguments, "folder": str(folder), "at": at, "number": int(number),
            "without": list(without),
        }  # fmt: skip
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Ended(answer["code"], answer["out"], answer["err"], tuple(answer["points"]))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Points:
    """Counts the points that a process comes to, and sends it a signal at one of them."""

    def __init__(self, folder: str, at: int | None, number: int, log: Path) -> None:
        self._folder, self._at, self._number, self._log = folder, at, number, log
        self._process = os.getpid()
        self._count = 0

    def install(self) -> None:
        """Watch this process."""
        from segc.files import folders

        for name in WATCHED:
            setattr(os, name, self._watched(name, getattr(os, name), self._inside))
        os.fsync = self._watched("fsync", os.fsync, lambda *_: True)
        exchange = vars(folders)["exchange"]
        vars(folders)["exchange"] = self._watched("exchange", exchange, lambda *_: True)
        popen = subprocess.Popen.__init__
        subprocess.Popen.__init__ = self._watched("child", popen, lambda *_: True)  # type: ignore[method-assign]

    def _watched(self, name: str, real: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if os.getpid() != self._process or not counts(*arguments):
                return real(*arguments, **options)
            self._reach(f"before {name}")
            result = real(*arguments, **options)
            self._reach(f"after {name}")
            return result

        return watched

    def _inside(self, path: Any, *_: Any) -> bool:
        return not Path(path).is_absolute() or os.path.realpath(path).startswith(self._folder)

    def _reach(self, name: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        self._count += 1
        if self._count - 1 == self._at:
            if self._number == signal.SIGKILL:
                os.kill(self._process, signal.SIGKILL)
            signal.raise_signal(self._number)


def serve() -> None:
    """The loop of the worker's process."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            answer = json.dumps(_done(json.loads(line), Path(folder)))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _done(order: dict[str, Any], notes: Path) -> dict[str, Any]:
    out, err, points = (notes / name for name in ("out", "err", "points"))
    for file in (out, err, points):
        file.touch()
    process = os.fork()
    if process == 0:
        _work(order, out, err, points)
    _, status = os.waitpid(process, 0)
    _wait_for_group(process)
    return {
        "code": os.waitstatus_to_exitcode(status), "out": out.read_text(), "err": err.read_text(),
        "points": points.read_text().splitlines(),
    }  # fmt: skip


def _work(order: dict[str, Any], out: Path, err: Path, points: Path) -> None:
    code = 1
    try:
        os.setsid()
        for stream, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(order["folder"])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        if "exchange" in order["without"]:
            vars(importlib.import_module("segc.files.folders"))["exchange"] = lambda *_: False
        module, _, name = order["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        if "points" not in order["without"]:
            Points(os.path.realpath(order["folder"]), order["at"], order["number"], points).install()
        code = int(function(*order["arguments"]) or 0)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait_for_group(leader: int) -> None:
    """Until all that the work started has ended, which it must do by itself."""
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    os.killpg(leader, signal.SIGKILL)
    raise TimeoutError("what the work started runs on after it was killed")


def each_point(points: Sequence[str], *names: str) -> Iterator[int]:
    """Numbers of the points whose names begin so; all of them without names."""
    return (at for at, point in enumerate(points) if not names or point.startswith(names))
