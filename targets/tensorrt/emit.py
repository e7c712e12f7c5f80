"""Emit a TensorRT engine, or with `--defer` what another machine needs to build it."""

from __future__ import annotations

from pathlib import Path

import onnx

from segc.targets.protocol import Emitted, Settings
from segc.targets.tensorrt.engine_build import build, deferred
from segc.targets.tensorrt.flavor import chosen, defers
from segc.targets.tensorrt.runtime import ENGINE, SIDECAR


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Write the engine and its sidecar; with `--defer` the graph and the settings that `segc build` reads.

    Raises what `build.build` raises.
    """
    flavor = chosen(settings.options)
    if defers(settings.options):
        return deferred.write(model, directory, settings, flavor)
    built = build.build(model, directory, settings, flavor)
    return Emitted((ENGINE, SIDECAR), {"flavor": flavor.name, "version": built["version"]})
