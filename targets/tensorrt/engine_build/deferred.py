"""`--defer`: the build happens later, on the machine with the GPU, by `segc build` or by trtexec.

The bundle then holds the legalized graph, what the build needs to know, a lock of the versions it was prepared with,
and the references of the parity gate.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from segc import __version__
from segc.bundle.canonical_json import canonical
from segc.bundle.status import StatusKind
from segc.errors import MissingPackageError
from segc.targets.protocol import Emitted, Settings
from segc.targets.target import DeferredBuild, Target
from segc.targets.tensorrt.engine_build import build
from segc.targets.tensorrt.engine_build.network import interface, profile, trtexec_shapes
from segc.targets.tensorrt.flavor import FLAVORS, Flavor, chosen, version_of
from segc.targets.tensorrt.options import DEFER
from segc.targets.tensorrt.runtime import ENGINE, SIDECAR

MODEL, BUILD, README = "model.onnx", "build.json", "README.md"
LATER = "segc build finishes it on the machine with the GPU"


def configured(target: Target) -> Target:
    """The target when nothing is built here: no engine is there to run."""
    return replace(target, cannot_run=lambda _: LATER, status_when_not_run=StatusKind.DEFERRED, wants_reference=True)


def write(model: onnx.ModelProto, directory: Path, settings: Settings, flavor: Flavor) -> Emitted:
    """Write the legalized graph, the build settings and README.md."""
    image = interface(model.graph.input)[0]
    shapes = profile(image, settings.shape_range)
    files = build.write_onnx(model, directory / MODEL)
    tf32 = build.allows_tf32(settings)
    commands = trtexec(image["name"], shapes, tf32)
    content = {
        "format": 1,
        "onnx": list(files),
        "input": image["name"],
        "profile": shapes,
        "workspace": build.WORKSPACE,
        "tf32": tf32,
        "precision": settings.precision,
        "flavor": flavor.name,
        "trtexec": commands,
        "lock": lock(model),
    }
    (directory / BUILD).write_bytes(canonical(content))
    (directory / README).write_text(_readme(commands, settings, content["lock"]), encoding="utf-8")
    return Emitted((*files, BUILD, README), {"deferred": True, "onnx": MODEL})


def lock(model: onnx.ModelProto) -> dict[str, Any]:
    """Versions of what wrote the graph, and of each TensorRT that is installed here."""
    return {
        "segc": __version__,
        "python": platform.python_version(),
        "onnx": onnx.__version__,
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "tensorrt": {name: _version(flavor) for name, flavor in FLAVORS.items()},
    }


def finish(source: Path, directory: Path, settings: Settings) -> Emitted:
    """Build the engine of the bundle `source` into `directory`. Raises what `build.build_file` raises."""
    job = json.loads((source / BUILD).read_bytes())
    flavor = chosen(settings.options)
    built = build.build_file(source / MODEL, job["profile"], directory, flavor, tf32=build.allows_tf32(settings))
    options = {"flavor": flavor.name, "version": built["version"], "onnx": MODEL}
    return Emitted((ENGINE, SIDECAR), options)


BUILD_LATER = DeferredBuild(
    graph=lambda options: options.get("onnx"),
    pending=lambda options: bool(options.get("deferred")),
    finish=finish,
    finish_options={DEFER.name: "no"},
)


def trtexec(name: str, shapes: Mapping[str, list[int]] | None, tf32: bool) -> dict[str, str]:
    """The exact command of each TensorRT's own tool, to be run in the bundle's folder, by the name of the TensorRT."""
    options = [
        f"--onnx={MODEL}",
        f"--saveEngine={ENGINE}",
        *trtexec_shapes(name, dict(shapes) if shapes else None),
        f"--memPoolSize=workspace:{build.WORKSPACE // 2**20}",
        *([] if tf32 else ["--noTF32"]),
    ]
    return {
        "TensorRT 10": " ".join(["trtexec", *options, "--stronglyTyped"]),
        "TensorRT 11": " ".join(["trtexec", *options]),
        "TensorRT for RTX": " ".join(["tensorrt_rtx", *options]),
    }


def _version(flavor: Flavor) -> str | None:
    try:
        return version_of(flavor)
    except MissingPackageError:
        return None


def _readme(commands: Mapping[str, str], settings: Settings, versions: Mapping[str, Any]) -> str:
    lines = "\n".join(f"{name}:\n\n    {command}\n" for name, command in commands.items())
    return f"""# A TensorRT engine still to be built ({settings.precision})

`{MODEL}` is the legalized graph: its types are its precision, no flag changes them. `{BUILD}` holds the build settings
and the versions this was prepared with (segc {versions["segc"]}, opset {versions["opset"]}).

On the machine with the GPU, with segc and TensorRT installed:

    segc build FOLDER

builds the engine, runs it on the inputs in `reference.npz`, compares it with the outputs there, and replaces the
bundle only when it passes.

Without segc, in this folder, the engine alone, unverified:

{lines}"""
