from __future__ import annotations

import numpy as np
import pytest

from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.precision.convert_to_fp16_measured import STEPS, ConvertToFp16Measured, candidates
from segc.passes.support.dtypes import F16
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of

WELL = (
    HEAD20
    + """g (float[1,3,8,8] x) => (float[1,2,8,8] y) <float[2,3,1,1] w = {1, 0, -1, -1, 1, 2}> {
    a = Relu (x)  b = Conv (a, w)  y = Neg (b) }"""
)
# Whether 4096 x + 2048 is even is lost where x is rounded, and decides the class.
ILL = (
    HEAD20
    + """g (float[1,3,H,W] x) => (float[1,2,H,W] y)
    <float[2,3,1,1] w = {1, 0, 0, 0, 0, 0}, float[2] bias = {0, 0.1}, float up = {4096}, float s = {0.25}> {
    a = Mul (x, up)  b = Sin (a)  c = Mul (b, s)  d = Relu (c)  e = Conv (d, w, bias)  f = Relu (e)  y = Neg (f) }"""
)


def test_what_keeps_the_classes_is_half_throughout() -> None:
    graph = check_pass(ConvertToFp16Measured(), WELL, None, atol=2e-2, changes=3)
    assert all(n.inputs[0].dtype == F16 for n in graph.nodes if n.op in ("Relu", "Conv", "Neg"))


def test_early_layers_stay_where_rounding_them_changes_classes() -> None:
    graph = graph_of(ILL)
    result = apply(ConvertToFp16Measured(side=16), graph)
    assert result.changes == 5 and any("early layers" in s.reason for s in result.skips)
    dtypes = {n.op: n.inputs[0].dtype for n in graph.nodes}
    assert dtypes["Sin"] == np.float32 and dtypes["Neg"] == F16


def test_what_reads_or_writes_large_values_stays() -> None:
    graph = check_pass(
        ConvertToFp16Measured(),
        HEAD20
        + """g (float[1,3,8,8] x) => (float[1,3,8,8] y) <float up = {30000}> {
            a = Relu (x)  b = Mul (a, up)  c = Mul (b, up)  d = Div (c, up)  e = Div (d, up)  y = Neg (e) }""",
        None,
        atol=2e-2,
        changes=2,
    )
    single = [n.op for n in graph.nodes if n.op != "Cast" and n.inputs[0].dtype == np.float32]
    assert single == ["Mul", "Mul", "Div", "Div"]


def test_what_costs_most_may_be_among_the_last_nodes() -> None:
    chain = "r0 = Relu (x)" + "".join(f"  r{i + 1} = Relu (r{i})" for i in range(99))
    graph = graph_of(ILL.replace("a = Mul (x, up)", f"{chain}  a = Mul (r99, up)"))
    apply(ConvertToFp16Measured(side=16), graph)
    dtypes = {n.op: n.inputs[0].dtype for n in graph.nodes}
    assert dtypes["Sin"] == np.float32 and dtypes["Neg"] == F16


def test_images_are_measured_as_images() -> None:
    graph = graph_of(ILL.replace("H,W", "16,16"))
    FoldPreprocessing((0, 0, 0), (100, 100, 100)).run(graph)  # steps of 0.01, which float16 rounds
    result = apply(ConvertToFp16Measured(), graph)
    assert result.changes == 5 and not any("not measured" in s.reason for s in result.skips)
    assert any("early layers" in s.reason for s in result.skips)


def test_nothing_is_measured_where_the_input_is_no_image() -> None:
    graph = check_pass(
        ConvertToFp16Measured(),
        HEAD20 + "g (float[4,3] x) => (float[4,3] y) { a = Sin (x)  y = Relu (a) }",
        None,
        atol=1e-3,
        changes=2,
    )
    assert all(n.inputs[0].dtype == F16 for n in graph.nodes if n.op != "Cast" or n.outputs[0].name != "x_half")


def test_what_onnx_runtime_refuses_is_converted_without_measuring() -> None:
    graph = graph_of(
        HEAD20
        + """g (float[1,3,4,4] x) => (float[1,3,2,8] y) <int64[4] s = {1, 3, 5, 7}>
        { a = Relu (x)  y = Reshape (a, s) }"""
    )
    result = ConvertToFp16Measured().run(graph)
    assert result.changes == 1 and any("not measured" in s.reason for s in result.skips)


def test_a_graph_that_is_half_already_is_left_alone() -> None:
    check_untouched(
        ConvertToFp16Measured(),
        HEAD20
        + """g (float[1,3,4,4] x) => (float[1,3,4,4] y)
        { h = Cast <to = 10> (x)  s = Cast <to = 1> (h)  a = Relu (s)  y = Neg (a) }""",
        None,
    )


@pytest.mark.parametrize("nodes", [1, 3, 40])
def test_depths_tried_ascend_and_begin_with_none(nodes: int) -> None:
    chain = "  ".join(f"t{i + 1} = Relu (t{i})" for i in range(nodes))
    graph = graph_of(HEAD20 + f"g (float[N,3] t0) => (float[N,3] y) {{ {chain}  y = Neg (t{nodes}) }}")
    found = candidates(graph)
    assert found[0] == 0 and found == sorted(set(found)) and len(found) <= STEPS + 1 + (nodes + 1) // STEPS
    assert found[-1] == nodes + 1  # the last node alone


@pytest.mark.parametrize(
    "given",
    ["float[1,C,8,8] x", "float x", "uint8[1,8,8,4] x", "uint8[1,H,W,3] x"],
    ids=["an unknown count of channels", "a scalar", "images of four channels", "images of any size"],
)
def test_other_inputs_are_converted_without_measuring(given: str) -> None:
    """The largest value is not looked at, or Mul would stay in float32."""
    first = "f = Cast <to = 1> (x)  a = Mul (f, up)" if "uint8" in given else "a = Mul (x, up)"
    shape = given.partition("[")[2].partition("]")[0]
    out = f"float[{shape}]" if shape else "float"
    graph = graph_of(f"{HEAD20} g ({given}) => ({out} y) <float up = {{60000}}> {{ {first}  y = Neg (a) }}")
    result = apply(ConvertToFp16Measured(largest=1.0), graph)
    assert result.changes == 2 and not any("exceeds" in skip.reason for skip in result.skips)
    assert [skip.node for skip in result.skips] == (["Cast/f"] if "uint8" in given else [])
