"""Every row of ncnn's table: models with that operator are emitted, run, and compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.registry import LOWERINGS
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Settings

# What each operator is tried with; x is float32 (1, 4, 6, 8). Several bodies are several models.
BODIES: dict[str, list[str]] = {
    "Acos": ["t = Tanh(x)  y = Acos(t)"],
    "Acosh": ["t = Abs(x)  u = Add(t, one)  y = Acosh(u)"],
    "Add": ["y = Add(x, row)", "y = Add(c411, x)", "a = Transpose<perm = [0, 2, 3, 1]>(x)  y = Add(a, c4)"],
    "And": ["a = Greater(x, zero)  b = Less(x, one)  c = And(a, b)  y = Cast<to = 1>(c)"],
    "Asin": ["t = Tanh(x)  y = Asin(t)"],
    "Atanh": ["t = Tanh(x)  u = Mul(t, half)  y = Atanh(u)"],
    "AveragePool": [
        "y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 0]>(x)",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)",
        'y = AveragePool<kernel_shape = [3, 4], strides = [1, 2], auto_pad = "SAME_UPPER">(x)',
    ],
    "BatchNormalization": ["y = BatchNormalization(x, c4, d4, c4, p4)"],
    "Cast": ["a = Cast<to = 6>(x)  y = Cast<to = 1>(a)", "a = Cast<to = 9>(x)  y = Cast<to = 1>(a)"],
    "Clip": ["y = Clip(x, zero, one)", "y = Clip(x, , half)", "y = Clip(x, zero)"],
    "Concat": ["a = Neg(x)  y = Concat<axis = 1>(x, a)",
               "y = Concat<axis = -1>(x, x, x)", "y = Concat<axis = 0>(x, x)"],
    "Conv": [
        "y = Conv<strides = [2, 1], pads = [1, 1, 1, 1], dilations = [1, 2]>(x, w)",
        "a = Conv<pads = [0, 1, 2, 1]>(x, w, d4)  y = Relu(a)",
        "y = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w2)",
        "y = Conv<group = 4, pads = [1, 1, 1, 1]>(x, w1)",
        'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 3]>(x, w)',
        "a = ReduceMean(x, axes2)  b = Mul(w1, c4111)  c = Add(b, a3)  y = Conv<group = 4, pads = [1, 1, 1, 1]>(x, c)",
        "a = Reshape(x, line)  y = Conv<pads = [0, 1]>(a, w_line, d4)",
    ],
    "ConvTranspose": [
        "y = ConvTranspose<strides = [2, 2]>(x, w)",
        "y = ConvTranspose<strides = [2, 3], pads = [1, 0, 1, 1], output_padding = [1, 2]>(x, w, d4)",
        "y = ConvTranspose<group = 2, strides = [2, 2]>(x, w2)",
        "y = ConvTranspose<group = 4, dilations = [2, 1]>(x, w1)",
    ],
    "Cosh": ["y = Cosh(x)"],
    "CumSum": ["y = CumSum(x, axis2)", "a = Reshape(x, flat)  y = CumSum(a, axis1)"],
    "DepthToSpace": ["y = DepthToSpace<blocksize = 2>(x)", 'y = DepthToSpace<blocksize = 2, mode = "CRD">(x)'],
    "Div": ["t = Abs(x)  u = Add(t, one)  y = Div(x, u)", "y = Div(x, half)", "t = Exp(x)  y = Div(half, t)"],
    "Dropout": ["y = Dropout(x)"],
    "Equal": ["a = Round(x)  b = Equal(a, zero)  y = Cast<to = 1>(b)"],
    "Expand": ["a = ReduceMax(x, axes)  y = Expand(a, shape)", "a = Reshape(x, flat)  y = Expand(a, twice)"],
    "Flatten": ["y = Flatten<axis = 2>(x)", "y = Flatten<axis = 0>(x)"],
    "Gather": [
        "y = Gather<axis = 2>(x, picks)", "y = Gather<axis = 1>(x, pick)", "y = Gather<axis = 3>(x, run)",
        "a = Transpose<perm = [2, 0, 1, 3]>(x)  y = Gather<axis = 0>(a, pick)",
        "a = Reshape(x, one_row)  y = Gather<axis = 1>(a, many)", "y = Gather<axis = 2>(x, wild)",
        "a = Reshape(x, one_row)  v, i = TopK(a, seventy)  y = Gather<axis = 1>(a, i)",
    ],
    "Gelu": ["y = Gelu(x)", 'y = Gelu<approximate = "tanh">(x)'],
    "Gemm": ["a = Reshape(x, wide)  y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(a, square, c4)",
             "a = Reshape(x, wide)  y = Gemm(a, square)",
             "a = GlobalAveragePool(x)  b = Reshape(a, four_row)  c = Gemm<beta = 2.0>(b, square, d4)  d = Sigmoid(c)"
             "  y = Gemm<transB = 1, alpha = 0.5>(d, square)"],
    "GlobalAveragePool": ["y = GlobalAveragePool(x)"],
    "Greater": ["b = Greater(x, zero)  y = Cast<to = 1>(b)"],
    "GreaterOrEqual": ["a = Round(x)  b = GreaterOrEqual(a, one)  y = Cast<to = 1>(b)"],
    "GridSample": [
        "y = GridSample<align_corners = 1>(x, grid)",
        'y = GridSample<mode = "nearest", padding_mode = "border">(x, grid)',
        'y = GridSample<mode = "cubic", padding_mode = "reflection">(x, grid)',
    ],
    "GroupNormalization": [],  # below, at the opset that gives it a scale for each channel
    "InstanceNormalization": ["y = InstanceNormalization(x, c4, d4)"],
    "LayerNormalization": ["y = LayerNormalization<axis = -1>(x, c8)",
                           "y = LayerNormalization<axis = 1>(x, c468, d468)"],
    "LeakyRelu": ["y = LeakyRelu<alpha = 0.3>(x)", "a = Conv(x, w)  y = LeakyRelu(a)"],
    "Less": ["b = Less(x, zero)  y = Cast<to = 1>(b)"],
    "LessOrEqual": ["a = Round(x)  b = LessOrEqual(a, one)  y = Cast<to = 1>(b)"],
    "Log": ["t = Abs(x)  u = Add(t, one)  y = Log(u)"],
    "LogSoftmax": ["y = LogSoftmax<axis = 1>(x)"],
    "LpNormalization": ["y = LpNormalization<axis = 1, p = 2>(x)", "a = Mul(x, zero)  y = LpNormalization<p = 1>(a)"],
    "MatMul": [
        "a = Transpose<perm = [0, 1, 3, 2]>(x)  y = MatMul(x, a)",
        "a = Transpose<perm = [0, 2, 3, 1]>(x)  y = MatMul(a, square)",
        "a = Reshape(x, wide)  b = MatMul(a, square)  y = Add(b, c4)",
        "y = MatMul(six, x)",
        "a = GlobalMaxPool(x)  b = Reshape(a, one_token)  c = MatMul(b, square)  y = Add(c, d4)",
        "a = Reshape(x, five)  b = Transpose<perm = [0, 1, 2, 4, 3]>(a)  y = MatMul(a, b)",
    ],
    "Max": ["y = Max(x, zero, row)"],
    "MaxPool": [
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(x)",
        "y = MaxPool<kernel_shape = [2, 3], strides = [2, 3]>(x)",
    ],
    "Mean": ["y = Mean(x, row)"],
    "Min": ["y = Min(x, zero, row)"],
    "Mod": ["a = Cast<to = 7>(x)  b = Mod(a, five7)  y = Cast<to = 1>(b)"],
    "Mul": ["y = Mul(x, row)", "y = Mul(x, c411)", "y = Mul(x, x)", "y = Mul(x, half)"],
    "Not": ["b = Greater(x, zero)  c = Not(b)  y = Cast<to = 1>(c)"],
    "Or": ["a = Greater(x, one)  b = Less(x, zero)  c = Or(a, b)  y = Cast<to = 1>(c)"],
    "PRelu": ["y = PRelu(x, c411)", "y = PRelu(x, half)"],
    "Pad": [
        'a = Pad(x, pads)  b = Pad<mode = "reflect">(x, pads)  y = Add(a, b)',
        'y = Pad<mode = "edge">(x, pads)', "y = Pad(x, pads_c, half)", "y = Pad(x, cuts)",
        "a = Reshape(x, five)  y = Pad(a, pads5)",
    ],
    "Pow": [*(f"y = Pow(x, {p})" for p in ("two", "three", "four", "one")), "a = Exp(x)  y = Pow(a, half)"],
    "Reciprocal": ["t = Abs(x)  u = Add(t, one)  y = Reciprocal(u)"],
    **{f"Reduce{kind}": [f"y = Reduce{kind}<keepdims = {keep}>(x, axes{axes})" for keep in (0, 1) for axes in ("", "2")]
       for kind in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare", "LogSumExp")},
    "Reshape": ["y = Reshape(x, flat)", "y = Reshape(x, five)"],
    "Resize": [
        'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , scales)',
        'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , , sizes)',
        'y = Resize<mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel">(x, , , sizes)',
        'y = Resize<mode = "cubic", coordinate_transformation_mode = "half_pixel">(x, , , sizes)',
        'y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
        "(x, , , sizes)",
        'y = Resize<mode = "nearest", coordinate_transformation_mode = "half_pixel">(x, , twofold)',
        'a = GlobalAveragePool(x)  y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">'
        "(a, , , sizes)",
    ],
    "Slice": ["y = Slice(x, from, to, axes2, step)", "y = Slice(x, last, first, axes_w, back)",
              "a = Reshape(x, flat)  y = Slice(a, from1, to1, axis1s)"],
    "Softmax": ["y = Softmax<axis = 1>(x)", "y = Softmax(x)", "a = Reshape(x, five)  y = Softmax<axis = 2>(a)"],
    "SpaceToDepth": ["y = SpaceToDepth<blocksize = 2>(x)"],
    "Split": ["a, b = Split<axis = 1, num_outputs = 2>(x)  y = Mul(a, b)",
              "a, b = Split<axis = 3>(x, parts)  y = Concat<axis = 3>(b, a)"],
    "Sqrt": ["t = Abs(x)  y = Sqrt(t)"],
    "Squeeze": ["a = Squeeze(x, axis0)  y = Unsqueeze(a, axis0)"],
    "Sub": ["y = Sub(x, row)", "y = Sub(one, x)"],
    "Sum": ["y = Sum(x, x, row)"],
    "Tile": ["y = Tile(x, repeats)"],
    "TopK": [
        "y, i = TopK<axis = 1>(x, one1)", "y, i = TopK<axis = 1>(x, two1)", "y, i = TopK(x, two1)",
        "a = Round(x)  y, i = TopK<axis = 1>(a, two1)",
        "a = Reshape(x, one_row)  v, i = TopK(a, seventy)  b = Cast<to = 1>(i)  y = Concat<axis = 0>(v, b)",
        "a = Reshape(x, one_row)  v, i = TopK(a, all_cells)  b = Cast<to = 1>(i)  y = Concat<axis = 0>(v, b)",
    ],
    "ScatterElements": [
        "y = ScatterElements<axis = 2>(x, third, c4181)",
        "a = Reshape(x, one_row)  v, i = TopK(a, seventy)  b = Neg(v)  y = ScatterElements<axis = 1>(a, i, b)",
        "a = Reshape(x, one_row)  v, i = TopK(a, one1)  b = Exp(v)  y = ScatterElements<axis = 1>(a, i, b)",
        "a = Reshape(x, flat)  m = ReduceMax<keepdims = 0>(a, axis1s)  v, i = TopK(m, seven)  j = Unsqueeze(i, axis1s)"
        "  k = Expand(j, rows)  u = Expand(v, rows)  y = ScatterElements<axis = 2>(a, k, u)",
    ],
    "Transpose": ["y = Transpose<perm = [0, 2, 3, 1]>(x)", "y = Transpose(x)",
                  "a = Reshape(x, five)  y = Transpose<perm = [0, 3, 1, 4, 2]>(a)"],
    "Unsqueeze": ["a = Unsqueeze(x, axis0)  y = Squeeze(a, axis0)"],
    "Where": ["b = Greater(x, zero)  y = Where(b, x, row)"],
    "Xor": ["a = Greater(x, one)  b = Less(x, half)  c = Xor(a, b)  y = Cast<to = 1>(c)"],
    "segc::AdaptiveAvgPool2d": [
        f"y = segc.AdaptiveAvgPool2d<output_size = [{sides}]>(x)" for sides in ("1, 1", "4, 3", "-1, 5")
    ],
}  # fmt: skip
RNG = np.random.default_rng(3)


def floats(*shape: int) -> str:
    return "{" + ", ".join(f"{v:.3f}" for v in RNG.standard_normal(int(np.prod(shape)))) + "}"


CONSTANTS = f"""float zero = {{0}}, float one = {{1}}, float half = {{0.5}}, float two = {{2}}, float three = {{3}},
    float four = {{4}}, float[4] c4 = {{1, 2, 3, 4}}, float[4] d4 = {{4, 3, -2, 1}}, float[4] p4 = {{1, 2, 0.5, 3}},
    float[8] c8 = {{1, 2, 3, 4, 5, 6, 7, 8}}, float[8] row = {{0.1, -0.2, 0.3, 1, 2, -1, 0.5, 1.5}},
    float[4,1,1] c411 = {{0.3, -1, 2, 0.25}}, float[4,1,1,1] c4111 = {{0.3, -1, 2, 0.25}},
    float[4,6,8] c468 = {floats(192)},
    float[4,6,8] d468 = {floats(192)}, float[4,4] square = {floats(16)}, float[1,4,5,6] six = {floats(120)},
    float[4,4,3,3] w = {floats(144)}, float[4,2,3,3] w2 = {floats(72)}, float[4,1,3,3] w1 = {floats(36)},
    float[4,24,3] w_line = {floats(288)}, float[1,3,2,2] grid = {floats(12)}, float[4] scales = {{1, 1, 2, 1.75}},
    float[4] twofold = {{1, 1, 2, 3}}, int64[4] sizes = {{1, 4, 9, 13}}, int64 five7 = {{5}},
    int64[4] shape = {{1, 4, 6, 8}}, int64[3] twice = {{2, 4, 48}}, int64[3] flat = {{1, 4, 48}},
    int64[3] line = {{1, 24, 8}},
    int64[2] wide = {{48, 4}}, int64[2] four_row = {{1, 4}}, int64[3] one_token = {{1, 1, 4}},
    int64[5] five = {{1, 2, 2, 6, 8}}, int64[1] axes = {{1}}, int64[2] axes2 = {{2, 3}},
    int64[1] axis0 = {{0}}, int64 axis1 = {{1}}, int64 axis2 = {{2}}, int64[2] picks = {{3, 1}},
    int64 pick = {{2}},
    int64[3] run = {{-3, 6, 7}}, int64[8] pads = {{0, 0, 1, 2, 0, 0, 3, 1}},
    int64[8] pads_c = {{0, 1, 0, 2, 0, 3, 0, 0}},
    int64[8] cuts = {{0, -1, 2, 0, 0, 0, -3, -1}}, int64[10] pads5 = {{0, 1, 0, 0, 2, 0, 0, 3, 0, 1}},
    int64[2] from = {{1, -7}}, int64[2] to = {{5, 7}}, int64[2] step = {{2, 3}}, int64[1] last = {{-1}},
    int64[1] first = {{-9}}, int64[1] axes_w = {{3}}, int64[1] back = {{-1}}, int64[1] from1 = {{1}},
    int64[1] to1 = {{3}},
    int64[1] axis1s = {{1}}, int64[2] parts = {{3, 5}}, int64[4] repeats = {{1, 2, 1, 3}},
    float[1,1,1,1] a3 = {{0.7}}, int64[4] doubled = {{1, 8, 6, 8}}, float odd = {{2.5}}, float infinite = {{-inf}},
    int64[1] one1 = {{1}}, int64[1] two1 = {{2}}, int64[2] one_row = {{1, 192}}, int64[1] seventy = {{70}},
    int64[80] many = {{{", ".join(str(i * 67 % 192) for i in range(80))}}},
    int64[90] wild = {{{", ".join(str(i * 5 % 6) for i in range(90))}}},
    int64[1] all_cells = {{192}}, int64[1] seven = {{7}}, int64[3] rows = {{1, 4, 7}},
    int64[1,4,1,8] third = {{{", ".join(["2"] * 32)}}}, int64[1,4,1,8] mixed = {{{", ".join(["2", "1"] * 16)}}},
    float[1,4,1,8] c4181 = {floats(32)}, int64[1] from_c = {{0}}, int64[1] to_c = {{4}}, int64[1] step_c = {{2}}"""
X = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)
SETTINGS = Settings()


def model_with(body: str) -> onnx.ModelProto:
    """A model of this body, without the constants that it does not read."""
    head = '<ir_version: 9, opset_import: ["" : 20, "segc" : 1]> g (float[1,4,6,8] x) => (float y)'
    model = onnx.parser.parse_model(f"{head} <{CONSTANTS}> {{ {body} }}")
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    return ir.to_model(graph)


def by_onnx_runtime(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString(), options).run(["y"], {"x": x})[0])


def by_ncnn(model: onnx.ModelProto, directory: Path, x: np.ndarray) -> np.ndarray:
    directory.mkdir(exist_ok=True)
    emitted = NCNN.emit(model, directory, SETTINGS)
    return np.asarray(NCNN.load(directory, emitted.options, 1).run(x))


CASES = [(op, body) for op, bodies in BODIES.items() for body in bodies]


@pytest.mark.parametrize(("op", "body"), CASES, ids=[f"{op}-{i}" for i, (op, _) in enumerate(CASES)])
def test_every_row_computes_what_onnx_runtime_computes(op: str, body: str, tmp_path: Path) -> None:
    model = model_with(body)
    assert any(op in (node.op_type, f"{node.domain}::{node.op_type}") for node in model.graph.node)
    want = by_onnx_runtime(model, X)
    graph = ir.from_model(model_with(body))
    assert [NCNN.why_not(node) for node in graph.nodes] == [None] * len(graph.nodes)
    got = by_ncnn(model, tmp_path, X)
    assert got.size == want.size
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-5 * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("op", sorted(set(LOWERINGS) - {*BODIES, "Shape"}))
def test_every_plain_row_computes_what_onnx_runtime_computes(op: str, tmp_path: Path) -> None:
    model = model_with(f"y = {op}(x)")
    want, got = by_onnx_runtime(model, X), by_ncnn(model, tmp_path, X)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-5 * max(1.0, float(np.abs(want).max())))


def test_group_normalization_with_a_scale_for_each_channel(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[1,4,6,8] x) => (float[1,4,6,8] y)
        <float[4] s = {1, 2, -1, 0.5}, float[4] b = {0, 1, 2, 3}> { y = GroupNormalization<num_groups = 2>(x, s, b) }"""
    )
    np.testing.assert_allclose(by_ncnn(model, tmp_path, X), by_onnx_runtime(model, X), atol=1e-5)


