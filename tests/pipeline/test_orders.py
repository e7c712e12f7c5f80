"""Every target's standard pipeline in other orders: what does harm is refused, and what is accepted does none.

Orders are made by moving passes about, a move at a time, as long as the pipeline accepts it; so one order is far from
the written one. Its result must be legal for the target, compute the same numbers and have no more nodes.
"""

from __future__ import annotations

import functools
import random
import zlib
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.graph.invariants import INVARIANTS
from segc.legality import report
from segc.passes.base import Pass
from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.masks.strip_final_resize import StripFinalResize
from segc.passes.support import evaluate
from segc.pipeline import stages
from segc.pipeline.hooks import CheckInvariants
from segc.pipeline.pipeline import Pipeline, PipelineError
from segc.targets.protocol import Settings
from tests.helpers import random_models
from tests.helpers.run_graph import graph_of

MOVES = 50  # tried for each order
SHUFFLES = 10
STATIC = (1, 16, 24)
OUTPUTS = ("logits", "mask", "host")
MOVED_AWAY = 30
ANYTHING = frozenset(INVARIANTS)  # a pipeline that assumes everything takes any order


@dataclass(frozen=True)
class Case:
    """A standard pipeline: of a target with these settings, of one size or dynamic."""

    target: str
    static: bool
    output: str
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.target}-{'static' if self.static else 'dynamic'}-{self.output}-{self.precision}"

    @functools.cached_property
    def configured(self) -> targets.Target:
        plain = targets.get(self.target)
        settings = Settings(precision=self.precision, options={"half": "all"})
        return plain if self.precision == "fp32" else plain.configure(plain, settings)

    def pipeline(self) -> Pipeline:
        bytes_in = self.configured.accepts_uint8 and self.output == "mask"
        return stages.standard(
            self.configured, shape=STATIC if self.static else None, mask=self.output == "mask", threshold=0.5,
            leave=StripFinalResize() if self.output == "host" else None,
            images=FoldPreprocessing() if bytes_in else None, simplify=False,
        )  # fmt: skip


CASES = [Case(name, static, output) for name in targets.names() for static in (True, False) for output in OUTPUTS]
CASES += [Case(name, True, "mask", "fp16") for name in ("onnxruntime", "tensorrt")]

# What the orders of passes matter for in few nodes: a Pad before a convolution, BatchNormalization behind it, odd
# channels beside a block, PRelu, two equal pools, shape arithmetic, a 1x1 convolution above its Resize, an Identity.
HAZARDS = """<ir_version: 9, opset_import: ["" : 20, "segc" : 1]>
g (float[N,3,H,W] x) => (float[N,3,H,W] y)
<float[16,3,3,3] w = {W}, float[4,19,1,1] v = {V}, float[3,12,1,1] u = {U}, float[16] one = {ONE},
 float[16] var = {VAR}, float[19,1,1] slope = {SLOPE}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int64[1] two = {2},
 int64[1] four = {4}, int64[1] three = {3}> {
    p = Pad (x, pads)  i = Identity (p)  c = Conv (i, w)  b = BatchNormalization (c, one, one, one, var)
    j = Concat <axis = 1> (b, x)  r = PRelu (j, slope)  f = Conv (r, v)
    q = segc.AdaptiveAvgPool2d <output_size = [3, 2]> (f)  q2 = segc.AdaptiveAvgPool2d <output_size = [3, 2]> (f)
    s = Shape (f)  hw = Slice (s, two, four)  nc = Slice (s, zero, two)  size = Concat <axis = 0> (nc, hw)
    z = Resize <mode = "linear"> (q, none, none2, size)  z2 = Resize <mode = "linear"> (q2, none, none2, size)
    k = Concat <axis = 1> (z, z2, f)  o = Conv (k, u)  d = Identity (o)  y = Softmax <axis = 1> (d) }"""


def numbers(count: int, seed: int) -> str:
    return "{" + ", ".join(f"{v:.3f}" for v in np.random.default_rng(seed).uniform(0.1, 1, count)) + "}"


