"""Loading and running engines in ONNX Runtime."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segc.runtime.ort import OrtSession, profiled
from segc.targets.protocol import LayerTime, LayerTimes, NamedSession, Package, Runtime

FILE = "model.onnx"


def load(directory: Path, _options: Mapping[str, Any], threads: int) -> NamedSession:
    """The engine that `emit` wrote into `directory`."""
    return OrtSession(directory / FILE, threads)


def profile(
    directory: Path, _options: Mapping[str, Any], threads: int, inputs: Mapping[str, np.ndarray], runs: int
) -> LayerTimes:  # fmt: skip
    """See Runtime."""
    layers = [
        LayerTime(each.name, each.op, _names(each.name), statistics.median(each.microseconds[1:]) / 1e3)
        for each in profiled(directory / FILE, inputs, threads, runs)
    ]
    return LayerTimes(tuple(layers), f"ONNX Runtime's own profiler, medians of {runs} runs.")


def _names(name: str) -> tuple[str, ...]:
    """A convolution in blocks of channels is called after the tensor that it writes, others after their node."""
    return (name, name.removesuffix("_nchwc"))


@dataclass(frozen=True)
class Options:
    """A bundle has none."""


RUNTIME = Runtime(
    load, Package("onnxruntime", "onnxruntime", extra="onnxruntime"), multi_io=True, concurrent=True, options=Options,
    profile=profile,
)  # fmt: skip
