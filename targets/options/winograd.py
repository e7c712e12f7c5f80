"""`--set winograd=` for targets whose pipeline has WinogradConv."""

from __future__ import annotations

from dataclasses import replace

from segc.passes.performance.winograd_conv import WinogradConv
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target

WINOGRAD = Option(
    "winograd",
    ("measured", "on", "off"),
    "measured",
    "on: wide 3x3 convolutions with a quarter of the multiplications, one digit less accurate and with four times their"
    " weights in memory; measured: unless that makes the model's error more than 1.5 times as large; off: never",
)


def with_winograd_option(target: Target, settings: Settings) -> Target:
    """The target with or without WinogradConv, or with the decision left to a measurement, as the settings ask."""
    chosen = settings.options.get(WINOGRAD.name, WINOGRAD.default)
    if chosen == "off":
        return without_winograd(target)
    return replace(target, measured_passes=frozenset({WinogradConv.name})) if chosen == "measured" else target


def without_winograd(target: Target) -> Target:
    """The target without WinogradConv."""
    kept = tuple(step for step in target.legalize if step.name != WinogradConv.name)
    return replace(target, legalize=kept, measured_passes=frozenset())
