"""Loading and running engines in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc.runtime.ort import OrtSession
from segc.targets.protocol import NamedSession, Package, Runtime

FILE = "model.onnx"


def load(directory: Path, _options: Mapping[str, Any], threads: int) -> NamedSession:
    """The engine that `emit` wrote into `directory`."""
    return OrtSession(directory / FILE, threads)


@dataclass(frozen=True)
class Options:
    """A bundle has none."""


RUNTIME = Runtime(
    load, Package("onnxruntime", "onnxruntime", extra="onnxruntime"), multi_io=True, concurrent=True, options=Options
)
