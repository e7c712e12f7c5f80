"""The capability table of OpenVINO.

ONNX operators that OpenVINO's ONNX front end converts. tests/targets/test_openvino.py converts and runs one model per
operator and compares it with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from segc.passes.support.products import behind_product
from segc.targets.checks import Check, no_subgraph

_OPS = (
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu"
    " Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout"
    " Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool"
    " GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity"
    " InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax"
    " LpNormalization MatMul Max MaxPool"
    " Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow"
    " QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin"
    " ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink"
    " Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh"
    " ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor"
)

_AXES_IGNORED = ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp")


def no_axes_attribute(node: gs.Node) -> str | None:
    """Axes are an input, or left out: the front end ignores the attribute, which opsets below 18 have."""
    axes = node.attrs.get("axes")
    return f"axes={list(axes)} are an attribute, which OpenVINO ignores: it reduces all" if axes else None


def no_slopes_behind_product(node: gs.Node) -> str | None:
    """Several slopes are not fused into a matrix product, which takes them for one per column."""
    return (
        "several slopes behind a matrix product, which OpenVINO takes for its columns'"
        if behind_product(node)
        else None
    )


def capability_table() -> Mapping[str, tuple[Check, ...]]:
    """The checks of each supported op."""
    table: dict[str, tuple[Check, ...]] = dict.fromkeys(_OPS.split(), (no_subgraph,))
    table["PRelu"] = (no_subgraph, no_slopes_behind_product)
    return {**table, **dict.fromkeys(_AXES_IGNORED, (no_subgraph, no_axes_attribute))}
