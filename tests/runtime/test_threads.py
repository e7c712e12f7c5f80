"""One engine in many threads, and in forks: results are those of calls one after the other, or a refusal by name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import segc
from segc import targets
from segc.runtime.sessions import Pool
from segc.targets.protocol import Runtime
from tests.helpers.calls import python
from tests.helpers.target_bundles import CASES, SIZE, TARGETS
from tests.helpers.tiny_bundles import Recorder, bundle, photograph

THREADS, IMAGES = 8, 40


@pytest.mark.parametrize("callers", [1, 3])
@pytest.mark.parametrize(("target", "kind"), CASES)
def test_threads_that_share_an_engine_get_what_one_gets(
    target: str, kind: str, callers: int, bundle_of: Callable[[str, str], Path]
) -> None:
    """Every call has another size, but where the engine has one size only; two threads never hold the same image."""
    engine = segc.load(bundle_of(target, kind), threads=1, callers=callers)
    images = [photograph(20 + 3 * at % 17, 30 + 5 * at % 23, seed=at) for at in range(IMAGES)]
    tensors = [noise(at, SIZE if kind == "hybrid" else (16 + at % 9, 20 + at % 7)) for at in range(IMAGES)]
    kept = engine.manifest.output.kind

    def both(at: int) -> tuple[np.ndarray, np.ndarray]:
        return engine.segment(images[at]).mask, engine.run(tensors[at])[kept]

    want = [both(at) for at in range(IMAGES)]
    with ThreadPoolExecutor(THREADS) as pool:
        got = list(pool.map(both, [at for _ in range(3) for at in range(IMAGES)]))
    for at, pair in enumerate(got):
        for one, other in zip(pair, want[at % IMAGES], strict=True):
            np.testing.assert_array_equal(one, other)


def noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 3, *size)).astype(np.float32)


@pytest.mark.parametrize(("concurrent", "callers", "want"), [(False, 1, 1), (False, 3, 3), (True, 1, 6)])
def test_a_session_of_a_runtime_that_is_not_concurrent_is_called_by_one_thread_at_a_time(
    concurrent: bool, callers: int, want: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has a session for each of its callers; each call waits until as many as can are inside."""
    together = threading.Barrier(want)
    inside, most = 0, 0

    class Slow:
        inside = 0

        def run(self, x: np.ndarray) -> np.ndarray:
            nonlocal inside, most
            self.inside, inside = self.inside + 1, inside + 1
            assert self.inside == 1 or concurrent
            most = max(most, inside)
            together.wait(60)
            self.inside, inside = self.inside - 1, inside - 1
            return x

    path = bundle(tmp_path / "b", target={"name": "private", "runtime": "1", "options": {}, "settings": {}})
    monkeypatch.setattr(targets, "runtime_names", lambda: ["private"])
    monkeypatch.setattr(targets, "runtime", lambda _: Runtime(lambda *_: Slow(), concurrent=concurrent))
    engine = segc.load(path, callers=callers)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(engine.run, [noise(at, (4, 4)) for at in range(6)]))
    assert most == want


@pytest.mark.skipif("openvino" not in TARGETS, reason="OpenVINO is not installed")
def test_openvino_gets_threads_for_each_caller(bundle_of: Callable[[str, str], Path]) -> None:
    import openvino

    from segc.targets.openvino.runtime import OvSession

    for callers in (1, 2):
        session = OvSession(bundle_of("openvino", "whole") / "model.xml", {}, 1, callers)
        compiled: openvino.CompiledModel = session.compiled
        streams = min(callers, os.cpu_count() or 1)  # the plugin makes no more of them
        assert compiled.get_property("NUM_STREAMS") == streams
        assert compiled.get_property("INFERENCE_NUM_THREADS") == streams


def test_a_session_that_fails_serves_the_next_caller() -> None:
    def fail(x: np.ndarray) -> np.ndarray:
        if not x.any():
            raise ValueError("nothing in it")
        return x

    pool = Pool([Recorder(fail)])
    for _ in range(2):
        with pytest.raises(ValueError, match="nothing in it"):
            pool.run(np.zeros((1, 1), np.float32))
        assert pool.run(np.ones((1, 1), np.float32)).all()


FORK = """
import os, sys
import numpy as np, segc
engine = segc.load(sys.argv[1])
x = np.ones((1, 3, 24, 40), np.float32)
want = engine.run(x)
if (child := os.fork()) == 0:
    try:
        engine.run(x)
    except segc.SegcError as error:
        print(error, flush=True)
        os._exit(0)
    os._exit(1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert all(np.array_equal(engine.run(x)[name], want[name]) for name in want)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("target", TARGETS)
def test_a_fork_is_told_to_load_its_own_engine(target: str, bundle_of: Callable[[str, str], Path]) -> None:
    done = python(FORK, bundle_of(target, "whole"))
    assert done.code == 0, done.err
    assert "the engine was loaded in another process" in done.out and "call segc.load in each process" in done.out


LOAD = """
import os, signal, sys
import numpy as np, segc
path, before, after = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
x = np.random.default_rng(0).standard_normal((1, 3, 96, 96)).astype(np.float32)
want = segc.load(path, threads=before).run(x)
if (child := os.fork()) == 0:
    signal.alarm(60)  # the end of a child that hangs
    try:
        got = segc.load(path, threads=after).run(x)
        print("equal" if all(np.array_equal(got[name], want[name]) for name in want) else "wrong", flush=True)
    except segc.SegcError as error:
        print(error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize(
    ("target", "before", "after", "says"),
    [
        ("onnxruntime", 2, 2, "equal"),
        ("openvino", 2, 2, "equal"),
        ("ncnn", 1, 2, "equal"),
        ("ncnn", 2, 1, "ncnn cannot run in a fork of a process that has run it"),
    ],
)
def test_an_engine_that_a_fork_loads_runs_or_is_refused(
    target: str, before: int, after: int, says: str, bundle_of: Callable[[str, str], Path]
) -> None:
    done = python(LOAD, bundle_of(target, "whole"), before, after)
    assert done.code == 0, done.err
    assert done.out.startswith(says), done.out
