"""The standard pipeline of a target: explicit stages, each a tuple of passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from segc import targets
from segc.errors import SegcError
from segc.graph import dialect
from segc.graph.invariants import CLEANED, GIVEN
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
from segc.targets.protocol import Settings
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


def shared(simplify: bool = False) -> Pipeline:
    """What every target's pipeline does to any graph: `segc opt` without passes. Pools that an exporter unrolled are
    recognized and lowered to standard ops.
    """
    clean = tuple(make() for make in CLEAN)
    return Pipeline.of_stages(
        "clean-up",
        {
            "specialize": (SpecializeShapes(),),
            "clean": clean,
            "recognize": (RecognizeAdaptiveAvgPool(),),
            "simplify": (Simplify(),) if simplify else (),
            "lower": (LowerAdaptiveAvgPool(dynamic=False),),
            "tidy": clean,
        },
    )


def chosen(name: str, passes: Sequence[Pass]) -> Pipeline:
    """Passes of somebody's choice, in an order that holds among them.

    What none of them ensures is assumed of the graph, and so is what only makes graphs smaller or quicker.
    """
    ensured = frozenset[str]().union(*(step.ensures for step in passes))
    required = frozenset[str]().union(*(step.requires for step in passes))
    return Pipeline(name, tuple(passes), assumed=(required - ensured - GIVEN) | (required & CLEANED))


def segment(target: Target) -> Pipeline:
    """The target's passes for a segment. What they require was ensured before the graph was cut into segments."""
    required = frozenset[str]().union(*(step.requires for step in target.segment_passes))
    return Pipeline(f"{target.name} segment", target.segment_passes, given=GIVEN | required, assumed=required & CLEANED)


def standard(
    target: Target,
    *,
    shape: tuple[int | None, int | None, int | None] | None,
    mask: bool = False,
    threshold: float | None = None,
    leave: StripFinalResize | None = None,
    images: FoldPreprocessing | None = None,
    simplify: bool = False,
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
        "lower": (*_pools(target), target.mask_lowering),
        "tidy": clean,
        "images": (images,) if images else (),
        "legalize": target.legalize,
    }
    return Pipeline.of_stages(
        f"{target.name} standard", stages, promised=_promised(target, static=static(shape), mask=mask)
    )


def static(shape: tuple[int | None, int | None, int | None] | None) -> bool:
    """Whether a shape fixes all sizes."""
    return shape is not None and None not in shape


def _promised(target: Target, *, static: bool, mask: bool) -> frozenset[str]:
    """What must hold at the end of a target's pipeline: what its own passes ensure, and what all targets ask for."""
    own = frozenset[str]().union(*(step.ensures for step in target.legalize))
    pools = {"no segc.AdaptiveAvgPool2d"} if f"{dialect.DOMAIN}::AdaptiveAvgPool2d" not in target.ops else set()
    sizes, output = {"static shapes"} if static else set(), {"mask output"} if mask else set()
    return own | {"no segc.ResizeArgMax"} | pools | output | (sizes - target.mask_lowering.invalidates)


def targets_of() -> dict[str, list[str]]:
    """Pass name -> the targets in whose standard pipeline it is, with any of the options that the targets offer."""
    found: dict[str, dict[str, None]] = {}
    for name in targets.names():
        for target in _configured(targets.get(name)):
            steps = [*standard(target, shape=(1, 8, 8), mask=True, threshold=0.5).passes]
            steps += [StripFinalResize()] + ([FoldPreprocessing()] if target.accepts_uint8 else [])
            for step in steps:
                found.setdefault(step.name, {})[name] = None
    return {name: list(those) for name, those in found.items()}


def _configured(target: Target) -> Iterator[Target]:
    """The target as each precision and each choice of an option makes it, as far as they go together."""
    choices: list[dict[str, str]] = [{}, *({o.name: choice} for o in target.options for choice in o.choices)]
    for precision, options in product(target.precisions, choices):
        with contextlib.suppress(SegcError):
            yield target.configure(target, Settings(precision=precision, options=options))


def _pools(target: Target) -> tuple[Pass, ...]:
    """Nothing where the target has adaptive pooling itself."""
    if f"{dialect.DOMAIN}::AdaptiveAvgPool2d" in target.ops:
        return ()
    return (LowerAdaptiveAvgPool(ops=frozenset(target.ops)),)
