"""PPLNN as a target: the rows of its device, and the passes that bring graphs there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.errors import UsageError
from segc.passes.support.resize_kinds import Modes
from segc.targets.pplnn import ops
from segc.targets.pplnn.emit import emit
from segc.targets.pplnn.passes import legalizations, spelling
from segc.targets.pplnn.readme_hybrid import overview
from segc.targets.pplnn.runtime import RUNTIME, cannot_run
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target

DEVICES = ("x86", "cuda")
OPSET = int(ops.content()["opset"])


def kinds(device: str) -> Modes:
    """The kinds of Resize that the table has for this device."""
    return frozenset((mode, coordinates) for mode, coordinates in rules(device, "Resize")["resize_kind"]["kinds"])


def rules(device: str, op: str) -> dict[str, Any]:
    """The arguments of each check that the table has for this op."""
    return {rule["check"]: rule["args"] for rule in ops.content()["ops"][device][op]["rules"]}


def boundary(tensor: gs.Tensor) -> str | None:
    """What goes into or out of an engine: the types that the engine computes with."""
    known = tensor.dtype is not None and np.dtype(tensor.dtype) in (np.float32, np.int64)
    return None if known else f"'{tensor.name}' is {tensor.dtype}, not float32 or int64"


def configure(target: Target, settings: Settings) -> Target:
    """The target with the table and the passes of the device. Raises UsageError for a precision it does not have."""
    device = settings.options.get("device", DEVICES[0])
    if device == "x86" and settings.precision != "fp32":
        raise UsageError(
            f"pplnn on x86 does not compute in {settings.precision}",
            because="its x86 engine has kernels for float32 only",
            so="--precision fp32, or --device cuda",
        )
    rows = ops.rows(device)
    recast = "recast" in rules(device, "TopK")
    last = spelling(rows, OPSET, recast)
    return replace(target, ops=rows, legalize=(*legalizations(rows, kinds(device)), *last), segment_passes=last)


PPLNN = configure(
    Target(
        name="pplnn",
        summary="PPLNN (OpenPPL's ppl.nn), x86 or CUDA: ONNX of opset 11",
        opset=20,
        file_opset=OPSET,
        runtime=RUNTIME,
        ops={},
        emit=emit,
        table="targets/pplnn/capabilities.json",
        precisions=("fp32", "fp16"),
        limits={"fp32": (1.5e-3, 0.999)},  # of the legalized graph without ONNX Runtime's own optimizations
        options=(Option("device", DEVICES, DEVICES[0], "the engine that runs the model"),),
        configure=configure,
        cannot_run=cannot_run,
        status_when_not_run="emitted, not run",
        boundary=boundary,
        write_extras=overview,
    ),
    Settings(),
)
