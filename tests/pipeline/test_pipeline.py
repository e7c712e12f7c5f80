"""Pipelines: checked when built, run once in order, stopped and watched by hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.graph import ir, source_info
from segc.graph.invariants import INVARIANTS
from segc.passes import REGISTRY
from segc.passes.base import PassResult
from segc.pipeline import stages
from segc.pipeline.pipeline import Entry, Pipeline, PipelineError, StopPipeline
from tests.helpers.steps import step
from tests.helpers.tiny_models import CONV, parsed


@dataclass
class Recorder:
    """A hook that writes down what it is called with, and stops after `stop`."""

    said: list[str] = field(default_factory=list)
    stop: str = ""
    nodes: ClassVar[int]

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        self.said.append(f"before {entry.index} {entry.step.name}")

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        self.said.append(f"after {entry.index} {entry.step.name} {result.changes}")
        if entry.step.name == self.stop:
            raise StopPipeline


def test_what_nothing_before_ensures_is_refused_when_built() -> None:
    with pytest.raises(
        PipelineError, match=r"p: pass 1 'b' requires 'f', which pass 2 'c' ensures: put 'c' before 'b'"
    ):
        Pipeline("p", (step("a"), step("b", requires="f"), step("c", ensures="f")))
    with pytest.raises(PipelineError, match="'f', which no pass of this pipeline ensures: add one that does"):
        Pipeline("p", (step("b", requires="f"),))


def test_what_was_invalidated_must_be_ensured_again() -> None:
    a, b, c = step("a", ensures="f"), step("b", invalidates="f"), step("c", requires="f")
    said = (
        "'c' requires 'f'; pass 0 'a' ensures it, but pass 1 'b' invalidates it: put 'b' before 'a', or 'a' once more"
    )
    with pytest.raises(PipelineError, match=said):
        Pipeline("p", (a, b, c))
    with pytest.raises(PipelineError, match="it holds at first, but pass 0 'b' invalidates it: put 'b' behind 'c'"):
        Pipeline("p", (b, c), given=frozenset({"f"}))
    with pytest.raises(PipelineError, match="'f', which pass 2 'a' ensures: put 'a' before 'c'"):
        Pipeline("p", (b, c, a))  # it never held, so that 'b' breaks it is no news
    assert Pipeline("p", (b, a, c)).claims()[1:] == (Pipeline("p", ()).given | {"f"},) * 2


def test_what_is_promised_must_hold_at_the_end() -> None:
    a, b = step("a", ensures="f"), step("b", invalidates="f")
    assert Pipeline("p", (b, a), promised=frozenset({"f"}))
    with pytest.raises(
        PipelineError, match="the end of the pipeline requires 'f'; pass 0 'a' ensures it, but pass 1 'b'"
    ):
        Pipeline("p", (a, b), promised=frozenset({"f"}))


def test_what_is_given_or_assumed_need_not_be_ensured() -> None:
    b, d = step("b", requires="f"), step("d", invalidates="f")
    assert Pipeline("p", (b,), given=frozenset({"f"})).claims() == (frozenset("f"),)
    assert Pipeline("p", (d, b), assumed=frozenset({"f"}))
    with pytest.raises(PipelineError, match="'f'"):
        Pipeline("p", (d, b), given=frozenset({"f"}))


def test_only_what_is_required_later_is_relied_on() -> None:
    a, b, c = step("a", ensures="f g"), step("b", ensures="g"), step("c", requires="f g")
    assert Pipeline("p", (a, step("x"), b, c)).relied_on() == (*map(frozenset, ("f", "f", "fg", "")),)
    assert Pipeline("p", (a, c), promised=frozenset({"g"})).relied_on() == (frozenset("fg"), frozenset("g"))


def test_each_pass_keeps_its_stage() -> None:
    pipeline = Pipeline.of_stages("p", {"one": (step("a"),), "none": (), "two": (step("b"), step("c", requires="f"))},
                                  given=frozenset({"f"}))  # fmt: skip
    assert [(e.index, e.stage, e.step.name) for e in pipeline.entries] == [
        (0, "one", "a"), (1, "two", "b"), (2, "two", "c")
    ]  # fmt: skip
    with pytest.raises(PipelineError, match="pass 1 'c' in stage 'two' requires 'f'"):
        Pipeline.of_stages("p", {"one": (step("a"),), "two": (step("c", requires="f"),)})
    with pytest.raises(PipelineError, match="1 stage names for 2 passes"):
        Pipeline("p", (step("a"), step("b")), stages=("one",))


def test_passes_run_once_in_order_and_hooks_see_each() -> None:
    hook = Recorder()
    results = Pipeline("p", (step("a"), step("b", edit=lambda _: 3))).run(ir.from_model(parsed(CONV)), [hook])
    assert [r.changes for r in results] == [0, 3]
    assert hook.said == ["before 0 a", "after 0 a 0", "before 1 b", "after 1 b 3"]


def test_a_hook_stops_the_run_and_the_results_say_how_far_it_got() -> None:
    hook = Recorder(stop="a")
    assert len(Pipeline("p", (step("a"), step("b"))).run(ir.from_model(parsed(CONV)), [hook])) == 1
    assert hook.said == ["before 0 a", "after 0 a 0"]


def test_an_error_in_a_pass_is_not_swallowed() -> None:
    def fail(_: gs.Graph) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Pipeline("p", (step("a", edit=fail),)).run(ir.from_model(parsed(CONV)))


def test_what_a_pass_leaves_behind_is_cleaned_sorted_named_and_adopted() -> None:
    def edit(graph: gs.Graph) -> int:
        conv = graph.nodes[0]
        middle = gs.Variable("middle", conv.outputs[0].dtype, conv.outputs[0].shape)
        unused = gs.Variable("unused")
        relu = gs.Node("Relu", inputs=[middle], outputs=[conv.outputs[0]])
        conv.outputs = [middle]
        graph.nodes[:0] = [relu, gs.Node("Abs", inputs=[graph.inputs[0]], outputs=[unused])]
        return 1

    graph = ir.from_model(parsed(CONV))
    source_info.put(graph.nodes[0], source_info.Origin("net.py:3 forward"))
    Pipeline("p", (step("add-relu", edit=edit),)).run(graph)
    assert [n.op for n in graph.nodes] == ["Conv", "Relu"]
    assert graph.nodes[1].name == "add-relu/y"
    assert source_info.of(graph.nodes[1]) == source_info.Origin("net.py:3 forward", made_by="add-relu")


@pytest.mark.parametrize("target", targets.names())
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("shape", [None, (1, 8, 8)])
def test_the_standard_pipelines_are_sound(target: str, mask: bool, shape: tuple[int, int, int] | None) -> None:
    pipeline = stages.standard(targets.get(target), shape=shape, mask=mask)
    last = pipeline.claims()[-1]
    cells = target == "onnxruntime"  # its masks are gathered from as many cells as need it
    assert ("static shapes" in last) == (shape is not None and not cells)
    assert ("mask output" in last) == mask


@pytest.mark.parametrize(("target", "splits"), [("onnxruntime", False), ("openvino", False), ("ncnn", True)])
def test_a_target_skips_what_is_not_worth_its_rounding(target: str, splits: bool) -> None:
    names = [step.name for step in stages.standard(targets.get(target), shape=None).passes]
    assert ("split-batchnorm" in names) == splits
    assert "fuse-conv-batchnorm" in names


def test_every_invariant_that_a_pass_names_has_a_check() -> None:
    for cls in REGISTRY.values():
        assert cls.requires | cls.ensures | cls.invalidates <= INVARIANTS.keys(), cls.name


@pytest.mark.parametrize("name", targets.names())
def test_the_passes_for_segments_can_follow_each_other(name: str) -> None:
    target = targets.get(name)
    assert stages.segment(target).passes == target.segment_passes
