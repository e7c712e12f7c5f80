"""Graph passes, one idea a file. Import them from here: `from segc.passes import LowerAdaptiveAvgPool`."""

if __name__ != "segc.passes":
    raise ImportError("import segc.passes: under the short name this would be a second registry")

from segc.passes.base import Pass, PassResult, Skip
from segc.passes.cancel_reshapes import CancelReshapes
from segc.passes.cancel_transposes import CancelTransposes
from segc.passes.conv_before_resize import ConvBeforeResize
from segc.passes.conv_of_concat import ConvOfConcat
from segc.passes.conv_of_upsampled import ConvOfUpsampled
from segc.passes.drop_allow_zero import DropAllowZero
from segc.passes.drop_expand import DropExpand
from segc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from segc.passes.fill_channel_blocks import FillChannelBlocks
from segc.passes.fold_argmax import FoldArgMax
from segc.passes.fold_constants import FoldConstants
from segc.passes.fold_preprocessing import FoldPreprocessing
from segc.passes.fold_sigmoid_threshold import FoldSigmoidThreshold
from segc.passes.fuse_conv_batchnorm import FuseConvBatchnorm
from segc.passes.fuse_matmul_add import FuseMatmulAdd
from segc.passes.fuse_pad_conv import FusePadConv
from segc.passes.half_precision import HalfPrecision
from segc.passes.leave_resize import LeaveResize
from segc.passes.legalize_argmax import LegalizeArgMax
from segc.passes.legalize_arithmetic import LegalizeArithmetic
from segc.passes.legalize_asymmetric_pads import LegalizeAsymmetricPads
from segc.passes.legalize_attention import LegalizeAttention
from segc.passes.legalize_axes import LegalizeAxes
from segc.passes.legalize_conv_transpose import LegalizeConvTranspose
from segc.passes.legalize_defaults import LegalizeDefaults
from segc.passes.legalize_dynamic_resize import LegalizeDynamicResize
from segc.passes.legalize_einsum import LegalizeEinsum
from segc.passes.legalize_floor_division import LegalizeFloorDivision
from segc.passes.legalize_gather_elements import LegalizeGatherElements
from segc.passes.legalize_gelu import LegalizeGelu
from segc.passes.legalize_grid_sample import LegalizeGridSample
from segc.passes.legalize_group_normalization import LegalizeGroupNormalization
from segc.passes.legalize_instance_normalization import LegalizeInstanceNormalization
from segc.passes.legalize_layer_normalization import LegalizeLayerNormalization
from segc.passes.legalize_logic import LegalizeLogic
from segc.passes.legalize_mask_type import LegalizeMaskType
from segc.passes.legalize_prelu import LegalizePRelu
from segc.passes.legalize_resize import LegalizeResize
from segc.passes.legalize_scatter_elements import LegalizeScatterElements
from segc.passes.legalize_top_k import LegalizeTopK
from segc.passes.legalize_top_two import LegalizeTopTwo
from segc.passes.legalize_types import LegalizeTypes
from segc.passes.legalize_unsigned_input import LegalizeUnsignedInput
from segc.passes.legalize_vector_products import LegalizeVectorProducts
from segc.passes.lower_adaptive_avg_pool import LowerAdaptiveAvgPool
from segc.passes.lower_opset import LowerOpset
from segc.passes.lower_psa_mask import LowerPSAMask
from segc.passes.lower_resize_argmax import LowerResizeArgMax
from segc.passes.lower_resize_argmax_banded import LowerResizeArgMaxBanded
from segc.passes.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.mask_output import MaskOutput
from segc.passes.measured_half_precision import MeasuredHalfPrecision
from segc.passes.merge_concats import MergeConcats
from segc.passes.merge_pads import MergePads
from segc.passes.merge_slices import MergeSlices
from segc.passes.name_dimensions import NameDimensions
from segc.passes.recast_indices import RecastIndices
from segc.passes.recognize_adaptive_avg_pool import RecognizeAdaptiveAvgPool
from segc.passes.remove_identities import RemoveIdentities
from segc.passes.separate_residual import SeparateResidual
from segc.passes.simplify import Simplify
from segc.passes.specialize_shapes import SpecializeShapes, specialize
from segc.passes.spell_out_rounding import SpellOutRounding
from segc.passes.split_batchnorm import SplitBatchnorm
from segc.passes.split_resize_argmax import SplitResizeArgMax
from segc.passes.widen_mask import WidenMask
from segc.passes.winograd import Winograd


