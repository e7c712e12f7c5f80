"""The passes that bring a graph into the region of the table, in their order."""

from __future__ import annotations

from collections.abc import Collection

from segc.passes import (
    DropAllowZero,
    LegalizeArithmetic,
    LegalizeAsymmetricPads,
    LegalizeAttention,
    LegalizeAxes,
    LegalizeConvTranspose,
    LegalizeDefaults,
    LegalizeDynamicResize,
    LegalizeEinsum,
    LegalizeGatherElements,
    LegalizeGelu,
    LegalizeGridSample,
    LegalizeGroupNormalization,
    LegalizeInstanceNormalization,
    LegalizeLayerNormalization,
    LegalizeLogic,
    LegalizeResize,
    LegalizeTypes,
    LegalizeVectorProducts,
    LowerAdaptiveAvgPool,
    LowerOpset,
    LowerPSAMask,
    NameDimensions,
    RecastIndices,
    SeparateResidual,
    WidenMask,
)
from segc.passes.base import Pass
from segc.passes.legalize_arithmetic import SPELLINGS
from segc.passes.legalize_resize import Modes

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
        *(() if "InstanceNormalization" in ops else (LegalizeInstanceNormalization(),)),
        LegalizeGroupNormalization(),
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
        SeparateResidual(WIDE_ENOUGH),
        *((RecastIndices(),) if recast else ()),
        LegalizeAxes(),
        LegalizeAsymmetricPads(),
        LegalizeDefaults(),
        NameDimensions(),
    )
