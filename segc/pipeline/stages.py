"""The standard pipeline of a target: explicit stages, each a tuple of passes."""

from __future__ import annotations

from collections.abc import Callable

from segc.graph import dialect
from segc.passes.base import Pass
from segc.passes.cleanup.cancel_reshapes import CancelReshapes
from segc.passes.cleanup.cancel_transposes import CancelTransposes
from segc.passes.cleanup.drop_expand import DropExpand
from segc.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from segc.passes.cleanup.fold_constants import FoldConstants
from segc.passes.cleanup.fuse_conv_batchnorm import FuseConvBatchnorm
from segc.passes.cleanup.fuse_matmul_add import FuseMatmulAdd
from segc.passes.cleanup.fuse_pad_conv import FusePadConv
from segc.passes.cleanup.merge_concats import MergeConcats
from segc.passes.cleanup.merge_pads import MergePads
from segc.passes.cleanup.merge_slices import MergeSlices
from segc.passes.cleanup.remove_identities import RemoveIdentities
from segc.passes.cleanup.simplify import Simplify
from segc.passes.cleanup.split_batchnorm import SplitBatchnorm
from segc.passes.dialect.lower_adaptive_avg_pool import LowerAdaptiveAvgPool
from segc.passes.dialect.recognize_adaptive_avg_pool import RecognizeAdaptiveAvgPool
from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.masks.append_argmax import AppendArgMax
from segc.passes.masks.fold_argmax import FoldArgMax
from segc.passes.masks.fold_sigmoid_threshold import FoldSigmoidThreshold
from segc.passes.masks.strip_final_resize import StripFinalResize
from segc.passes.performance.hoist_conv_above_resize import HoistConvAboveResize
from segc.pipeline.pipeline import Pipeline
from segc.targets.target import Target

# In this order each pass sees what the one before it has freed; together they leave onnxsim nothing to do as a rule.
CLEAN: tuple[Callable[[], Pass], ...] = (
    FoldConstants,
    RemoveIdentities,
    DropExpand,
    EliminateCommonSubexpressions,
    MergeConcats,
    MergeSlices,
    MergePads,
    CancelTransposes,
    CancelReshapes,
    FusePadConv,
    FuseMatmulAdd,
    SplitBatchnorm,
    FuseConvBatchnorm,
    HoistConvAboveResize,
)


def shared(simplify: bool = True) -> Pipeline:
    """What every target's pipeline does to any graph: `segc opt` without passes. Pools that an exporter unrolled are
    recognized and spelled anew in standard ops.
    """
    clean = tuple(make() for make in CLEAN)
    guarded = (Simplify(),) if simplify else ()
    passes = (
        SpecializeShapes(),
        *clean,
        RecognizeAdaptiveAvgPool(),
        *guarded,
        LowerAdaptiveAvgPool(dynamic=False),
        *clean,
    )
    return Pipeline("clean-up", passes)


def standard(
    target: Target,
    *,
    shape: tuple[int | None, int | None, int | None] | None,
    mask: bool = False,
    threshold: float | None = None,
    leave: StripFinalResize | None = None,
    images: FoldPreprocessing | None = None,
    simplify: bool = True,
) -> Pipeline:
    """The pipeline that `segc compile` runs.

    shape: (N, H, W) to specialize to, None keeps what is dynamic, also for one of them. mask: end in a class map
    instead of logits; threshold: of a one-channel head. leave: leave the last resize to the runtime, which makes the
    mask. images: take uint8 images and normalise them in the graph. simplify: run onnxsim, guarded; it comes after
    segc's own clean-up, which leaves it little, so that its result rarely differs and rarely has to be checked.
    """
    clean = tuple(step for make in CLEAN if (step := make()).name not in target.skipped_passes)
    stages: dict[str, tuple[Pass, ...]] = {
        "specialize": (SpecializeShapes(*shape),) if shape else (),
        "clean": clean,
        "recognize": (RecognizeAdaptiveAvgPool(),),
        "simplify": (Simplify(),) if simplify else (),
        "mask": (AppendArgMax(threshold),) if mask else (leave,) if leave else (),
        "output": (FoldArgMax(), FoldSigmoidThreshold()),
        "lower": (*_pools(target), target.mask_tail),
        "tidy": clean,
        "images": (images,) if images else (),
        "legalize": target.legalize,
    }
    return Pipeline(f"{target.name} standard", tuple(step for stage in stages.values() for step in stage))


def _pools(target: Target) -> tuple[Pass, ...]:
    """Nothing where the target has adaptive pooling itself."""
    if f"{dialect.DOMAIN}::AdaptiveAvgPool2d" in target.ops:
        return ()
    return (LowerAdaptiveAvgPool(ops=frozenset(target.ops)),)
