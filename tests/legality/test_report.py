"""What a target refuses: all nodes at once, equal reasons grouped, with the torch source line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from segc.errors import LegalityError
from segc.graph import ir, source_info
from segc.legality import report
from segc.passes.base import Skip
from segc.targets.checks import attr_in, attr_is, constant_input, input_dtype, no_subgraph
from segc.targets.protocol import Emitted, Runtime, Session
from segc.targets.target import Target
from tests.helpers.tiny_models import parsed

TEXT = """g (float[1,3,8,8] x, bool yes) => (float[1,3,8,8] y) {
    [one] a = Erf(x)
    [two] b = Erf(a)
    [three] c = Softmax<axis = 1>(b)
    [four] d = If (yes) <then_branch = t () => (float[1,3,8,8] p) { [inner] p = Erf(c) },
                         else_branch = e () => (float[1,3,8,8] q) { q = Relu(c) }>
    [five] y = Relu(d)
}"""


def target(**ops: tuple[object, ...]) -> Target:
    def emit(model: onnx.ModelProto, directory: Path) -> Emitted:
        raise NotImplementedError

    def load(directory: Path, options: object, threads: int) -> Session:
        raise NotImplementedError

    return Target(
        name="small", summary="a small target", opset=20, runtime=Runtime(load), ops=ops, emit=emit,
        table="targets/small.py",
    )  # fmt: skip


def test_nodes_are_grouped_by_op_and_reason_subgraphs_included() -> None:
    graph = ir.from_model(parsed(TEXT))
    groups = report.refusals(graph, target(Relu=(), If=(), Softmax=(attr_is("axis", -1, default=-1),)))
    assert [(g.op, g.reason, [n.name for n in g.nodes]) for g in groups] == [
        ("Erf", "no Erf in small", ["one", "two", "inner"]),
        ("Softmax", "axis=1, only -1 is supported", ["three"]),
    ]


def test_the_message_names_every_reason_place_and_what_was_tried() -> None:
    graph = ir.from_model(parsed(TEXT))
    ir.infer_shapes(graph)
    source_info.put(graph.nodes[0], source_info.Origin("net.py:12 forward", "head"))
    with pytest.raises(LegalityError) as caught:
        report.require_legal(graph, target(Relu=(), If=()), {"lower": [Skip("two", "it is odd"), Skip("five", "fine")]})
    text = str(caught.value)
    assert "small cannot run 4 nodes of this model: Erf, Softmax" in text
    assert "no Erf in small: 3 nodes (targets/small.py)" in text
    assert "no Softmax in small: 1 node (targets/small.py)" in text
    assert "Erf 'one': input float32[1,3,8,8], net.py:12 forward in head" in text
    assert "lower: skipped 'two', it is odd" in text and "fine" not in text
    assert "choose another target" in text and "--dump-ir" in text
    assert caught.value.exit_code == 4


def test_long_lists_are_cut_and_counted() -> None:
    steps = "  ".join(f"t{i + 1} = Erf(t{i})" for i in range(8))
    graph = ir.from_model(parsed(f"g (float[1] t0) => (float[1] t8) {{ {steps} }}"))
    with pytest.raises(LegalityError, match="and 3 more Erf"):
        report.require_legal(graph, target())


def test_a_legal_graph_passes() -> None:
    graph = ir.from_model(parsed(TEXT))
    report.require_legal(graph, target(Relu=(), If=(), Erf=(), Softmax=()))
    assert report.refusals(graph, target(Relu=(), If=(), Erf=(), Softmax=())) == []


def why(check: object, text: str) -> str | None:
    graph = ir.from_model(parsed(text))
    ir.infer_shapes(graph)
    reason = check(graph.nodes[-1])  # type: ignore[operator]
    assert reason is None or isinstance(reason, str)
    return reason


def test_checks_say_what_is_wrong_or_nothing() -> None:
    keep = "g (float[1,3] x) => (y) { y = ArgMax<axis = 1, keepdims = 0>(x) }"
    default = "g (float[1,3] x) => (y) { y = ArgMax(x) }"
    assert why(attr_is("keepdims", 1, default=1), keep) == "keepdims=0, only 1 is supported"
    assert why(attr_is("keepdims", 1, default=1), default) is None
    assert why(attr_in("axis", frozenset({0, 2}), default=0), keep) == "axis=1, supported are 0, 2"
    assert why(attr_in("axis", frozenset({0, 2}), default=0), default) is None
    assert why(input_dtype(0, np.int8), keep) == "input 0 is float32, supported are int8"
    assert why(input_dtype(0, np.float32), keep) is None
    assert why(input_dtype(5, np.int8), keep) is None
    computed = "g (float[1,3] x, int64[2] s) => (y) { y = Reshape(x, s) }"
    fixed = "g (float[1,3] x) => (y) { s = Constant<value_ints = [3, 1]>()  y = Reshape(x, s) }"
    assert "run time" in str(why(constant_input(1), computed))
    assert why(constant_input(1), fixed) is None
    assert why(no_subgraph, keep) is None
    assert why(no_subgraph, TEXT.replace("[five] y = Relu(d)", "").replace("d = If", "y = If")) == "contains a subgraph"


def test_ops_of_other_domains_are_named_with_their_domain() -> None:
    graph = ir.from_model(parsed("g (float[1,3,8,8] x) => (y) { y = segc.AdaptiveAvgPool2d<output_size = [1, 1]>(x) }"))
    small = target(AdaptiveAvgPool2d=())
    assert small.why_not(graph.nodes[0]) == "no segc::AdaptiveAvgPool2d in small"


def test_a_refused_node_without_inputs_has_an_input_of_unknown_type() -> None:
    graph = ir.from_model(parsed("g () => (float[2] y) { [noise] y = RandomNormal<shape = [2]>() }"))
    with pytest.raises(LegalityError, match="RandomNormal 'noise': input of unknown type"):
        report.require_legal(graph, target())