def registry(*passes: type[Pass]) -> dict[str, type[Pass]]:
    """Passes by name. Raises ValueError when two share one."""
    by_name: dict[str, type[Pass]] = {}
    for each in passes:
        if (other := by_name.setdefault(each.name, each)) is not each:
            raise ValueError(f"two passes are called '{each.name}': {other.__qualname__} and {each.__qualname__}")
    return by_name


REGISTRY: dict[str, type[Pass]] = registry(
    SpecializeShapes,
    Simplify,
    MaskOutput,
    LeaveResize,
    FoldPreprocessing,
    FoldArgMax,
    LowerAdaptiveAvgPool,
    LowerResizeArgMax,
    LowerResizeArgMaxBanded,
    LowerResizeArgMaxCells,
    FoldConstants,
    RemoveIdentities,
    DropExpand,
    EliminateCommonSubexpressions,
    FoldSigmoidThreshold,
    RecognizeAdaptiveAvgPool,
    CancelTransposes,
    CancelReshapes,
    MergeSlices,
    MergePads,
    MergeConcats,
    FusePadConv,
    FuseConvBatchnorm,
    FuseMatmulAdd,
    LegalizeLayerNormalization,
    LegalizeGelu,
    LegalizeInstanceNormalization,
    LegalizeGroupNormalization,
    LegalizeEinsum,
    LegalizePRelu,
    LegalizeResize,
    LowerOpset,
    LegalizeAxes,
    LegalizeAsymmetricPads,
    LowerPSAMask,
    LegalizeGridSample,
    LegalizeScatterElements,
    LegalizeAttention,
    LegalizeArgMax,
    LegalizeArithmetic,
    LegalizeConvTranspose,
    LegalizeDefaults,
    LegalizeDynamicResize,
    LegalizeFloorDivision,
    LegalizeGatherElements,
    LegalizeLogic,
    LegalizeTypes,
    LegalizeVectorProducts,
    DropAllowZero,
    NameDimensions,
    RecastIndices,
    SeparateResidual,
    WidenMask,
    HalfPrecision,
    MeasuredHalfPrecision,
    LegalizeTopK,
    LegalizeMaskType,
    LegalizeUnsignedInput,
    SplitBatchnorm,
    ConvBeforeResize,
    ConvOfConcat,
    FillChannelBlocks,
    ConvOfUpsampled,
    Winograd,
    LegalizeTopTwo,
    SplitResizeArgMax,
    SpellOutRounding,
)

__all__ = [
    "Pass",
    "PassResult",
    "Skip",
    "REGISTRY",
    "registry",
    "SpecializeShapes",
    "specialize",
    "Simplify",
    "MaskOutput",
    "LeaveResize",
    "FoldPreprocessing",
    "FillChannelBlocks",
    "FoldArgMax",
    "LowerAdaptiveAvgPool",
    "LowerResizeArgMax",
    "LowerResizeArgMaxBanded",
    "LowerResizeArgMaxCells",
    "FoldConstants",
    "RemoveIdentities",
    "EliminateCommonSubexpressions",
    "FoldSigmoidThreshold",
    "RecognizeAdaptiveAvgPool",
    "CancelTransposes",
    "CancelReshapes",
    "MergeSlices",
    "MergePads",
    "MergeConcats",
    "FusePadConv",
    "FuseConvBatchnorm",
    "FuseMatmulAdd",
    "LegalizeLayerNormalization",
    "LegalizeGelu",
    "LegalizeInstanceNormalization",
    "LegalizeGroupNormalization",
    "LegalizeEinsum",
    "LegalizePRelu",
    "LegalizeResize",
    "LowerOpset",
    "LegalizeAxes",
    "LegalizeAsymmetricPads",
    "LowerPSAMask",
    "LegalizeGridSample",
    "LegalizeScatterElements",
    "LegalizeAttention",
    "LegalizeArgMax",
    "LegalizeArithmetic",
    "LegalizeConvTranspose",
    "LegalizeDefaults",
    "LegalizeDynamicResize",
    "LegalizeFloorDivision",
    "LegalizeGatherElements",
    "LegalizeLogic",
    "LegalizeTypes",
    "LegalizeVectorProducts",
    "DropAllowZero",
    "DropExpand",
    "NameDimensions",
    "RecastIndices",
    "SeparateResidual",
    "WidenMask",
    "Winograd",
    "HalfPrecision",
    "MeasuredHalfPrecision",
    "LegalizeTopK",
    "LegalizeMaskType",
    "LegalizeUnsignedInput",
    "SplitBatchnorm",
    "ConvBeforeResize",
    "ConvOfConcat",
    "ConvOfUpsampled",
    "LegalizeTopTwo",
    "SplitResizeArgMax",
    "SpellOutRounding",
]
