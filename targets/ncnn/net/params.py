"""The parameters of ncnn's layers: the id of each in the .param file, and its kind.

Kinds: i int, f float, I list of ints, F list of floats, s string. Source: the layers' `load_param` in ncnn
1.0.20261020. Ids that segc never writes are not listed.
"""

from __future__ import annotations

from segc.targets.ncnn.net.net import ParamTable


def _table(text: str) -> ParamTable:
    """A table from entries `name:id:kind`."""
    entries = (entry.split(":") for entry in text.split())
    return {name: (int(id_), kind) for name, id_, kind in entries}


_CONV = _table(
    "num_output:0:i kernel_w:1:i dilation_w:2:i stride_w:3:i pad_left:4:i bias_term:5:i weight_data_size:6:i group:7:i"
    " int8_scale_term:8:i activation_type:9:i activation_params:10:F kernel_h:11:i dilation_h:12:i stride_h:13:i"
    " pad_top:14:i pad_right:15:i pad_bottom:16:i dynamic_weight:19:i"
)
_DECONV = _table(
    "num_output:0:i kernel_w:1:i dilation_w:2:i stride_w:3:i pad_left:4:i bias_term:5:i weight_data_size:6:i group:7:i"
    " activation_type:9:i activation_params:10:F kernel_h:11:i dilation_h:12:i stride_h:13:i pad_top:14:i"
    " pad_right:15:i pad_bottom:16:i output_pad_right:18:i output_pad_bottom:19:i"
)
_AXIS = _table("axis:0:i")
_SIZES = _table("w:0:i h:1:i d:11:i c:2:i")
_ALPHA_BETA = _table("alpha:0:f beta:1:f")

PARAMS: dict[str, ParamTable] = {
    "AbsVal": {},
    "BatchNorm": _table("channels:0:i eps:1:f"),
    "BinaryOp": _table("op_type:0:i with_scalar:1:i b:2:f"),
    "CELU": _table("alpha:0:f"),
    "Clip": _table("min:0:f max:1:f"),
    "Concat": _AXIS,
    "Convolution": {name: entry for name, entry in _CONV.items() if name != "group"},
    "ConvolutionDepthWise": _CONV,
    "Crop": _table("starts:9:I ends:10:I axes:11:I"),
    "CumulativeSum": _AXIS,
    "Deconvolution": {name: entry for name, entry in _DECONV.items() if name != "group"},
    "DeconvolutionDepthWise": _DECONV,
    "DetectionOutput": _table("num_class:0:i nms_threshold:1:f nms_top_k:2:i keep_top_k:3:i confidence_threshold:4:f"),
    "ELU": _table("alpha:0:f"),
    "Erf": {},
    "Flip": _table("axes:0:I"),
    "GELU": _table("fast_gelu:0:i"),
    "Gemm": _table(
        "alpha:0:f beta:1:f trans_a:2:i trans_b:3:i constant_a:4:i constant_b:5:i constant_c:6:i constant_m:7:i"
        " constant_n:8:i constant_k:9:i constant_broadcast_type_c:10:i"
    ),
    "GridSample": _table("sample_type:0:i padding_mode:1:i align_corner:2:i permute_fusion:3:i"),
    "GroupNorm": _table("group:0:i channels:1:i eps:2:f affine:3:i"),
    "HardSigmoid": _ALPHA_BETA,
    "HardSwish": _ALPHA_BETA,
    "Input": _SIZES,
    "InnerProduct": _table(
        "num_output:0:i bias_term:1:i weight_data_size:2:i activation_type:9:i activation_params:10:F"
    ),
    "InstanceNorm": _table("channels:0:i eps:1:f affine:2:i"),
    "Interp": _table(
        "resize_type:0:i height_scale:1:f width_scale:2:f output_height:3:i output_width:4:i dynamic_target_size:5:i"
        " align_corner:6:i size_expr:9:s"
    ),
    "LayerNorm": _table("affine_size:0:i eps:1:f affine:2:i"),
    "MatMul": _table("trans_b:0:i"),
    "MemoryData": {**_SIZES, **_table("load_type:21:i")},
    "Mish": {},
    "Padding": _table("top:0:i bottom:1:i left:2:i right:3:i type:4:i value:5:f front:7:i behind:8:i"),
    "Permute": _table("order_type:0:i"),
    "PixelShuffle": _table("upscale_factor:0:i mode:1:i"),
    "Pooling": _table(
        "pooling_type:0:i kernel_w:1:i stride_w:2:i pad_left:3:i pad_mode:5:i avgpool_count_include_pad:6:i"
        " adaptive_pooling:7:i out_w:8:i kernel_h:11:i stride_h:12:i pad_top:13:i pad_right:14:i pad_bottom:15:i"
        " out_h:18:i"
    ),
    "PReLU": _table("num_slope:0:i"),
    "Reduction": _table("operation:0:i reduce_all:1:i coeff:2:f axes:3:I keepdims:4:i fixbug0:5:i"),
    "ReLU": _table("slope:0:f"),
    "Reorg": _table("stride:0:i mode:1:i"),
    "Reshape": {**_SIZES, **_table("shape_expr:6:s")},
    "SDPA": _table("attn_mask:5:i scale:6:f"),
    "Scale": _table("scale_data_size:0:i bias_term:1:i"),
    "SELU": _table("alpha:0:f lambda:1:f"),
    "Sigmoid": {},
    "Slice": _table("slices:0:I axis:1:i"),
    "Softmax": _table("axis:0:i fixbug0:1:i"),
    "Softplus": {},
    "Split": {},
    "Swish": {},
    "TanH": {},
    "Threshold": _table("threshold:0:f"),
    "Tile": _table("repeats:2:I"),
    "UnaryOp": _table("op_type:0:i"),
}

BINARY = {
    "add": 0, "sub": 1, "mul": 2, "div": 3, "max": 4, "min": 5, "pow": 6, "rsub": 7, "rdiv": 8,
}  # fmt: skip
UNARY = {
    "abs": 0, "neg": 1, "floor": 2, "ceil": 3, "square": 4, "sqrt": 5, "rsqrt": 6, "exp": 7, "log": 8, "sin": 9,
    "cos": 10, "tan": 11, "asin": 12, "acos": 13, "atan": 14, "reciprocal": 15, "tanh": 16, "log10": 17, "round": 18,
    "trunc": 19, "sign": 20, "expm1": 21, "sinh": 22, "asinh": 23, "cosh": 24, "acosh": 25, "atanh": 26, "log1p": 27,
}  # fmt: skip
REDUCTION = {
    "sum": 0, "asum": 1, "sumsq": 2, "mean": 3, "max": 4, "min": 5, "prod": 6, "l1": 7, "l2": 8, "logsum": 9,
    "logsumexp": 10,
}  # fmt: skip