@functools.cache
def hazards() -> onnx.ModelProto:
    text = HAZARDS.replace("int64[1] two", "int64[1] zero = {0}, int64[1] two").replace("none, none2", ",")
    for name, count in (("{W}", 432), ("{V}", 76), ("{U}", 36), ("{ONE}", 16), ("{VAR}", 16), ("{SLOPE}", 19)):
        text = text.replace(name, numbers(count, zlib.crc32(name.encode())))
    return onnx.parser.parse_model(text)


def transformed(pipeline: Pipeline, model: onnx.ModelProto, *, check: bool = True) -> gs.Graph:
    graph = graph_of(model)
    pipeline.run(graph, [CheckInvariants(pipeline)] if check else [])
    return graph


def reordered(pipeline: Pipeline, passes: tuple[Pass, ...]) -> Pipeline:
    """Raises PipelineError where the order is refused."""
    return Pipeline(pipeline.name, passes, promised=pipeline.promised)


def accepted(pipeline: Pipeline, rng: random.Random) -> Pipeline:
    """An order that is accepted, many moves away."""
    found = pipeline
    for _ in range(MOVES):
        passes = list(found.passes)
        step = passes.pop(rng.randrange(len(passes)))
        passes.insert(rng.randrange(len(passes) + 1), step)
        try:
            found = reordered(pipeline, tuple(passes))
        except PipelineError:
            continue
    return found


def outputs(graph: gs.Graph) -> np.ndarray:
    """What the graph computes of random numbers, by name of the input."""
    (x,) = graph.inputs
    shape = [size if isinstance(size, int) else given for size, given in zip(x.shape, (1, 3, 16, 24), strict=True)]
    rng = np.random.default_rng(5)
    value = rng.integers(0, 256, shape) if x.dtype == np.uint8 else rng.standard_normal(shape)
    return next(iter(evaluate.outputs(graph, {x.name: value.astype(x.dtype)}).values()))


