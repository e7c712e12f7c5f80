"""The passes that legalize a graph for PPLNN, in their order."""

from __future__ import annotations

from collections.abc import Collection

from segc.passes.base import Pass
from segc.passes.dialect.lower_adaptive_avg_pool import LowerAdaptiveAvgPool
from segc.passes.dialect.lower_psa_mask import LowerPSAMask
from segc.passes.legalize.arithmetic import LegalizeArithmetic
from segc.passes.legalize.asymmetric_pads import LegalizeAsymmetricPads
from segc.passes.legalize.attention import LegalizeAttention
from segc.passes.legalize.axes import LegalizeAxes
from segc.passes.legalize.break_conv_add_fusion import BreakConvAddFusion
from segc.passes.legalize.cast_topk_indices import CastTopKIndices
from segc.passes.legalize.conv_transpose import LegalizeConvTranspose
from segc.passes.legalize.defaults import LegalizeDefaults
from segc.passes.legalize.drop_allow_zero import DropAllowZero
from segc.passes.legalize.dynamic_resize import LegalizeDynamicResize
from segc.passes.legalize.einsum import LegalizeEinsum
from segc.passes.legalize.gather_elements import LegalizeGatherElements
from segc.passes.legalize.gelu import LegalizeGelu
from segc.passes.legalize.grid_sample import LegalizeGridSample
from segc.passes.legalize.group_normalization import LegalizeGroupNormalization
from segc.passes.legalize.inner_reductions import LegalizeInnerReductions
from segc.passes.legalize.instance_normalization import LegalizeInstanceNormalization
from segc.passes.legalize.layer_normalization import LegalizeLayerNormalization
from segc.passes.legalize.logic import LegalizeLogic
from segc.passes.legalize.lower_opset import LowerOpset
from segc.passes.legalize.name_dimensions import NameDimensions
from segc.passes.legalize.operand_ranks import LegalizeOperandRanks
from segc.passes.legalize.repeated_operands import LegalizeRepeatedOperands
from segc.passes.legalize.resize import LegalizeResize
from segc.passes.legalize.shape_constants import LegalizeShapeConstants
from segc.passes.legalize.shape_gathers import LegalizeShapeGathers
from segc.passes.legalize.shared_weights import LegalizeSharedWeights
from segc.passes.legalize.types import LegalizeTypes
from segc.passes.legalize.variadic_operands import LegalizeVariadicOperands
from segc.passes.legalize.vector_products import LegalizeVectorProducts
from segc.passes.masks.widen_mask import WidenMask
from segc.passes.support.resize_kinds import Modes

MIN_FUSED_CHANNELS = 32  # from here on PPLNN's fused kernel for x + Conv(x) was measured to be correct
# Supported for float32; LegalizeArithmetic rewrites them for integers.
FLOAT_ONLY = ("GreaterOrEqual", "LessOrEqual", "Max", "Min", "Pow")
SUMS = ("Sum",)  # reads beyond its operands as Max and Min do, and has a spelling without that
OVERRUNS = ("Sign",)  # writes beyond its result


def legalizations(ops: Collection[str], kinds: Modes) -> tuple[Pass, ...]:
    """The passes for a device with these ops and kinds of Resize; ops that it has natively stay as they are."""
    unsupported = tuple(op for op in LegalizeArithmetic.ops if op not in ops or op in FLOAT_ONLY + SUMS + OVERRUNS)
    return (
        LowerAdaptiveAvgPool(),
        LowerPSAMask(),
        LegalizeAttention(),
        LegalizeEinsum(),
        LegalizeGelu(),
        LegalizeLayerNormalization(),
        LegalizeGroupNormalization(),
        *(() if "InstanceNormalization" in ops else (LegalizeInstanceNormalization(),)),
        LegalizeGridSample(),
        *(() if "GatherElements" in ops else (LegalizeGatherElements(),)),
        LegalizeArithmetic(unsupported),
        LegalizeConvTranspose(),
        LegalizeVectorProducts(),
        LegalizeResize(kinds),
        LegalizeDynamicResize(kinds, several=True),
        LegalizeTypes(),
        WidenMask(),
        DropAllowZero(),
    )


def to_file_opset(ops: Collection[str], opset: int, cast_topk_indices: bool) -> tuple[Pass, ...]:
    """The passes that convert a legalized graph, or a segment of one, to the opset of PPLNN's files.

    cast_topk_indices: TopK's indices need a Cast before other ops read them.
    """
    return (
        LowerOpset(opset),
        *(
            () if "HardSigmoid" in ops else (LegalizeArithmetic(("HardSigmoid",)),)
        ),  # that LowerOpset makes of HardSwish
        LegalizeLogic(tuple(op for op in ("Or", "Xor") if op not in ops)),
        LegalizeTypes(),
        LegalizeOperandRanks(),
        LegalizeVariadicOperands(),
        LegalizeShapeGathers(),
        LegalizeShapeConstants(),
        BreakConvAddFusion(MIN_FUSED_CHANNELS, chains=True),
        LegalizeRepeatedOperands(),
        *((CastTopKIndices(),) if cast_topk_indices else ()),
        LegalizeAxes(),
        LegalizeInnerReductions(),
        LegalizeAsymmetricPads(),
        LegalizeDefaults(),
        LegalizeSharedWeights(),
        NameDimensions(),
    )
