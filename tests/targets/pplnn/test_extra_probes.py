"""What failed in the further measurements (`x86_probe_extra`) is refused or rewritten, too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.graph import ir
from segc.legality import report
from segc.passes.support import evaluate
from segc.targets import pplnn
from segc.targets.pplnn.target import PPLNN
from tests.helpers.pplnn_patterns import violations
from tests.helpers.tiny_models import parsed

FACTS = json.loads(Path(pplnn.__file__).with_name("facts.json").read_text())
FAILED = {
    name
    for lines in FACTS["x86_probe_extra"].values()
    for name, _, results in (line.partition(" | ") for line in lines)
    if not results.startswith("base:ok")
}


def residual(channels: int, side: int, after: str = "y = Add(c, x)") -> str:
    return f"""g (float[1,{channels},{side},{side}] x, float[{channels},{channels},3,3] w)
        => (float[1,{channels},{side},{side}] y)
        {{ c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)  {after} }}"""


def slices(axis: int, start: int, end: int, step: int) -> str:
    return f"""g (float[1,8,6,7] x) => (float[a,b,c,d] y)
        <int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] a = {{{axis}}}, int64[1] t = {{{step}}}>
        {{ y = Slice (x, s, e, a, t) }}"""


def softmax(shape: str) -> str:
    return f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Softmax <axis = 1> (x) }}"


def gather(count: int, axis: int) -> str:
    return f"""g (float[4,5,6] x, int32[{count}] i) => (float[a,b,c] y) {{ y = Gather <axis = {axis}> (x, i) }}"""


RELU = "r = Relu(x)  c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r, w)  y = Add(c, r)"
SUM_RELU = "s = Add(c, x)  y = Relu(s)"
TEXTS: dict[str, tuple[int, str]] = {
    **{f"16x{side} conv3+add(x)": (11, residual(16, side)) for side in (12, 40)},
    **{f"16x{side} conv3+add(x)+relu": (11, residual(16, side, SUM_RELU)) for side in (12, 40)},
    "8ch conv + its own input (8->8)": (11, residual(8, 12)),
    "3ch conv + its own input (3->3, e.g. image residual)": (11, residual(3, 12)),
    "16ch conv(relu(x)) + relu(x), relu(x) ndarray": (
        11, residual(16, 12).partition("{ c =")[0] + "{" + RELU + "}",
    ),
    **{f"Softmax13 ({shape}) axis1": (13, softmax(shape)) for shape in ("1, 8, 6, 7", "1, 19, 33, 35")},
    "Softmax13 3D axis1 inner 5": (13, softmax("2, 8, 5")),
    **{f"Slice axis-1 start0 end{end} step2": (11, slices(-1, 0, end, 2)) for end in (4, 2**31 - 1, 2**62, 2**63 - 1)},
    **{f"Slice negative axis {axis} start1 end3 step1": (11, slices(axis, 1, 3, 1)) for axis in (-1, -2)},
    "Slice all axes given, order [2,0,1]": (11, """g (float[4,5,6] x) => (float[a,b,c] y)
        <int64[3] s = {1, 0, 2}, int64[3] e = {5, 3, 4}, int64[3] a = {2, 0, 1}> { y = Slice (x, s, e, a) }"""),
    "Abs 64 elems": (11, "g (float[64] x) => (float[64] y) { y = Abs(x) }"),
    "MatMul 1D rhs": (11, "g (float[3,4] x, float[4] v) => (float[3] y) { y = MatMul(x, v) }"),
    "Gather int32 indices [1,2]": (11, gather(2, 1)),
    "Gather int32 indices [0,1,2] axis0": (11, gather(3, 0)),
    "LSTM 3 outputs no init": (11, """g (float[5,2,3] x, float[1,16,3] w, float[1,16,4] r, float[1,32] b)
        => (float[5,1,2,4] y, float[1,2,4] h, float[1,2,4] c) { y, h, c = LSTM <hidden_size = 4> (x, w, r, b) }"""),
    "GroupNorm torch11 form: Reshape(0,32,-1)+InstanceNorm": (
        11, """g (float[1,64,6,7] x, float[32] s, float[32] b) => (float[1,32,84] y) <int64[3] to = {0, 32, -1}>
        { r = Reshape(x, to)  y = InstanceNormalization(r, s, b) }""",
    ),
}  # fmt: skip


def graph_of(name: str) -> gs.Graph:
    opset, text = TEXTS[name]
    graph = ir.from_model(parsed(text, opset))
    ir.infer_shapes(graph)
    return graph


def test_every_failure_has_a_model() -> None:
    assert TEXTS.keys() == FAILED


@pytest.mark.parametrize("name", TEXTS)
def test_what_failed_is_refused_or_rewritten(name: str) -> None:
    before, after = graph_of(name), graph_of(name)
    assert before.opset != 11 or report.refusals(before, PPLNN), "the table would take it as it is"
    for step in PPLNN.legalize:
        if step.run(after).changes:
            ir.name_all(ir.cleanup(after))
    if report.refusals(after, PPLNN):
        return
    assert violations(ir.to_model(after, functions=False), "x86") == []
    rng = np.random.default_rng(0)
    feeds = {
        t.name: (rng.integers(0, 3, t.shape) if t.dtype != np.float32 else rng.standard_normal(t.shape)).astype(t.dtype)
        for t in before.inputs
    }
    want, got = evaluate.outputs(before, feeds), evaluate.outputs(after, feeds)
    assert evaluate.relative_error(want, got) <= 1e-5


def test_most_of_them_are_rewritten() -> None:
    """Only recurrent layers without their initial states have no other spelling."""
    left = set()
    for name in TEXTS:
        graph = graph_of(name)
        for step in PPLNN.legalize:
            if step.run(graph).changes:
                ir.name_all(ir.cleanup(graph))
        if report.refusals(graph, PPLNN):
            left.add(name)
    assert left == {"LSTM 3 outputs no init"}
