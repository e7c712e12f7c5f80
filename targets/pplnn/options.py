"""PPLNN's option with a flag of its own."""

from __future__ import annotations

from segc.targets.option import Option

DEVICES = ("x86", "cuda")
DEVICE = Option("device", DEVICES, DEVICES[0], "the engine that runs the model", flag=True)
