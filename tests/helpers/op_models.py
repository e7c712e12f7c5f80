"""One small model for each standard operator, to try what a target's table promises."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

# What each operator is tried with; x is float32 (1, 4, 6, 8). Where a row is missing, OP (x) is the model.
BODIES = {
    "Acos": "t = Tanh(x)  y = Acos(t)",
    "Acosh": "t = Abs(x)  u = Add(t, one)  y = Acosh(u)",
    "Add": "y = Add(x, row)",
    "And": "a = Greater(x, zero)  b = Less(x, one)  c = And(a, b)  y = Cast<to = 1>(c)",
    "ArgMax": "a = ArgMax<axis = 1, keepdims = 0>(x)  y = Cast<to = 1>(a)",
    "ArgMin": "a = ArgMin<axis = 2>(x)  y = Cast<to = 1>(a)",
    "Asin": "t = Tanh(x)  y = Asin(t)",
    "Atanh": "t = Tanh(x)  u = Mul(t, half)  y = Atanh(u)",
    "AveragePool": "y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 0]>(x)",
    "BatchNormalization": "y = BatchNormalization(x, c4, d4, c4, p4)",
    "Cast": "a = Cast<to = 6>(x)  y = Cast<to = 1>(a)",
    "CastLike": "a = CastLike(x, ints)  y = CastLike(a, x)",
    "Clip": "y = Clip(x, zero, one)",
    "Concat": "y = Concat<axis = 1>(x, x)",
    "Constant": "a = Constant<value_float = 3.0>()  y = Add(x, a)",
    "ConstantOfShape": "a = ConstantOfShape<value = float[1] {2.0}>(shape)  y = Add(x, a)",
    "Conv": "y = Conv<strides = [2, 1], pads = [1, 1, 1, 1], dilations = [1, 2]>(x, w)",
    "ConvTranspose": "y = ConvTranspose<strides = [2, 2]>(x, w)",
    "Cosh": "y = Cosh(x)",
    "CumSum": "y = CumSum(x, axis2)",
    "DepthToSpace": "y = DepthToSpace<blocksize = 2>(x)",
    "DequantizeLinear": "a = QuantizeLinear(x, half, byte)  y = DequantizeLinear(a, half, byte)",
    "Div": "t = Abs(x)  u = Add(t, one)  y = Div(x, u)",
    "Dropout": "y = Dropout(x)",
    "Einsum": 'y = Einsum<equation = "nchw,cd->ndhw">(x, square)',
    "Equal": "a = Round(x)  b = Equal(a, zero)  y = Cast<to = 1>(b)",
    "Expand": "y = Expand(row, shape)",
    "EyeLike": "a = EyeLike(square)  y = Einsum<equation = \"nchw,cd->ndhw\">(x, a)",
    "Flatten": "y = Flatten<axis = 2>(x)",
    "Gather": "y = Gather<axis = 2>(x, picks)",
    "GatherElements": "y = GatherElements<axis = 3>(x, spots)",
    "GatherND": "a = GatherND(x, places)  y = Unsqueeze(a, axes)",
    "Gelu": 'a = Gelu(x)  b = Gelu<approximate = "tanh">(x)  y = Add(a, b)',
    "Gemm": "a = Flatten<axis = 3>(x)  y = Gemm<transB = 1, alpha = 0.5>(a, a)",
    "Greater": "b = Greater(x, zero)  y = Cast<to = 1>(b)",
    "GreaterOrEqual": "b = GreaterOrEqual(x, zero)  y = Cast<to = 1>(b)",
    "GridSample": "y = GridSample<align_corners = 1>(x, grid)",
    "GroupNormalization": "y = GroupNormalization<num_groups = 2>(x, c2, d2)",
    "Hardmax": "y = Hardmax<axis = 1>(x)",
    "InstanceNormalization": "y = InstanceNormalization(x, c4, d4)",
    "IsInf": "a = Div(x, zero)  b = IsInf(a)  y = Cast<to = 1>(b)",
    "IsNaN": "a = Log(x)  b = IsNaN(a)  y = Cast<to = 1>(b)",
    "LRN": "y = LRN<size = 3>(x)",
    "LayerNormalization": "y = LayerNormalization<axis = -1>(x, c8)",
    "Less": "b = Less(x, zero)  y = Cast<to = 1>(b)",
    "LessOrEqual": "b = LessOrEqual(x, zero)  y = Cast<to = 1>(b)",
    "Log": "t = Abs(x)  u = Add(t, one)  y = Log(u)",
    "LogSoftmax": "y = LogSoftmax<axis = 1>(x)",
    "LpNormalization": "y = LpNormalization<axis = 1, p = 2>(x)",
    "MatMul": "a = Transpose<perm = [0, 1, 3, 2]>(x)  y = MatMul(x, a)",
    "Max": "y = Max(x, zero, row)",
    "MaxPool": "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(x)",
    "Mean": "y = Mean(x, row)",
    "Min": "y = Min(x, zero, row)",
    "Mod": "t = Abs(x)  y = Mod<fmod = 1>(t, half)",
    "Mul": "y = Mul(x, row)",
    "NonZero": "a = Round(x)  b = NonZero(a)  c = Cast<to = 1>(b)  y = Unsqueeze(c, axes)",
    "Not": "b = Greater(x, zero)  c = Not(b)  y = Cast<to = 1>(c)",
    "OneHot": "a = ArgMax<axis = 1, keepdims = 0>(x)  y = OneHot<axis = 1>(a, depth, values)",
    "Or": "a = Greater(x, one)  b = Less(x, zero)  c = Or(a, b)  y = Cast<to = 1>(c)",
    "PRelu": "y = PRelu(x, row)",
    "Pad": 'a = Pad(x, pads)  b = Pad<mode = "reflect">(x, pads)  y = Add(a, b)',
    "Pow": "t = Abs(x)  y = Pow(t, half)",
    "QuantizeLinear": "a = QuantizeLinear(x, half, byte)  y = Cast<to = 1>(a)",
    "Range": "a = Range(zero, eight, one)  y = Add(x, a)",
    "Reciprocal": "t = Abs(x)  u = Add(t, one)  y = Reciprocal(u)",
    **{f"Reduce{kind}": f"y = Reduce{kind}<keepdims = 0>(x, axes)" for kind in (
        "L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare", "LogSumExp")},
    "ReduceLogSum": "t = Abs(x)  y = ReduceLogSum(t, axes)",
    "Reshape": "y = Reshape(x, flat)",
    "Resize": 'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , scales)',
    "ScatterElements": "a = GatherElements<axis = 3>(x, spots)  b = Neg(a)  y = ScatterElements<axis = 3>(x, spots, b)",
    "ScatterND": "a = GatherND(x, places)  b = Neg(a)  y = ScatterND(x, places, b)",
    "Shape": "a = Shape(x)  b = Cast<to = 1>(a)  c = ReduceSum<keepdims = 0>(b)  y = Add(x, c)",
    "Shrink": "y = Shrink<lambd = 0.3, bias = 0.1>(x)",
    "Size": "a = Size(x)  b = Cast<to = 1>(a)  y = Add(x, b)",
    "Slice": "y = Slice(x, from, to, axes2, step)",
    "Softmax": "y = Softmax<axis = 1>(x)",
    "SpaceToDepth": "y = SpaceToDepth<blocksize = 2>(x)",
    "Split": "a, b = Split<axis = 1, num_outputs = 2>(x)  y = Mul(a, b)",
    "Sqrt": "t = Abs(x)  y = Sqrt(t)",
    "Squeeze": "a = Squeeze(x, axis0)  y = Unsqueeze(a, axis0)",
    "Sub": "y = Sub(x, row)",
    "Sum": "y = Sum(x, x, row)",
    "Tile": "y = Tile(x, repeats)",
    "TopK": "y, a = TopK<axis = 1>(x, two)",
    "Transpose": "y = Transpose<perm = [0, 2, 3, 1]>(x)",
    "Trilu": "y = Trilu<upper = 0>(x)",
    "Unsqueeze": "a = Unsqueeze(x, axis0)  y = Squeeze(a, axis0)",
    "Where": "b = Greater(x, zero)  y = Where(b, x, row)",
    "Xor": "a = Greater(x, one)  b = Less(x, half)  c = Xor(a, b)  y = Cast<to = 1>(c)",
}  # fmt: skip
CONSTANTS = """float zero = {0}, float one = {1}, float half = {0.5}, float eight = {8}, uint8 byte = {128},
    int8 signed = {0}, int8 three = {3},
    float[4] c4 = {1, 2, 3, 4}, float[4] d4 = {4, 3, -2, 1}, float[4] p4 = {1, 2, 0.5, 3}, float[2] c2 = {1, 2},
    float[2] d2 = {-1, 3}, float[8] c8 = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] row = {0.1, -0.2, 0.3, 1, 2, -1, 0.5, 1.5},
    int64[4] shape = {1, 4, 6, 8}, int64[1] axes = {1}, int64[1] axis0 = {0}, int64 axis2 = {2}, int32[1] ints = {0},
    float[4,4] square = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, int64[2] picks = {3, 1},
    int64[1,4,6,2] spots = {SPOTS}, int64[2,3] places = {0, 1, 2, 0, 3, 5}, float[1,3,2,2] grid = {GRID},
    int64[1] depth = {4}, float[2] values = {-1, 2}, int64[8] pads = {0, 0, 1, 2, 0, 0, 3, 1}, int64[2] flat = {4, -1},
    int64[2] line = {1, 192}, int64[2] many = {1, 30}, int64[1] k4000 = {4000},
    float[4] scales = {1, 1, 2, 1.5}, int64[2] from = {1, -7}, int64[2] to = {5, 7}, int64[2] axes2 = {2, 3},
    int64[2] step = {2, 3}, int64[4] repeats = {1, 2, 1, 3}, int64[1] two = {2}, float[4,4,3,3] w = {W}"""
RNG = np.random.default_rng(3)
FILLED = (
    CONSTANTS.replace("SPOTS", ", ".join(map(str, np.tile([5, 2], 24))))
    .replace("GRID", ", ".join(f"{v:.3f}" for v in RNG.uniform(-1, 1, 12)))
    .replace("{W}", "{" + ", ".join(f"{v:.3f}" for v in RNG.standard_normal(144)) + "}")
)
X = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)


def model_with(op: str, body: str | None = None) -> onnx.ModelProto:
    """A model of `body`, or of the body that stands for `op`, from x float32 (1, 4, 6, 8) to y."""
    body = body or BODIES.get(op, f"y = {op}(x)")
    text = f'<ir_version: 9, opset_import: ["" : 20]> g (float[1,4,6,8] x) => (float y) <{FILLED}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert not op or any(node.op_type == op for node in model.graph.node)
    return model
