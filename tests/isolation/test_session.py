"""Engines in processes of their own: forks of the server on Linux, fresh interpreters elsewhere."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc import targets
from segc.errors import CompileError
from segc.isolation import client
from segc.isolation.session import IsolatedSession
from segc.targets.protocol import Settings

ENGINES = "segc.isolation.engines"
X = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
# without a Split the second reader of `p` finds nothing there
CRASH = """7767517
4 4
Input x 0 1 x
Pooling p 1 1 x p 0=0 1=2 2=2
ReLU r 1 1 p r
Concat y 2 1 p r y 0=0
"""
linux = pytest.mark.skipif(not client.CAN_FORK, reason="forks are for Linux")


@pytest.fixture(params=[pytest.param(True, marks=linux, id="fork"), pytest.param(False, id="fresh")])
def _process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CAN_FORK", request.param)


@pytest.fixture
def engine(tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A folder with an engine of ncnn, and its options."""
    text = """<ir_version: 9, opset_import: ["" : 20]>
        g (float[1,2,4,4] x) => (float[1,2,2,2] y) { p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = Relu(p) }"""
    emitted = targets.get("ncnn").emit(onnx.parser.parse_model(text), tmp_path, Settings())
    return tmp_path, dict(emitted.options)


Engine = tuple[Path, dict[str, object]]


@pytest.mark.usefixtures("_process")
class TestEitherWay:
    def test_it_computes_what_the_engine_computes(self, engine: Engine) -> None:
        session = IsolatedSession("ncnn", *engine, 1)
        two = np.concatenate([X, -X])
        np.testing.assert_array_equal(session.run(two), targets.get("ncnn").load(*engine, 1).run(two))
        session.close()

    def test_a_crash_of_the_runtime_is_an_error_here(self, engine: Engine) -> None:
        (engine[0] / "model.param").write_text(CRASH)
        with pytest.raises(CompileError) as crash:
            IsolatedSession("ncnn", *engine, 1).run(X)
        assert "the ncnn runtime fails while running it on 1x2x4x4" in str(crash.value)
        assert "its process ended with SIG" in str(crash.value)

    def test_an_engine_that_is_not_there_is_an_error_of_the_child(self, engine: Engine) -> None:
        (engine[0] / "model.param").write_text("7767517\n1 1\nNope a 0 1 a\n")
        with pytest.raises(CompileError, match="ncnn cannot load the engine") as error:
            IsolatedSession("ncnn", *engine, 1)
        assert "layer Nope not exists or registered" in str(error.value)  # ncnn's own log

    def test_a_child_that_does_not_answer_is_ended(self, engine: Engine) -> None:
        with pytest.raises(CompileError, match="did not answer within 0 s") as error:
            IsolatedSession("ncnn", *engine, 1, limit=0.0)
        assert "loading the engine" in str(error.value)

    def test_what_a_child_prints_is_told_when_it_dies(self, engine: Engine) -> None:
        session = IsolatedSession("ncnn", *engine, 1)
        os.write(
            session._child.output.fileno(), b"\x1b[0;31m[ERROR]\x1b[0m free(): invalid pointer\n"
        )  # as the runtime would, there
        session._child.process.kill()
        with pytest.raises(CompileError, match="SIGKILL") as error:
            session.run(X)
        assert "[ERROR] free(): invalid pointer" in str(error.value) and "\x1b" not in str(error.value)


def test_a_child_takes_over_the_environment_of_whoever_asks() -> None:
    """A server keeps the environment that it was started in; its forks do not."""
    script = """if True:
        import os, sys
        from segc.isolation.child import Setup
        path = (*sys.path, "/only/here")
        Setup({"ONLY": "this"}, path).apply()
        print(dict(os.environ) == {"ONLY": "this"}, tuple(sys.path) == path)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "True"]


@linux
class TestForks:
    def test_one_server_forks_for_all(self, engine: Engine) -> None:
        IsolatedSession("ncnn", *engine, 1).close()
        server = client._server(ENGINES)
        sessions = [IsolatedSession("ncnn", *engine, 1) for _ in range(3)]
        assert client._server(ENGINES) is server
        parents = {_parent(session) for session in sessions}
        assert parents == {server._process.pid}
        for session in sessions:
            session.close()

    def test_sessions_that_ended_leave_no_process_and_no_file(self, engine: Engine) -> None:
        gc.collect()  # sessions that earlier tests left
        IsolatedSession("ncnn", *engine, 1).close()
        server = client._server(ENGINES)._process.pid
        before = _files("self"), _files(server)
        for _ in range(5):
            IsolatedSession("ncnn", *engine, 1).close()
        assert _files("self") == before[0]
        assert _files(server) <= before[1] + 1  # the last one's may be about to be closed
        assert not Path(f"/proc/{server}/task/{server}/children").read_text()

    def test_an_ended_server_is_replaced_and_its_forks_go_on(self, engine: Engine) -> None:
        session = IsolatedSession("ncnn", *engine, 1)
        server = client._server(ENGINES)
        os.kill(server._process.pid, signal.SIGKILL)
        np.testing.assert_array_equal(session.run(X), IsolatedSession("ncnn", *engine, 1).run(X))
        session.close()
        assert client._server(ENGINES) is not server

    def test_a_fork_whose_server_is_gone_can_still_be_ended(self, engine: Engine) -> None:
        session = IsolatedSession("ncnn", *engine, 1, limit=2.0)
        fork, server = session._child.process, client._server(ENGINES)
        assert isinstance(fork, client.ForkedProcess)
        os.kill(fork.number, signal.SIGSTOP)  # it will not answer, nor see that its questions ended
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        with pytest.raises(CompileError, match="did not answer within 2 s"):
            session.run(X)
        session.close()
        assert not Path(f"/proc/{fork.number}/fd").exists() or _state(fork.number) == "Z"  # for whoever adopted it

    def test_threads_may_start_sessions_at_once(self, engine: Engine) -> None:
        def run(factor: int) -> np.ndarray:
            session = IsolatedSession("ncnn", *engine, 1)
            try:
                return session.run(X * factor)
            finally:
                session.close()

        with ThreadPoolExecutor(4) as pool:
            for factor, found in enumerate(pool.map(run, range(12))):
                np.testing.assert_array_equal(found, run(1) * factor)

    def test_a_fork_of_this_process_has_a_server_of_its_own(self, engine: Engine) -> None:
        IsolatedSession("ncnn", *engine, 1).close()
        server = client._server(ENGINES)
        child = os.fork()
        if child == 0:
            os._exit(0 if client._server(ENGINES) is not server else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert server.alive


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def _parent(session: IsolatedSession) -> int:
    assert isinstance(session._child.process, client.ForkedProcess)
    return int(Path(f"/proc/{session._child.process.number}/stat").read_text().rpartition(")")[2].split()[1])


def _files(process: int | str) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))
