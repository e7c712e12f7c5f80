"""Pipelines: checked when built, run once in order, stopped and watched by hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.graph import ir, source_info
from segc.graph.invariants import FACTS
from segc.passes import REGISTRY
from segc.passes.base import Pass, PassResult
from segc.pipeline import stages
from segc.pipeline.pipeline import Pipeline, PipelineError, StopPipeline, order
from tests.helpers.tiny_models import CONV, parsed


def step(
    name: str, needs: str = "", gives: str = "", drops: str = "", edit: Callable[[gs.Graph], int] = lambda _: 0
) -> Pass:
    """A pass made of a function that returns the number of its changes."""

    class Step(Pass):
        def run(self, graph: gs.Graph) -> PassResult:
            return PassResult(edit(graph))

    Step.name = name
    Step.needs, Step.gives, Step.drops = (frozenset(facts.split()) for facts in (needs, gives, drops))
    return Step()


@dataclass
class Recorder:
    """A hook that writes down what it is called with, and stops after `stop`."""

    said: list[str] = field(default_factory=list)
    stop: str = ""
    nodes: ClassVar[int]

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        self.said.append(f"before {at} {step.name}")

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        self.said.append(f"after {at} {step.name} {result.changes}")
        if step.name == self.stop:
            raise StopPipeline


def test_a_need_that_nothing_gives_is_refused_when_built() -> None:
    with pytest.raises(PipelineError, match=r"p: pass 1 'b' needs \['f'\], given by c"):
        Pipeline("p", (step("a"), step("b", needs="f"), step("c", gives="f")))
    with pytest.raises(PipelineError, match="given by no pass here"):
        Pipeline("p", (step("b", needs="f"),))


def test_a_dropped_fact_must_be_given_again() -> None:
    giver, dropper, needer = step("a", gives="f"), step("b", drops="f"), step("c", needs="f")
    with pytest.raises(PipelineError, match="'c' needs"):
        Pipeline("p", (giver, dropper, needer))
    pipeline = Pipeline("p", (dropper, giver, needer))
    assert pipeline.facts_after(1) == {"f"} and pipeline.facts_after(0) == frozenset()


def test_given_facts_hold_before_the_first_pass() -> None:
    assert Pipeline("p", (step("b", needs="f"),), given=frozenset({"f"})).facts_after(0) == {"f"}


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


def test_order_moves_only_what_a_need_demands() -> None:
    a, b, c, d = step("a", needs="f"), step("b"), step("c", gives="f"), step("d")
    assert [p.name for p in order((a, b, c, d))] == ["b", "c", "a", "d"]
    assert order((b, c, a, d)) == (b, c, a, d)


def test_needs_in_a_circle_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"passes need each other: .* -> "):
        order((step("a", needs="g", gives="f"), step("b", needs="f", gives="g")))


@pytest.mark.parametrize("target", targets.names())
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("shape", [None, (1, 8, 8)])
def test_the_standard_pipelines_are_sound(target: str, mask: bool, shape: tuple[int, int, int] | None) -> None:
    pipeline = stages.standard(targets.get(target), shape=shape, mask=mask)
    last = pipeline.facts_after(len(pipeline.passes) - 1)
    assert ("static-shapes" in last) == (shape is not None)
    assert ("mask-output" in last) == mask


@pytest.mark.parametrize(("target", "splits"), [("onnxruntime", False), ("openvino", False), ("ncnn", True)])
def test_a_target_skips_what_is_not_worth_its_rounding(target: str, splits: bool) -> None:
    names = [step.name for step in stages.standard(targets.get(target), shape=None).passes]
    assert ("split-batchnorm" in names) == splits
    assert "fuse-conv-batchnorm" in names


def test_every_fact_that_a_pass_names_has_a_predicate() -> None:
    for cls in REGISTRY.values():
        assert cls.needs | cls.gives | cls.drops <= FACTS.keys(), cls.name
