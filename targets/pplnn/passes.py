"""The passes that bring a graph into the region of the table, in their order."""

from __future__ import annotations

from collections.abc import Collection

from segc.passes.base import Pass
from segc.passes.dialect.lower_adaptive_avg_pool import LowerAdaptiveAvgPool
from segc.passes.dialect.lower_psa_mask import LowerPSAMask
from segc.passes.legalize.arithmetic import SPELLINGS, LegalizeArithmetic
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
from segc.passes.legalize.instance_normalization import LegalizeInstanceNormalization
from segc.passes.legalize.layer_normalization import LegalizeLayerNormalization
from segc.passes.legalize.logic import LegalizeLogic
from segc.passes.legalize.lower_opset import LowerOpset
from segc.passes.legalize.name_dimensions import NameDimensions
from segc.passes.legalize.resize import LegalizeResize
from segc.passes.legalize.types import LegalizeTypes
from segc.passes.legalize.vector_products import LegalizeVectorProducts
from segc.passes.masks.widen_mask import WidenMask
from segc.passes.support.resize_kinds import Modes

WIDE_ENOUGH = 32  # channels from which the sum of a Conv and its own input was measured to be right
# Ops that the table has for floats, or that are spelled otherwise for them; LegalizeArithmetic looks at integers.
COMPOSED = ("GreaterOrEqual", "LessOrEqual", "Max", "Min", "Pow")


def legalizations(ops: Collection[str], kinds: Modes) -> tuple[Pass, ...]:
    """The passes for a device with these ops and kinds of Resize. What it has natively stays as it is."""
    lacking = tuple(op for op in SPELLINGS if op not in ops or op in COMPOSED)
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
        LegalizeArithmetic(lacking),
        LegalizeConvTranspose(),
        LegalizeVectorProducts(),
        LegalizeResize(kinds),
        LegalizeDynamicResize(kinds, several=True),
        LegalizeTypes(),
        WidenMask(),
        DropAllowZero(),
    )


def spelling(ops: Collection[str], opset: int, recast: bool) -> tuple[Pass, ...]:
    """The passes that come after `legalizations`, on the whole graph or on a part: its nodes in the older opset.

    recast: TopK's indices need a Cast before anything else reads them.
    """
    return (
        LowerOpset(opset),
        *(() if "HardSigmoid" in ops else (LegalizeArithmetic(("HardSigmoid",)),)),  # of HardSwish
        LegalizeLogic(tuple(op for op in ("Or", "Xor") if op not in ops)),
        LegalizeTypes(),
        BreakConvAddFusion(WIDE_ENOUGH),
        *((CastTopKIndices(),) if recast else ()),
        LegalizeAxes(),
        LegalizeAsymmetricPads(),
        LegalizeDefaults(),
        NameDimensions(),
    )
