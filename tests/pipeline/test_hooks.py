"""Hooks: timing, dumping, stopping, checking graphs and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.errors import CompileError, FileError
from segc.graph import ir
from segc.passes.base import Pass, PassResult
from segc.passes.legalize.logic import LegalizeLogic
from segc.pipeline import hooks
from segc.pipeline.pipeline import Pipeline
from tests.helpers.steps import step
from tests.helpers.tiny_models import parsed

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
    assert [entry.step.name for entry, _ in timing.entries] == ["a", "b"]
    assert all(seconds >= 0 for _, seconds in timing.entries)


def test_seconds_of_a_pass_that_runs_twice_are_added() -> None:
    timing = hooks.Timing()
    Pipeline("p", (step("a"), step("b"), step("a"))).run(graph(), [timing])
    seconds = [s for _, s in timing.entries]
    assert timing.by_name() == {"a": seconds[0] + seconds[2], "b": seconds[1]}


def test_the_graph_is_written_at_first_and_after_each_change(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dump"
    Pipeline("p", (step("same"), step("scale", edit=scale(2)), step("same-too"))).run(graph(), [hooks.DumpIR(folder)])
    assert sorted(p.name for p in folder.iterdir()) == ["000-input.onnxtxt", "002-scale.onnxtxt", "index.txt"]
    before, after = ((folder / name).read_text() for name in ("000-input.onnxtxt", "002-scale.onnxtxt"))
    assert "Mul" in before and before != after


def test_files_and_index_of_a_dump_name_the_stage(tmp_path: Path) -> None:
    stages = {"early": (step("same"),), "late": (step("scale", edit=scale(2)),)}
    for _ in range(2):  # a second run starts the index anew
        Pipeline.of_stages("p", stages).run(graph(), [hooks.DumpIR(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000-input.onnxtxt", "002-late-scale.onnxtxt", "index.txt"]
    lines = [line.split() for line in (tmp_path / "index.txt").read_text().splitlines()]
    assert lines == [
        ["000", "input", "2", "nodes"], ["001", "early", "same", "0", "2", "nodes"],
        ["002", "late", "scale", "1", "2", "nodes"],
    ]  # fmt: skip


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
        (rename, "pass 1 'bad' changed the graph but reported no change"),
        (twice_the_name, "pass 1 'bad' left two tensors named 'y'"),
        (unknown_op, "pass 1 'bad' left an invalid graph"),
    ],
)
def test_an_invalid_graph_is_blamed_on_the_pass_that_left_it(edit: object, said: str) -> None:
    passes = (step("good", edit=scale(2)), step("bad", edit=edit))  # type: ignore[arg-type]
    with pytest.raises(CompileError, match=said):
        Pipeline("p", passes).run(graph(), [hooks.CheckGraph()])


def test_a_sound_pass_is_not_blamed() -> None:
    Pipeline("p", (step("same"), step("scale", edit=scale(2)))).run(graph(), [hooks.CheckGraph()])


def to_einsum(g: gs.Graph) -> int:
    g.nodes[1].op, g.nodes[1].attrs = "Einsum", {"equation": "abcd->abcd"}
    return 1


class NoEinsum(Pass):
    """Turns Einsum into Relu, but for those that it is told to skip."""

    name = "no-einsum"
    algebra = ""
    ensures = frozenset({"no Einsum"})

    def __init__(self, does: bool = True, skips: bool = False) -> None:
        self.does, self.skips = does, skips

    def run(self, graph: gs.Graph) -> PassResult:
        result = PassResult()
        for node in [n for n in graph.nodes if n.op == "Einsum"]:
            if self.skips:
                result.skip(node, "told to")
            elif self.does:
                node.op, node.attrs = "Relu", {}
                result.changes += 1
        return result


def checked(*passes: Pass, promised: frozenset[str] = frozenset({"no Einsum"})) -> gs.Graph:
    pipeline, made = Pipeline("p", passes, promised=promised), graph()
    pipeline.run(made, [hooks.CheckInvariants(pipeline)])
    return made


def test_a_pass_that_does_not_do_what_it_ensures_is_blamed() -> None:
    with pytest.raises(CompileError, match="pass 1 'no-einsum' ensures 'no Einsum', and it does not hold") as error:
        checked(step("bad", edit=to_einsum), NoEinsum(does=False))
    assert "is a Einsum" in str(error.value)
    assert [n.op for n in checked(step("bad", edit=to_einsum), NoEinsum()).nodes] == ["Mul", "Relu"]


def test_what_a_pass_skips_may_stand_against_what_it_ensures() -> None:
    made = checked(step("bad", edit=to_einsum), NoEinsum(skips=True), step("later", edit=scale(2)))
    assert [n.op for n in made.nodes] == ["Mul", "Einsum"]


class Masks(NoEinsum):
    """Ensures a mask, which is a matter of the whole graph, and makes none."""

    name = "masks"
    ensures = frozenset({"mask output"})


def test_a_pass_that_skips_a_site_may_miss_what_no_single_node_can_give() -> None:
    promised = frozenset({"mask output"})
    checked(step("bad", edit=to_einsum), Masks(skips=True), promised=promised)
    with pytest.raises(CompileError, match="pass 1 'masks' ensures 'mask output', and it does not hold"):
        checked(step("bad", edit=to_einsum), Masks(does=False), promised=promised)


def test_a_pass_that_breaks_in_silence_what_another_relies_on_is_blamed() -> None:
    with pytest.raises(CompileError, match="pass 1 'silent' breaks 'no Einsum' and does not say") as error:
        checked(NoEinsum(), step("silent", edit=to_einsum))
    assert "is a Einsum" in str(error.value) and "pass 0 'no-einsum' ensured it" in str(error.value)
    made = checked(NoEinsum(), step("silent", edit=to_einsum), promised=frozenset())
    assert [n.op for n in made.nodes] == ["Mul", "Einsum"], "nobody relies on it"


def test_a_settled_rewrite_is_tried_again_with_the_options_of_its_pass() -> None:
    def to_or(g: gs.Graph) -> int:
        x = g.inputs[0]
        parts = [gs.Variable(name, np.bool_, x.shape) for name in ("a_bool", "b_bool", "either")]
        g.nodes += [gs.Node("Cast", attrs={"to": 9}, inputs=[x], outputs=[parts[0]]),
                    gs.Node("Not", inputs=[parts[0]], outputs=[parts[1]]),
                    gs.Node("Or", "the-or", inputs=parts[:2], outputs=[parts[2]])]  # fmt: skip
        g.outputs.append(parts[2])
        return 1

    promised = frozenset({"logic legalized"})
    checked(LegalizeLogic(("Xor",)), step("silent", edit=to_or), promised=promised)
    with pytest.raises(CompileError, match="'silent' breaks 'logic legalized'") as error:
        checked(LegalizeLogic(("Or",)), step("silent", edit=to_or), promised=promised)
    assert "'legalize-logic' would still rewrite node 'the-or', a Or" in str(error.value)


def test_what_is_given_and_does_not_hold_from_the_start_is_let_go() -> None:
    def to_half(g: gs.Graph) -> int:
        g.nodes[0].outputs[0].dtype = np.dtype(np.float16)
        return 1

    single = frozenset({"single precision"})
    with pytest.raises(CompileError, match="'half' breaks 'single precision'") as error:
        checked(step("half", edit=to_half), promised=single)
    assert "it held at first" in str(error.value)
    pipeline, made = Pipeline("p", (step("half", edit=to_half),), promised=single), graph()
    to_half(made)
    pipeline.run(made, [hooks.CheckInvariants(pipeline)])


def test_numbers_that_change_are_blamed_on_the_first_pass_that_changed_them() -> None:
    check = hooks.CheckNumerics(FEEDS)
    same, exact, wrong = step("same"), step("exact", edit=scale(1)), step("wrong", edit=scale(1.01))
    with pytest.raises(CompileError, match="numbers first differ after pass 2 'wrong'"):
        Pipeline("p", (same, exact, wrong, step("later", edit=scale(5)))).run(graph(), [check])
    assert [*check.figures] == [1, 2]  # what changed nothing is not run again
    assert check.figures[1] == 0 and check.figures[2] == pytest.approx(0.01, rel=1e-3)


def test_a_pass_that_changes_the_outputs_type_starts_a_new_baseline() -> None:
    def to_mask(g: gs.Graph) -> int:
        mask = gs.Variable("mask", np.int64, (1, 3, 3))
        g.nodes.append(gs.Node("ArgMax", attrs={"axis": 1, "keepdims": 0}, inputs=[g.outputs[0]], outputs=[mask]))
        g.outputs = [mask]
        return 1

    check = hooks.CheckNumerics(FEEDS)
    Pipeline("p", (step("mask", edit=to_mask), step("same", edit=scale(1)))).run(graph(), [check])
    assert check.figures == {1: 0.0}
