"""The capability tables of TensorRT: what its ONNX parser and builder accept.

Measured with TensorRT for RTX 1.7.1 on 946 small models of opsets 7 to 26; no outcome depended on the opset.
tests/targets/tensorrt/test_tensorrt.py builds one model for each op and one for each condition. `ENTERPRISE` adds the
ops that only the enterprise parser (10.x, 11.x) accepts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.support.edit import ints, optional, rank
from segc.targets.checks import Check, attr_in, attr_is, worded

MAX_TOP_K = 3840  # elements
_NUMBERS = (np.float32, np.float16, np.int32, np.int64, np.int8, np.float64)

_PLAIN = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization CastLike Ceil Celu Clip Concat Constant"
    " ConstantOfShape Cos Cosh CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor"
    " Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual"
    " GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LRN LeakyRelu Less"
    " LessOrEqual Log LogSoftmax LpNormalization MatMul Max Mean MeanVarianceNormalization Min Mish Mod Mul Neg"
    " Not Or PRelu Pad Pow Range Reciprocal Relu Reshape Round Selu Shape Sigmoid Sign Sin Sinh Size Slice"
    " Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Trilu"
    " Unsqueeze Where Xor"
)
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)


def no_unsigned_bytes(node: gs.Node) -> str | None:
    """No input is uint8: only inputs and outputs of the graph are, and only a Cast reads or writes them."""
    if any(t.dtype == np.uint8 for t in node.inputs):
        return "TensorRT computes nothing in uint8: only a Cast may read it"
    return None


def min_rank(least: int, index: int = 0) -> Check:
    """Input number `index` has at least this many axes; an unknown rank passes."""

    def check(node: gs.Node) -> str | None:
        axes = rank(node.inputs[index])
        return f"rank {axes}, at least {least} is needed" if axes is not None and axes < least else None

    return worded(check, f"Input {index} has at least {least} axes.")


def constant_axes(node: gs.Node) -> str | None:
    """The axes of a reduction are constant."""
    axes = optional(node, 1)
    return "axes computed at run time" if axes is not None and not isinstance(axes, gs.Constant) else None


def one_output(node: gs.Node) -> str | None:
    """Only the first output is used."""
    others = [t for t in node.outputs[1:] if not t.is_empty()]
    return f"output '{others[0].name}': only the first output is supported" if others else None


def resize(node: gs.Node) -> str | None:
    """The map is float or int8."""
    x = node.inputs[0]
    if x.dtype is not None and np.dtype(x.dtype).kind not in "f" and x.dtype != np.int8:
        return f"{np.dtype(x.dtype).name} maps cannot be resized"
    return None


def conv_transpose(node: gs.Node) -> str | None:
    """Not strided and dilated at once; output_shape only with static sizes."""
    strides, dilations = node.attrs.get("strides", ()), node.attrs.get("dilations", ())
    if max(strides, default=1) > 1 and max(dilations, default=1) > 1:
        return "strided and dilated at once"
    if "output_shape" in node.attrs and ir.static_shape(node.inputs[0]) is None:
        return "output_shape with sizes known at run time only"
    return None


def conv_kernel(node: gs.Node) -> str | None:
    """The kernel's size is static."""
    shape = node.inputs[1].shape
    if shape is not None and not all(isinstance(s, int) for s in shape[2:]):
        return "the kernel's size is known at run time only"
    return None


def top_k(node: gs.Node) -> str | None:
    """A constant K is at most MAX_TOP_K."""
    k = ints(node.inputs[1])
    if k is not None and k[0] > MAX_TOP_K:
        return f"K={k[0]}, at most {MAX_TOP_K} is supported"
    return None


def cast(node: gs.Node) -> str | None:
    """Both types exist in TensorRT."""
    types = {np.dtype(t).name for t in (*_NUMBERS, np.uint8, np.bool_)}
    for tensor in (*node.inputs, *node.outputs):
        if tensor.dtype is not None and np.dtype(tensor.dtype).name not in types:
            return f"{np.dtype(tensor.dtype).name} does not exist in TensorRT"
    return None


def one_hot(node: gs.Node) -> str | None:
    """The depth is constant."""
    return None if isinstance(node.inputs[1], gs.Constant) else "depth computed at run time"


def zero_point(node: gs.Node) -> str | None:
    """Symmetric int8 quantization: uint8 is silently read as int8, other zero points are refused."""
    point = optional(node, 2)
    if point is None:
        return "without a zero point the type is uint8, which TensorRT reads as int8: add an int8 zero point of 0"
    if point.dtype != np.int8:
        return f"zero point of type {np.dtype(point.dtype).name}, only int8 is supported"
    value = ir.constant(point)
    return None if value is not None and not value.any() else "the zero point is not a constant 0"


_NO_TRAINING = attr_is("training_mode", 0, default=0)


def undilated(node: gs.Node) -> str | None:
    """The pooling is not dilated."""
    dilations = list(node.attrs.get("dilations", ()))
    return f"dilations={dilations}" if any(d != 1 for d in dilations) else None


RTX: Mapping[str, tuple[Check, ...]] = {
    **dict.fromkeys(_PLAIN.split(), (no_unsigned_bytes,)),
    **dict.fromkeys(_REDUCTIONS.split(), (no_unsigned_bytes, constant_axes)),
    "ArgMax": (no_unsigned_bytes, min_rank(2)),
    "ArgMin": (no_unsigned_bytes, min_rank(2)),
    "AveragePool": (no_unsigned_bytes, undilated),
    "BatchNormalization": (_NO_TRAINING, one_output),
    "Cast": (cast,),
    "Conv": (conv_kernel,),
    "ConvTranspose": (conv_transpose,),
    "DequantizeLinear": (zero_point,),
    "LayerNormalization": (one_output,),
    "MaxPool": (no_unsigned_bytes, undilated, one_output),
    "OneHot": (one_hot,),
    "QuantizeLinear": (zero_point,),
    "Resize": (
        resize,
        attr_is("antialias", 0, default=0),
        attr_is("keep_aspect_ratio_policy", "stretch", default="stretch"),
        attr_in(
            "coordinate_transformation_mode",
            frozenset({"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}),
            default="half_pixel",
        ),
    ),
    "ScatterElements": (attr_is("reduction", "none", default="none"),),
    "ScatterND": (attr_is("reduction", "none", default="none"),),
    "TopK": (min_rank(2), top_k),
}

ENTERPRISE: Mapping[str, tuple[Check, ...]] = {
    **RTX,
    "DeformConv": (),
    "NonMaxSuppression": (),
    "NonZero": (),
    "RoiAlign": (),
    "ScatterElements": (),
}