def refusals(graph: gs.Graph, case: Case) -> set[str]:
    return {refusal.reason for refusal in report.refusals(graph, case.configured)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reversed_order_is_refused(case: Case) -> None:
    pipeline = case.pipeline()
    with pytest.raises(PipelineError, match="requires '"):
        reordered(pipeline, pipeline.passes[::-1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shuffled_orders_are_refused(case: Case) -> None:
    """Of so many passes no random order is right."""
    pipeline, rng = case.pipeline(), random.Random(str(case))
    for _ in range(SHUFFLES):
        with pytest.raises(PipelineError, match="requires '"):
            reordered(pipeline, tuple(rng.sample(pipeline.passes, len(pipeline.passes))))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_accepted_orders_do_no_harm(case: Case) -> None:
    pipeline, rng = case.pipeline(), random.Random(str(case))
    model = hazards() if case.static else random_models.model(rng.randrange(10**6), 9)
    other = accepted(pipeline, rng)
    assert sum(a is not b for a, b in zip(pipeline.passes, other.passes, strict=True)) > 5, "another order"
    want, got = transformed(pipeline, model, check=False), transformed(other, model)
    order = " ".join(step.name for step in other.passes)
    assert refusals(got, case) <= refusals(want, case), order
    assert len(got.nodes) <= len(want.nodes), order
    assert [(t.name, t.dtype) for t in got.outputs] == [(t.name, t.dtype) for t in want.outputs], order
    if case.precision == "fp16":  # rounds by the order of sums; what it decides is compared elsewhere
        return
    before, after = outputs(want), outputs(got)
    if before.dtype == np.float32:
        assert evaluate.relative_error({"y": before}, {"y": after}) <= 2e-4, order
    else:
        assert (before == after).mean() > 0.99, order


def harm(case: Case, passes: tuple[Pass, ...], want: gs.Graph) -> str:
    """What is worse in this order than in the written one, whose result is `want`; "" for nothing."""
    try:
        got = transformed(Pipeline("any", passes, assumed=ANYTHING), hazards(), check=False)
    except (ValueError, AssertionError) as error:
        return f"raises {error}"
    if worse := refusals(got, case) - refusals(want, case):
        return f"is illegal: {worse}"
    if len(got.nodes) > len(want.nodes):
        return f"has {len(got.nodes)} nodes, not {len(want.nodes)}"
    as_written = [(t.name, t.dtype) for t in want.outputs] == [(t.name, t.dtype) for t in got.outputs]
    return "" if as_written else "has other outputs"


@pytest.mark.parametrize("name", targets.names())
def test_moves_that_do_harm_are_refused(name: str) -> None:
    case, rng, harmful = Case(name, True, "mask"), random.Random(name), 0
    pipeline = case.pipeline()
    want = transformed(pipeline, hazards(), check=False)
    both = [(step, first) for step in dict.fromkeys(s.name for s in pipeline.passes) for first in (True, False)]
    for moved, first in rng.sample(both, MOVED_AWAY):
        those = tuple(step for step in pipeline.passes if step.name == moved)
        others = tuple(step for step in pipeline.passes if step.name != moved)
        passes = (*those, *others) if first else (*others, *those)
        if why := harm(case, passes, want):
            harmful += 1
            with pytest.raises(PipelineError):
                reordered(pipeline, passes)
                pytest.fail(f"with '{moved}' {'first' if first else 'last'} the result {why}")
    assert harmful >= 2, "moves that do harm were tried"


@pytest.mark.parametrize(
    ("target", "moved", "behind", "invariant"),
    [
        ("onnxruntime", "fuse-conv-batchnorm", "winograd", "batchnorms fused"),
        ("onnxruntime", "split-conv-over-concat", "winograd", "channel blocks filled"),
        ("onnxruntime", "sink-upsample-below-conv", "winograd", "batchnorms fused"),
        ("openvino", "pad-channels-to-block", "winograd", "channel blocks filled"),
        ("openvino", "append-argmax", "fold-argmax", "argmax folded"),
        ("onnxruntime", "fold-argmax", "lower-resize-argmax-cells", "argmax folded"),
        ("onnxruntime", "specialize-shapes", "fold-preprocessing", "planar input"),
        ("tensorrt", "fold-preprocessing", "legalize-unsigned-input", "portable"),
        ("ncnn", "lower-resize-argmax", "legalize-argmax", "no segc.ResizeArgMax"),
        ("ncnn", "specialize-shapes", "legalize-einsum", "portable"),
        ("pplnn", "legalize-group-normalization", "legalize-instance-normalization", "no InstanceNormalization"),
        ("pplnn", "legalize-gelu", "legalize-arithmetic", "arithmetic legalized"),
        ("pplnn", "legalize-resize", "lower-opset", "recent opset"),
        ("pplnn", "legalize-layer-normalization", "lower-opset", "no LayerNormalization"),
    ],
)  # fmt: skip
def test_known_mistakes_are_refused_for_their_reason(target: str, moved: str, behind: str, invariant: str) -> None:
    pipeline = Case(target, True, "mask").pipeline()
    names = [step.name for step in pipeline.passes]
    first, last = len(names) - 1 - names[::-1].index(moved), len(names) - 1 - names[::-1].index(behind)
    assert first < last, "written the right way round"
    passes = [step for step in pipeline.passes if step.name != moved]
    at = len(passes) - 1 - [step.name for step in passes][::-1].index(behind)
    passes.insert(at + 1, pipeline.passes[first])
    with pytest.raises(PipelineError) as error:
        reordered(pipeline, tuple(passes))
    assert f"'{invariant}'" in str(error.value)


def test_half_precision_comes_last() -> None:
    pipeline = Case("onnxruntime", True, "mask", "fp16").pipeline()
    *rest, half = pipeline.passes
    assert half.name == "convert-to-fp16"
    for index in range(len(rest)):
        with pytest.raises(PipelineError, match=r"requires '(single precision|portable)'"):
            reordered(pipeline, (*rest[:index], half, *rest[index:]))


def test_group_normalization_is_legal_for_pplnn_now_that_the_order_is_right() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[1,4,16,24] x) => (float[1,4,16,24] y)
        <float[2] s = {1, 2}, float[2] b = {0, 1}> { y = GroupNormalization <num_groups = 2> (x, s, b) }"""
    case = Case("pplnn", True, "logits")
    graph = transformed(case.pipeline(), onnx.parser.parse_model(text))
    assert refusals(graph, case) == set() and "ReduceMean" in {node.op for node in graph.nodes}
