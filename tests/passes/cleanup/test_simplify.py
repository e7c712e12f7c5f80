from __future__ import annotations

from importlib.metadata import version as metadata
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs
import pytest

from segc.errors import MissingPackageError
from segc.graph import ir, source_info
from segc.passes.cleanup import simplify
from segc.passes.cleanup.simplify import Simplify
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of, text_of

DOUBLE = (
    HEAD
    + "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { a = Identity (x)  b = Relu (a)  c = Identity (b)  y = Neg (c) }"
)


def test_what_onnxsim_removes_is_taken_over() -> None:
    check_pass(
        Simplify(), DOUBLE, HEAD + "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { b = Relu (x)  y = Neg (b) }", changes=4
    )


def test_dialect_nodes_survive() -> None:
    text = (
        HEAD20
        + """g (float[1,2,H,W] x) => (float[1,2,3,3] y) {
        a = Identity (x)  b = segc.AdaptiveAvgPool2d <output_size = [3, 3]> (a)  y = Relu (b) }"""
    )
    graph = check_pass(Simplify(), text, None, changes=2)
    assert [(n.domain, n.op) for n in graph.nodes] == [("segc", "AdaptiveAvgPool2d"), (None, "Relu")]


def test_a_graph_that_is_simple_is_left_alone() -> None:
    check_untouched(Simplify(), HEAD + "g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }", None)


def weighted() -> gs.Graph:
    """Two products with one shared weight of 160 kB, and two Identity nodes that onnxsim removes."""
    x, y = gs.Variable("x", np.float32, (1, 200)), gs.Variable("y", np.float32, (1, 200))
    w = gs.Constant("w", np.random.default_rng(0).standard_normal((200, 200)).astype(np.float32))
    a, b, c = (gs.Variable(name, np.float32, (1, 200)) for name in "abc")
    nodes = [
        gs.Node("Identity", "first", {}, [x], [a]),
        gs.Node("MatMul", "second", {}, [a, w], [b]),
        gs.Node("Identity", "third", {}, [b], [c]),
        gs.Node("MatMul", "fourth", {}, [c, w], [y]),
    ]
    for node in nodes:
        source_info.put(node, source_info.Origin(source=f"file.py:1 {node.name}"))
    return gs.Graph(nodes, [x], [y], opset=17, ir_version=9)


def test_weights_are_neither_copied_nor_seen_by_onnxsim(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = weighted()
    values = graph.nodes[1].inputs[1].values
    sizes: list[int] = []
    real = simplify.simplified

    def spy(model: onnx.ModelProto) -> onnx.ModelProto:
        sizes.append(model.ByteSize())
        return real(model)

    monkeypatch.setattr(simplify, "simplified", spy)
    assert Simplify().run(graph).changes == 4
    weights = [n.inputs[1] for n in graph.nodes if n.op == "MatMul"]
    assert len(weights) == 2 and weights[0] is weights[1]
    assert weights[0].values is values
    assert sizes[0] < 10_000


def test_origins_and_names_stay_with_what_they_belong_to() -> None:
    graph = weighted()
    assert Simplify().run(graph).changes == 4
    by_output = {n.outputs[0].name: source_info.of(n) for n in graph.nodes}
    assert by_output["y"].source == "file.py:1 fourth"
    assert by_output["b"].source == "file.py:1 second"
    assert {where.made_by for where in by_output.values()} == {"simplify"}  # both read something else now


def tampered(monkeypatch: pytest.MonkeyPatch, change: Any) -> gs.Graph:
    """A graph for which onnxsim returns a wrong result: `change` of its right one."""
    real = simplify.simplified

    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        result = real(model)
        change(result)
        return result

    monkeypatch.setattr(simplify, "simplified", wrong)
    return graph_of(DOUBLE)


def other_op(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Abs"


def slightly_off(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "LeakyRelu"
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("alpha", 1e-3))


def more_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend([onnx.helper.make_node("Neg", ["x"], [f"n{i}"]) for i in range(9)])


def large_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1 << 19, np.float32), "large"))


def other_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"


def nonsense(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOp"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_op, "relative error"),
        (slightly_off, "relative error"),
        (more_nodes, "11 nodes instead of 4"),
        (large_constant, "bytes of new constants"),
        (other_output, "the outputs changed"),
        (nonsense, "the check could not run"),
    ],
)
def test_a_wrong_result_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch, change: Any, reason: str) -> None:
    graph = tampered(monkeypatch, change)
    printed = text_of(graph)
    result = Simplify().run(graph)
    assert result.changes == 0 and text_of(graph) == printed
    assert [s.reason for s in result.skips if reason in s.reason], result.skips


def test_the_tolerance_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Simplify(tolerance=1e-2).run(tampered(monkeypatch, slightly_off)).changes == 4


def test_a_crash_of_onnxsim_leaves_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(model: onnx.ModelProto) -> onnx.ModelProto:
        raise simplify.Failed("broken")

    monkeypatch.setattr(simplify, "simplified", crash)
    graph = graph_of(DOUBLE)
    printed = text_of(graph)
    result = Simplify().run(graph)
    assert (result.changes, [s.reason for s in result.skips]) == (0, ["onnxsim failed: broken"])
    assert text_of(graph) == printed


def test_equal_graphs_give_equal_results() -> None:
    assert len({_bytes(graph_of(DOUBLE)) for _ in range(3)}) == 1


