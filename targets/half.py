"""`--precision fp16` for targets that compute by the types in the graph."""

from __future__ import annotations

from dataclasses import replace

from segc.passes import HalfPrecision, MeasuredHalfPrecision
from segc.passes.base import Pass
from segc.targets.base import Option, Settings, Target
from segc.targets.winograd import without_winograd

HALF = Option(
    "half",
    ("measured", "all"),
    "measured",
    "with --precision fp16: keep early layers in float32 as far as measuring asks for it, or none of them",
)


def by_types(target: Target, settings: Settings) -> Target:
    """The target with half precision written into the graph last, where the settings ask for it. Winograd's sums of
    large numbers stay out of it.
    """
    if settings.precision != "fp16":
        return target
    target = without_winograd(target)
    return replace(target, legalize=(*target.legalize, _half(settings)))


def _half(settings: Settings) -> Pass:
    if settings.options.get("half") == "all":
        return HalfPrecision()
    if settings.images is None:
        return MeasuredHalfPrecision()
    images = settings.images
    return MeasuredHalfPrecision(mean=images.mean, std=images.std, channel_order=images.channel_order)