REFUSED = [
    ('y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , , sizes)', "asymmetric"),
    ('y = Resize<mode = "nearest", coordinate_transformation_mode = "half_pixel">(x, , , sizes)', "nearest_mode"),
    ('y = Resize<mode = "cubic", cubic_coeff_a = -0.5>(x, , , sizes)', "cubic_coeff_a is -0.5"),
    ('y = Resize<mode = "linear", antialias = 1>(x, , , sizes)', "antialias is 1"),
    ("y = Resize<mode = \"linear\">(x, , , doubled)", "it resizes more than height and width"),
    ("y = MaxPool<kernel_shape = [3, 3], dilations = [2, 2]>(x)", "dilations are [2, 2]"),
    ("y = AveragePool<kernel_shape = [2, 2], strides = [3, 3], pads = [1, 1, 0, 0], ceil_mode = 1,"
     " count_include_pad = 1>(x)", "count_include_pad"),
    ("y = Pow(x, x)", "its exponent is not one constant"),
    ("y = Pow(x, odd)", "the exponent is 2.5"),
    ("y = Mod<fmod = 1>(x, half)", "only the remainder of integers"),
    ("y = PRelu(x, row)", "slopes of shape [8]"),
    ("b = Greater(x, zero)  y = Where(b, x, infinite)", "holds an infinity"),
    ("a = Concat<axis = 0>(x, x)  y = Conv(a, w)", "a convolution other than 1x1 of 2 maps"),
    ("y = CumSum<exclusive = 1>(x, axis2)", "exclusive"),
    ("y = Slice(x, from_c, to_c, axis1s, step_c)", "steps [2]"),
    ('y = Pad<mode = "wrap">(x, pads)', "mode is wrap"),
    ("a = Cast<to = 11>(x)  y = Cast<to = 1>(a)", "'a' is float64"),
    ("y, z = TopK<largest = 0>(x, axis1s)", "it wants the smallest cells"),
    ("v, i = TopK(x, axis1s)  y = Cast<to = 1>(i)", "sorts a single row only"),
    ("y = ScatterElements<axis = 2>(x, mixed, c4181)", "its constant indices form no range"),
    ('y = ScatterElements<axis = 2, reduction = "add">(x, third, c4181)', "reduction is add"),
    ("a = Cast<to = 7>(x)  b = Reshape(a, one_row)  c = Reshape(x, one_row)  y = ScatterElements<axis = 1>(c, b, c)",
     "the indices 'b' are not known to differ"),
    ("y = Hardmax(x)", "no Hardmax in ncnn"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_what_cannot_be_said_is_refused_with_the_reason(body: str, reason: str) -> None:
    graph = ir.from_model(model_with(body))
    refusals = [why for node in graph.nodes if (why := NCNN.why_not(node))]
    assert refusals and reason in refusals[0]
