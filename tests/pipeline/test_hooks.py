"""Hooks: timing, dumping, stopping, checking graphs and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.errors import CompileError, FileError
from segc.graph import ir
from segc.pipeline import hooks
from segc.pipeline.pipeline import Pipeline
from tests.helpers.tiny_models import parsed
from tests.pipeline.test_pipeline import step

CHAIN = """g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[1] half = {0.5}> { a = Mul(x, half)  y = Relu(a) }"""
FEEDS = {"x": np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 2, 3, 3)}


def graph() -> gs.Graph:
    made = ir.from_model(parsed(CHAIN))
    ir.infer_shapes(made)
    return made


def scale(by: float) -> gs.Node:
    def edit(g: gs.Graph) -> int:
        g.nodes[0].inputs[1].values = g.nodes[0].inputs[1].values * np.float32(by)
        return 1

    return edit


def rename(g: gs.Graph) -> int:
    g.nodes[0].op = "Add"
    return 0


def twice_the_name(g: gs.Graph) -> int:
    copy = gs.Variable("y", g.outputs[0].dtype, g.outputs[0].shape)
    extra = gs.Variable("extra", g.outputs[0].dtype, g.outputs[0].shape)
    g.nodes += [gs.Node("Abs", inputs=[g.inputs[0]], outputs=[copy]), gs.Node("Abs", inputs=[copy], outputs=[extra])]
    g.outputs.append(extra)
    return 1


def unknown_op(g: gs.Graph) -> int:
    g.nodes[1].op = "Relv"
    return 1


def test_timing_lists_every_pass_in_order() -> None:
    timing = hooks.Timing()
    Pipeline("p", (step("a"), step("b"))).run(graph(), [timing])
    assert [name for name, _ in timing.seconds] == ["a", "b"]
    assert all(seconds >= 0 for _, seconds in timing.seconds)


def test_the_graph_is_written_at_first_and_after_each_change(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dump"
    Pipeline("p", (step("same"), step("scale", edit=scale(2)), step("same-too"))).run(graph(), [hooks.DumpIR(folder)])
    assert sorted(p.name for p in folder.iterdir()) == ["000-input.onnxtxt", "002-scale.onnxtxt"]
    before, after = ((folder / name).read_text() for name in ("000-input.onnxtxt", "002-scale.onnxtxt"))
    assert "Mul" in before and before != after


def test_a_dump_that_cannot_be_written_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="--dump-ir"):
        Pipeline("p", (step("a"),)).run(graph(), [hooks.DumpIR(tmp_path / "file")])


@pytest.mark.parametrize("count, ran", [(1, 1), (2, 2), (9, 3)])
def test_stop_after_a_number_of_passes(count: int, ran: int) -> None:
    assert len(Pipeline("p", (step("a"), step("b"), step("c"))).run(graph(), [hooks.StopAfter(count)])) == ran


@pytest.mark.parametrize(
    "edit, said",
    [
        (rename, "pass 'bad' changed the graph but reported no change"),
        (twice_the_name, "pass 'bad' left two tensors named 'y'"),
        (unknown_op, "pass 'bad' left an invalid graph"),
    ],
)
def test_an_invalid_graph_is_blamed_on_the_pass_that_left_it(edit: object, said: str) -> None:
    passes = (step("good", edit=scale(2)), step("bad", edit=edit))  # type: ignore[arg-type]
    with pytest.raises(CompileError, match=said):
        Pipeline("p", passes).run(graph(), [hooks.CheckGraph()])


def test_a_sound_pass_is_not_blamed() -> None:
    Pipeline("p", (step("same"), step("scale", edit=scale(2)))).run(graph(), [hooks.CheckGraph()])


def test_numbers_that_change_are_blamed_on_the_first_pass_that_changed_them() -> None:
    check = hooks.CheckNumerics(FEEDS)
    passes = (step("exact", edit=scale(1)), step("wrong", edit=scale(1.01)), step("later", edit=scale(5)))
    with pytest.raises(CompileError, match="numbers first differ after pass 1 'wrong'"):
        Pipeline("p", passes).run(graph(), [check])
    assert [*check.figures] == [0, 1]
    assert check.figures[0] == 0 and check.figures[1] == pytest.approx(0.01, rel=1e-3)


def test_a_pass_that_changes_the_outputs_type_starts_a_new_baseline() -> None:
    def to_mask(g: gs.Graph) -> int:
        mask = gs.Variable("mask", np.int64, (1, 3, 3))
        g.nodes.append(gs.Node("ArgMax", attrs={"axis": 1, "keepdims": 0}, inputs=[g.outputs[0]], outputs=[mask]))
        g.outputs = [mask]
        return 1

    check = hooks.CheckNumerics(FEEDS)
    Pipeline("p", (step("mask", edit=to_mask), step("same", edit=scale(1)))).run(graph(), [check])
    assert check.figures == {1: 0.0}


def test_relative_error_wants_nan_and_infinity_in_the_same_places() -> None:
    a = np.array([1.0, np.nan, 4.0])
    assert hooks.relative_error(a, a) == 0
    assert hooks.relative_error(a, np.array([1.0, np.nan, 5.0])) == 0.25
    assert hooks.relative_error(a, np.array([1.0, 2.0, 4.0])) == float("inf")
    assert hooks.relative_error(np.zeros(2), np.full(2, 0.5)) == 0.5
