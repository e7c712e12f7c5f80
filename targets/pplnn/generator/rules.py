"""The conditions that the facts file states in prose, as rules; each quotes the words it is based on.

The generator refuses to write a table when a quotation is no longer in the facts: after new measurements the rule has
to be reviewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

X86 = ("x86",)
CUDA = ("cuda",)
BOTH = ("x86", "cuda")  # measured on x86 and assumed for cuda, where nothing was run


@dataclass(frozen=True)
class Rule:
    """One condition on nodes of some ops.

    ops: separated by blanks; "*": all. check, args: a function of ops_checks.py and its arguments. note: where the
    facts say it. says: their words.
    """

    ops: str
    check: str
    note: str  # "x86 Slice": device and key below `notes`; "general": the list there
    says: str
    args: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[str, ...] = BOTH


FP32 = {"types": ["float32"]}
FP32_INT64 = {"types": ["float32", "int64"]}
SHAPE_OPS = "ConstantOfShape Flatten Identity If Loop Reshape Shape Squeeze Unsqueeze SplitToSequence"
POOLS = "MaxPool AveragePool"
BINARY = "Add Sub Mul Div"
REDUCTIONS = "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
INDEXED = "Gather GatherND GatherElements ScatterND ScatterElements"
INT64_INDICES = "indices are READ AS INT64 whatever their dtype"
ATTRIBUTES = "kernel_shape, strides, pads, dilations must all be present as attributes"
UNSEEN = "Two nodes that each leave an output name '' are refused"
SKIPPED = "A kernel whose required input is empty (0 elements) or blank is SKIPPED"
ONLY_5 = "among fp32, fp64, int32, int64, bool only"

# Types that the facts' list of kernels lacks, or gives less strictly than the measurements.
TYPE_RULES = (
    Rule("Slice", "inputs", "x86 Slice", "data fp32 or int64 only (not bool, int32)", FP32_INT64),
    Rule("GlobalAveragePool", "inputs", "x86 AveragePool", "4-D fp32", FP32),
    Rule("Not", "inputs", "x86 comparison", "Not: bool", {"types": ["bool"]}),
    Rule("CumSum", "inputs", "x86 CumSum", "fp32; axis int32/int64", FP32),
    Rule("NonMaxSuppression", "inputs", "general", "x86: fp32 only for arithmetic", {**FP32, "at": [0, 1]}),
    Rule("ArgMin InstanceNormalization Reciprocal ReduceL2 Round Softplus GatherElements", "inputs",
         "cuda extra over x86", "ArgMin, GatherElements, InstanceNormalization", FP32, CUDA),
    Rule("Mod", "inputs", "cuda extra over x86", "Softplus, Mod, Xor", {"types": ["int64"]}, CUDA),
    Rule("Xor", "inputs", "cuda extra over x86", "Softplus, Mod, Xor", {"types": ["bool"]}, CUDA),
    Rule("Cast", "inputs", "x86 Cast", ONLY_5, {"types": ["float32", "float64", "int32", "int64", "bool"]}),
    Rule(SHAPE_OPS, "inputs", "x86 Cast", ONLY_5, {"types": ["float32", "float64", "int32", "int64", "bool"]}),
)  # fmt: skip

RULES = (
    *TYPE_RULES,
    # every op
    Rule("*", "outputs", "x86 Cast", ONLY_5, {"types": ["float32", "float64", "int32", "int64", "bool"]}),
    Rule("*", "few_unnamed_outputs", "general", UNSEEN),
    Rule("*", "nothing_empty", "general", SKIPPED, {"may": {"Resize": [1, 2]}}),  # roi and scales, see "x86 Resize"
    # windows
    Rule("Conv", "has", "x86 Conv", "kernel_shape attribute required", {"names": ["kernel_shape"]}),
    Rule("Conv", "rank", "x86 Conv", "1-D and 2-D (3-D refused)", {"allowed": [3, 4]}),
    Rule("Conv", "symmetric_pads", "x86 Conv", "symmetric pads only (asymmetric: Preprocess fails"),
    Rule("Conv", "no_auto_pad", "x86 Conv", "auto_pad is parsed and then IGNORED"),
    Rule("ConvTranspose", "has", "x86 ConvTranspose", ATTRIBUTES,
         {"names": ["kernel_shape", "strides", "pads", "dilations"]}),
    Rule("ConvTranspose", "rank", "x86 ConvTranspose", "1-D/2-D", {"allowed": [3, 4]}),
    Rule("ConvTranspose", "symmetric_pads", "x86 ConvTranspose", "symmetric pads"),
    Rule("ConvTranspose", "no_auto_pad", "x86 ConvTranspose", "output_padding, output_shape and auto_pad ignored"),
    Rule("ConvTranspose", "no_output_padding", "x86 ConvTranspose",
         "output_padding, output_shape and auto_pad ignored"),
    Rule("ConvTranspose", "attribute", "x86 ConvTranspose", "group != 1 gives wrong shape",
         {"name": "group", "wanted": [1], "default": 1}),
    Rule("MaxPool", "has", "x86 MaxPool", "strides attribute required (missing = segfault)",
         {"names": ["kernel_shape", "strides"]}),
    Rule("MaxPool", "ones", "x86 MaxPool", "dilation 1", {"name": "dilations"}),
    Rule("MaxPool", "rank", "x86 MaxPool", "4-D fp32", {"allowed": [4]}),
    Rule("AveragePool GlobalAveragePool", "rank", "x86 AveragePool", "4-D fp32", {"allowed": [4]}),
    Rule("AveragePool", "has", "x86 MaxPool", "strides attribute required (missing = segfault)",
         {"names": ["kernel_shape", "strides"]}),
    Rule("MaxPool", "symmetric_pads", "x86 MaxPool", "symmetric pads"),
    Rule("AveragePool", "symmetric_pads", "x86 AveragePool", "symmetric pads"),
    Rule(POOLS, "no_auto_pad", "x86 Conv", "auto_pad is parsed and then IGNORED"),
    Rule("Add", "not_of_own_input", "x86 Conv+Add fusion", "the Add's other operand is the conv's own input",
         {"channels": 32}, X86),
    Rule("Add", "not_a_second_sum", "x86 Conv+Add fusion", "is fused into the same Conv and one summand is LOST",
         devices=X86),
    Rule("Conv", "bias_beside_depthwise", "x86 Conv+depthwise Conv", "SEGFAULT in Preprocess where EITHER HAS NO BIAS",
         devices=X86),
    Rule("Conv ConvTranspose BatchNormalization", "own_weights", "x86 Conv+BatchNormalization",
         "folded into the weights WHERE THEY LIE", devices=X86),
    Rule("BatchNormalization", "rank", "x86 BatchNormalization", "2-D, 3-D and 4-D measured", {"allowed": [2, 3, 4]}),
    # Resize; the kinds that run on x86 come from the probes
    Rule("Resize", "rank", "x86 Resize", "3-D gives garbage", {"allowed": [4]}),
    Rule("Resize", "spatial_resize", "x86 Resize", "dims 2,3 are read as H,W"),
    Rule("Resize", "floors", "x86 Resize", "nearest ALWAYS floors: nearest_mode is ignored"),
    Rule("Resize", "usual_cubic", "x86 Resize", "(cubic, pytorch_half_pixel)"),
    Rule("Resize", "resize_kind", "cuda Resize",
         "linear/cubic/nearest with half_pixel, pytorch_half_pixel, align_corners, asymmetric reach the kernel",
         {"kinds": [[m, c] for m in ("linear", "cubic")
                    for c in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")]
          + [["nearest", "asymmetric"]]}, CUDA),
    Rule("Resize", "given", "cuda Resize", "The op dereferences input[2] (scales) unchecked", {"at": [2]}, CUDA),
    # moving data
    Rule("Pad", "attribute", "x86 Pad", "modes constant, reflect, edge",
         {"name": "mode", "wanted": ["constant", "reflect", "edge"], "default": "constant"}),
    Rule("Pad", "inputs", "x86 Pad", "pads must be int64 and >= 0", {"types": ["int64"], "at": [1]}),
    Rule("Pad", "not_negative", "x86 Pad", "pads must be int64 and >= 0", {"at": 1}),
    Rule("Pad", "given", "cuda Pad", "constant value input (3rd input) is dereferenced unchecked", {"at": [2]}, CUDA),
    Rule("Slice", "inputs", "x86 Slice", "starts/ends/axes/steps int64 only", {"types": ["int64"], "at": [1, 2, 3, 4]}),
    Rule("Slice", "plain_axes", "x86 Slice", "NEGATIVE AXES ARE SILENTLY WRONG"),
    Rule("Slice", "gives_something", "x86 Slice", "AN EMPTY RESULT is refused", devices=X86),
    Rule("Split", "has", "x86 Split", "Always give the sizes", {"names": ["split"]}),
    Rule("Squeeze", "has", "x86 Squeeze", "Give axes", {"names": ["axes"]}),
    Rule(INDEXED, "inputs", "x86 Gather", INT64_INDICES, {"types": ["int64"], "at": [1]}),
    Rule("GatherND", "attribute", "x86 GatherND", "batch_dims ignored",
         {"name": "batch_dims", "wanted": [0], "default": 0}),
    Rule("DepthToSpace", "attribute", "x86 DepthToSpace", "CRD mode only",
         {"name": "mode", "wanted": ["CRD"], "default": "DCR"}),
    Rule("TopK", "inputs", "x86 TopK", "k int64", {"types": ["int64"], "at": [1]}),
    Rule("TopK", "all_outputs", "x86 TopK", "both outputs must exist", {"count": 2}),
    Rule("TopK", "recast", "cuda TopK", "indices are int32 on the device", {"output": 1}, CUDA),
    Rule("Expand Reshape", "inputs", "general", "int64 for shape arithmetic", {"types": ["int64"], "at": [1]}),
    Rule("Gather", "size_by_number", "x86 Shape", "Right: Gather with a SCALAR INDEX and Unsqueeze", devices=X86),
    # arithmetic
    Rule(BINARY, "operand_ranks", "x86 Arithmetic of other ranks", "with an operand of rank 2 or 3", devices=X86),
    Rule(BINARY, "full_shape_constants", "x86 Shape", "Two or more sizes with ONE NUMBER", devices=X86),
    Rule(BINARY, "distinct_operands", "x86 op(a, a)", "SEGFAULT when nothing reads the value later", devices=X86),
    Rule("Max Min Sum", "more_inputs_than_axes", "x86 Max/Min/Sum", "READ OUT OF BOUNDS", devices=X86),
    Rule("Sign", "overruns", "x86 elementwise", "Sign WRITES FOUR NUMBERS BEYOND ITS RESULT", devices=X86),
    Rule("MatMul", "least_rank", "x86 MatMul", "both operands >= 2-D (1-D crashes or is wrong)",
         {"at": [0, 1], "least": 2}),
    Rule("PRelu", "channel_slope", "x86 elementwise", "PRelu: per-channel or scalar slope"),
    Rule(REDUCTIONS, "axes_or_flat", "x86 Reduce*", "Absent axes with keepdims=1 gives a scalar (wrong shape)"),
    Rule(REDUCTIONS, "ascending_axes", "x86 Reduce*", "keepdims=0 needs axes in ascending order"),
    Rule("ReduceMean ReduceMin ReduceSum", "whole_blocks", "x86 Reduce*",
         "Sum, Mean and Min of other than the last axes", devices=X86),
    # recurrent
    Rule("LSTM", "given", "x86 LSTM/GRU", "segfault when initial states or trailing outputs are left out",
         {"at": [5, 6]}),
    Rule("LSTM", "all_outputs", "x86 LSTM/GRU", "segfault when initial states or trailing outputs are left out",
         {"count": 3}),
    Rule("GRU", "given", "x86 LSTM/GRU", "segfault when initial states or trailing outputs are left out",
         {"at": [5]}, X86),
    Rule("GRU", "all_outputs", "x86 LSTM/GRU", "segfault when initial states or trailing outputs are left out",
         {"count": 2}, X86),
    Rule("GRU", "attribute", "x86 LSTM/GRU", "GRU always resets after the product",
         {"name": "linear_before_reset", "wanted": [1], "default": 0}, X86),
    Rule("LSTM GRU", "lacks", "x86 LSTM/GRU", "No custom activations, clip, input_forget",
         {"names": ["activations", "clip", "input_forget"]}),
)  # fmt: skip
