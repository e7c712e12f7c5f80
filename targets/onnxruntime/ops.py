"""The capability table of ONNX Runtime on the CPU.

Operators of opset 20 that have a CPU kernel or a function body, and the types of their first input, as onnxruntime's
kernel registry lists them (`get_all_opkernel_def`; tests/targets/test_onnxruntime.py compares the two). float16 is
accepted wherever float32 is: the runtime inserts casts around kernels that lack it.
"""

from __future__ import annotations

import numpy as np

from segc.targets.checks import Check, input_dtype

_F = (np.float16, np.float32)
_FD = (*_F, np.float64)
_INTS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
_INDEX = (np.int32, np.int64)

_BY_TYPE: dict[tuple[type, ...], str] = {
    _F: "Acos Acosh Asin Asinh Atan Atanh AveragePool Celu Col2Im Conv ConvTranspose Cosh Det Elu Erf Gelu"
    " GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid Hardmax InstanceNormalization LRN LeakyRelu LpPool"
    " MaxRoiPool MaxUnpool Mean MeanVarianceNormalization PRelu QuantizeLinear Selu Sinh Softplus Softsign Tan"
    " ThresholdedRelu",
    _FD: "AffineGrid BatchNormalization Ceil Cos DeformConv Exp Floor Gemm GridSample LayerNormalization Log LogSoftmax"
    " LpNormalization Reciprocal RoiAlign Round Sigmoid Sin Softmax Sqrt Sum Tanh",
    (*_FD, *_INTS): "Abs Add Div Greater GreaterOrEqual Less LessOrEqual Mod Mul Sign Sub",
    (*_FD, np.int8, np.int16, np.int32, np.int64): "Neg",
    (*_FD, np.int8, np.uint8, *_INDEX): "ArgMax ArgMin",
    (*_FD, *_INDEX): "CumSum Einsum Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSum"
    " ReduceSumSquare",
    (*_FD, *_INDEX, np.int8, np.uint8, np.bool_): "ReduceMax ReduceMin",
    (*_FD, *_INDEX, np.int8, np.uint8, np.uint32, np.uint64): "Clip Max Min",
    (*_FD, *_INDEX, np.int8, np.uint8, np.uint32, np.uint64, np.bool_): "Pad",
    (*_FD, *_INDEX, np.uint32, np.uint64): "MatMul",
    (*_FD, np.int8, np.uint8): "DepthToSpace MaxPool SpaceToDepth",
    (*_FD, np.int8, np.int16, np.uint8, *_INDEX): "TopK",
    (*_FD, np.int16, *_INDEX): "Range",
    (*_FD, np.int8, np.int32): "Relu",
    (*_F, np.int8, np.uint8, np.int32): "Resize",
    (*_F, np.bool_, np.uint8, *_INDEX): "NonZero",
    (*_F, *_INDEX): "OneHot",
    (*_FD, np.bool_, *_INDEX): "Trilu",
    (np.int8, np.uint8): "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
    (np.int8, np.uint8, np.int32): "DequantizeLinear",
    (np.bool_,): "And If Not Or Xor",
}
_ANY_TYPE = (
    "Cast CastLike CenterCropPad Compress Concat Constant ConstantOfShape Dropout DynamicQuantizeLinear Equal Expand"
    " EyeLike Flatten Gather GatherElements GatherND GroupNormalization HardSwish Identity IsInf IsNaN Loop Mish"
    " NonMaxSuppression Reshape ReverseSequence Scan ScatterElements ScatterND Shape Shrink Size Slice Split Squeeze"
    " Tile Transpose Unique Unsqueeze Where"
)


def capability_table() -> dict[str, tuple[Check, ...]]:
    """The checks of each supported op."""
    table: dict[str, tuple[Check, ...]] = dict.fromkeys(_ANY_TYPE.split(), ())
    for types, ops in _BY_TYPE.items():
        table.update({op: (input_dtype(0, *types),) for op in ops.split()})
    return table
