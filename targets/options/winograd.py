"""`--set winograd=off` for targets whose pipeline computes convolutions by fewer products."""

from __future__ import annotations

from dataclasses import replace

from segc.passes.performance.winograd_conv import WinogradConv
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target

WINOGRAD = Option(
    "winograd",
    ("on", "off"),
    "on",
    "on: wide 3x3 convolutions by a quarter of the products, which rounds them by a digit more and holds four times"
    " their weights in memory; off: as they are",
)


def as_asked(target: Target, settings: Settings) -> Target:
    """The target without the pass, where the settings say so."""
    return target if settings.options.get(WINOGRAD.name, WINOGRAD.default) == "on" else without_winograd(target)


def without_winograd(target: Target) -> Target:
    """The target whose convolutions stay as they are."""
    return replace(target, legalize=tuple(step for step in target.legalize if step.name != WinogradConv.name))
