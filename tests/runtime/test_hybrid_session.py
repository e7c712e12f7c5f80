"""Running segments in order: names, errors, and what is let go of when."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from segc.errors import CompileError, ShapeError
from segc.isolation.session import IsolatedSession
from segc.runtime.hybrid_session import HybridSession, Step, step
from segc.targets import Settings
from segc.targets.onnxruntime.target import ONNXRUNTIME
from tests.helpers.tiny_models import parsed

Arrays = Mapping[str, np.ndarray]


def adding(number: float, given: str, made: str) -> Step:
    return Step(f"step {made}", (given,), (made,), lambda arrays: {made: arrays[given] + np.float32(number)})


def test_steps_run_in_order() -> None:
    session = HybridSession([adding(1, "x", "a"), adding(2, "a", "b"), adding(3, "b", "y")], "x", "y")
    assert session.run(np.zeros((1, 2), np.float32)).tolist() == [[6, 6]]


def test_a_tensor_is_let_go_of_after_its_last_reader() -> None:
    made: dict[str, weakref.ref[np.ndarray]] = {}
    alive: list[set[str]] = []

    def spy(name: str, reads: tuple[str, ...], gives: tuple[str, ...]) -> Step:
        def run(arrays: Arrays) -> Arrays:
            alive.append({name for name, reference in made.items() if reference() is not None})
            results = {name: np.full(3, len(arrays), np.float32) for name in gives}
            made.update({name: weakref.ref(array) for name, array in results.items()})
            return results

        return Step(name, reads, gives, run)

    steps = [
        spy("1", ("x",), ("a", "unread")),
        spy("2", ("a",), ("b",)),
        spy("3", ("a", "b"), ("c",)),
        spy("4", ("c",), ("y",)),
        spy("5", ("c",), ("d",)),
    ]
    y = HybridSession(steps, "x", "y").run(np.zeros(3, np.float32))
    assert alive == [set(), {"a"}, {"a", "b"}, {"c"}, {"c", "y"}]
    assert y is made["y"]() and made["d"]() is None


def test_arrays_reach_a_segment_contiguous_and_scalars_stay_scalars() -> None:
    seen: list[np.ndarray] = []

    def look(arrays: Arrays) -> Arrays:
        seen.extend(arrays.values())
        return {"y": arrays["t"]}

    def turn(arrays: Arrays) -> Arrays:
        return {"t": arrays["x"].T, "n": np.array(3, np.int64)}

    session = HybridSession([Step("turn", ("x",), ("t", "n"), turn), Step("look", ("t", "n"), ("y",), look)], "x", "y")
    session.run(np.zeros((2, 3), np.float32))
    assert seen[0].flags.c_contiguous and seen[0].shape == (3, 2) and seen[1].shape == ()


def test_the_segment_that_fails_is_named() -> None:
    def fail(_: Arrays) -> Arrays:
        raise RuntimeError("out of registers")

    session = HybridSession([adding(1, "x", "a"), Step("segment 1 (small)", ("a",), ("y",), fail)], "x", "y")
    with pytest.raises(CompileError, match=r"segment 1 \(small\) failed") as caught:
        session.run(np.zeros((1, 2), np.float32))
    assert "out of registers" in str(caught.value) and "a float32[1, 2]" in str(caught.value)


def test_errors_of_segc_pass_unchanged() -> None:
    def refuse(_: Arrays) -> Arrays:
        raise ShapeError("too small")

    with pytest.raises(ShapeError):
        HybridSession([Step("one", ("x",), ("y",), refuse)], "x", "y").run(np.zeros(1, np.float32))


def test_an_engine_of_one_input_and_output_is_called_with_arrays() -> None:
    class Double:
        def run(self, x: np.ndarray) -> np.ndarray:
            return x * 2

    session = HybridSession([step("one", False, Double(), ["x"], ["y"])], "x", "y")
    assert session.run(np.ones(2, np.float32)).tolist() == [2, 2]


def test_an_engine_in_a_process_of_its_own_is_called_by_name(tmp_path: Path) -> None:
    text = "g (float[2] b, int64[N] a) => (int64[N] twice, float[2] y) { twice = Add(a, a)  y = Relu(b) }"
    ONNXRUNTIME.emit(parsed(text), tmp_path, Settings())
    session = IsolatedSession("onnxruntime", tmp_path, {}, 1)
    try:
        alone = step("one", True, session, ["a", "b"], ["twice", "y"])
        got = alone.run({"a": np.arange(3), "b": np.array([-1, 2], np.float32)})
        assert got["twice"].tolist() == [0, 2, 4] and got["y"].tolist() == [0, 2]
        with pytest.raises(CompileError, match="runtime fails while running it"):
            alone.run({"a": np.arange(3)})
    finally:
        session.close()
