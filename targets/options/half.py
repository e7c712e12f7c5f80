"""`--precision fp16` for targets whose engines compute in the types of the graph."""

from __future__ import annotations

from dataclasses import replace

from segc.passes.base import Pass
from segc.passes.precision.convert_to_fp16 import ConvertToFp16
from segc.passes.precision.convert_to_fp16_measured import ConvertToFp16Measured
from segc.targets.options.winograd import without_winograd
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target

HALF = Option(
    "half",
    ("measured", "all"),
    "measured",
    "with --precision fp16: keep as many early layers in float32 as measurements ask for, or none",
)


def with_fp16_types(target: Target, settings: Settings) -> Target:
    """The target with a last pass that converts the graph to float16, where the settings ask for it.

    WinogradConv is dropped then: its intermediate sums are too large for float16.
    """
    if settings.precision != "fp16":
        return target
    target = without_winograd(target)
    return replace(target, legalize=(*target.legalize, _fp16_pass(settings)))


def _fp16_pass(settings: Settings) -> Pass:
    if settings.options.get("half") == "all":
        return ConvertToFp16()
    if settings.images is None:
        return ConvertToFp16Measured()
    images = settings.images
    return ConvertToFp16Measured(mean=images.mean, std=images.std, channel_order=images.channel_order)