def _bytes(graph: gs.Graph) -> bytes:
    Simplify().run(graph)
    return bytes(ir.to_model(graph).SerializeToString(deterministic=True))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ops of each graph that the check runs from now on."""
    ran: list[list[str]] = []
    real = evaluate.outputs

    def spy(graph: gs.Graph, feeds: evaluate.Arrays) -> evaluate.Arrays:
        ran.append([n.op for n in graph.nodes])
        return real(graph, feeds)

    monkeypatch.setattr(evaluate, "outputs", spy)
    return ran


def test_only_what_changed_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolutions on both sides stay as they are, so they are not part of the check."""
    graph = graph_of(
        HEAD
        + """g (float[1,2,8,8] x) => (float[1,2,4,4] y) <float[2,2,3,3] w, int64[2] a = {2, 64}, int64[3] b = {2, 8, 8},
        int64[4] c = {1, 2, 8, 8}> {
        p = Conv <pads = [1, 1, 1, 1]> (x, w)  q = Reshape (p, a)  r = Reshape (q, b)  s = Reshape (r, c)
        t = Relu (s)  y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (t, w) }""".replace(
            "float[2,2,3,3] w", f"float[2,2,3,3] w = {{{', '.join(map(str, range(36)))}}}"
        )
    )
    ran = spied(monkeypatch)
    assert Simplify().run(graph).changes == 4
    assert len(ran) == 2 and all("Conv" not in ops for ops in ran), ran


def relu_of_relu(model: onnx.ModelProto) -> None:
    """Right, but only for what comes out of the first Relu."""
    second = next(n for n in model.graph.node if n.output[0] == "c")
    second.op_type = "Abs"


COUNTS_ON_INPUT = (
    HEAD
    + """g (float[1,3,4,4] x) => (float[1,3,4,4] y)
    { a = Identity (x)  b = Relu (a)  c = Relu (b)  d = Identity (c)  y = Neg (d) }"""
)


def test_a_part_that_counts_on_what_it_is_fed_is_judged_by_the_whole_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(COUNTS_ON_INPUT.replace("a = Identity (x)  b = Relu (a)", "b = Relu (x)"))
    monkeypatch.setattr(simplify, "simplified", lambda model: _changed(model, relu_of_relu))
    ran = spied(monkeypatch)
    assert Simplify().run(graph).changes == 1
    assert ran == [["Relu"], ["Abs"], ["Relu", "Relu", "Identity", "Neg"], ["Relu", "Abs", "Identity", "Neg"]]


def _changed(model: onnx.ModelProto, change: Any) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    return copy


def test_a_part_without_known_sizes_is_judged_by_the_whole_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(DOUBLE)
    ran = spied(monkeypatch)
    assert Simplify().run(graph).changes == 4
    assert ran == [["Identity", "Relu", "Identity", "Neg"], ["Relu", "Neg"]]


def test_a_wrong_part_is_found_though_the_rest_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(COUNTS_ON_INPUT)
    monkeypatch.setattr(simplify, "simplified", lambda model: _changed(model, other_op))
    result = Simplify().run(graph)
    assert result.changes == 0 and "relative error" in result.skips[0].reason


@pytest.mark.parametrize("seed", range(20))
def test_changed_parts_have_equal_borders(seed: int) -> None:
    """Any subset of nodes, cut out of the same graph, gives what it gave inside."""
    graph = graph_of(COUNTS_ON_INPUT)
    names = [n.outputs[0].name for n in graph.nodes]
    kept = set(np.random.default_rng(seed).choice(names, size=seed % len(names), replace=False).tolist())
    parts = simplify.changed_parts(graph, graph_of(COUNTS_ON_INPUT), kept)
    assert parts is not None
    assert [t.name for t in parts[0].inputs] == [t.name for t in parts[1].inputs]
    feeds = evaluate.random_inputs(parts[0])
    assert evaluate.relative_error(evaluate.outputs(parts[0], feeds), evaluate.outputs(parts[1], feeds)) == 0


def test_a_graph_of_more_nodes_than_allowed_is_left_alone() -> None:
    check_untouched(Simplify(max_nodes=3), DOUBLE, "4 nodes, at most 3 are tried")


CONSTANT_IF = """<ir_version: 9, opset_import: ["" : 18]>
    g (int64[2] n) => (int64[1] y) <bool c = {1}, int64[1] one = {1}> {
    s, d = If (c) <then_branch = t () => (int64[1] p, int64[1] q) { p = Identity(one)  q = Identity(one) },
                   else_branch = e () => (int64[1] p2, int64[1] q2) { p2, q2 = Split <num_outputs = 2> (n) }>
    y = Add(s, d) }"""
NO_STRIDE = (
    HEAD
    + """g (float[1,3,8,8] x) => (float[1,3,H,W] y) {
    y = MaxPool <kernel_shape = [2, 2], strides = [0, 0]> (x) }"""
)


@pytest.mark.parametrize(("text", "signal"), [(CONSTANT_IF, "SIGSEGV"), (NO_STRIDE, "SIGFPE")])
def test_a_graph_that_ends_onnxsim_s_process_is_left_alone(text: str, signal: str) -> None:
    """What onnxsim 0.8.1 does; another version may manage, and then the graph is what the check agreed to."""
    graph = graph_of(text)
    printed = text_of(graph)
    result = Simplify().run(graph)
    if result.changes == 0 and result.skips:
        assert [s.reason for s in result.skips] == [f"onnxsim failed: its process ended with {signal}"]
        assert text_of(graph) == printed
    else:
        assert metadata("onnxsim") != "0.8.1"


def test_the_process_of_onnxsim_has_limits_of_time_and_memory() -> None:
    model = ir.to_model(graph_of(DOUBLE))
    with pytest.raises(simplify.Failed, match="did not finish within 0 s"):
        simplify.simplified(model, seconds=0.01)
    with pytest.raises(simplify.Failed):
        simplify.simplified(model, memory=64 << 20)


def test_a_missing_onnxsim_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="onnxsim is not installed") as caught:
        Simplify().run(graph_of(DOUBLE))
    assert "pip install 'segc[simplify]'" in str(caught.value)
