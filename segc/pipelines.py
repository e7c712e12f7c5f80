"""The standard pipeline of a target: explicit stages, each a tuple of passes."""

from __future__ import annotations

from collections.abc import Callable

from segc.passes import (
    EliminateCommonSubexpressions,
    FoldArgMax,
    FoldConstants,
    LowerAdaptiveAvgPool,
    LowerResizeArgMax,
    MaskOutput,
    RemoveIdentities,
    Simplify,
    SpecializeShapes,
)
from segc.passes.base import Pass
from segc.pipeline import Pipeline
from segc.targets.base import Target

CLEAN: tuple[Callable[[], Pass], ...] = (FoldConstants, RemoveIdentities, EliminateCommonSubexpressions)


def standard(
    target: Target,
    *,
    shape: tuple[int, int, int] | None,
    mask: bool = False,
    threshold: float | None = None,
    simplify: bool = True,
) -> Pipeline:
    """The pipeline that `segc compile` runs.

    shape: (N, H, W) to specialize to, None keeps what is dynamic. mask: end in a class map instead of logits;
    threshold: of a one-channel head. simplify: run onnxsim, guarded.
    """
    stages: dict[str, tuple[Pass, ...]] = {
        "specialize": (SpecializeShapes(*shape),) if shape else (),
        "simplify": (Simplify(),) if simplify else (),
        "output": (MaskOutput(threshold), FoldArgMax()) if mask else (),
        "lower": (LowerAdaptiveAvgPool(), LowerResizeArgMax()),
        "clean": tuple(make() for make in CLEAN),
        "legalize": target.legalize,
    }
    return Pipeline(f"{target.name} standard", tuple(step for stage in stages.values() for step in stage))
