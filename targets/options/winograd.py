"""`--set winograd=off` for targets whose pipeline has WinogradConv."""

from __future__ import annotations

from dataclasses import replace

from segc.passes.performance.winograd_conv import WinogradConv
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target

WINOGRAD = Option(
    "winograd",
    ("on", "off"),
    "on",
    "on: wide 3x3 convolutions with a quarter of the multiplications, one digit less accurate and with four times their"
    " weights in memory; off: leave them as they are",
)


def with_winograd_option(target: Target, settings: Settings) -> Target:
    """The target with or without WinogradConv, as the settings ask."""
    return target if settings.options.get(WINOGRAD.name, WINOGRAD.default) == "on" else without_winograd(target)


def without_winograd(target: Target) -> Target:
    """The target without WinogradConv."""
    return replace(target, legalize=tuple(step for step in target.legalize if step.name != WinogradConv.name))
