"""The target `pplnn`: PPLNN (OpenPPL's ppl.nn), on x86 CPUs or CUDA GPUs, by ONNX files of opset 11."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.bundle.status import StatusKind
from segc.errors import Code, UsageError
from segc.passes.support.resize_kinds import Modes
from segc.targets.pplnn import ops
from segc.targets.pplnn.emit import emit
from segc.targets.pplnn.options import DEVICE
from segc.targets.pplnn.passes import legalizations, to_file_opset
from segc.targets.pplnn.readme_hybrid import write_hybrid_readme
from segc.targets.pplnn.runtime import RUNTIME, build_version, cannot_run
from segc.targets.protocol import Settings
from segc.targets.target import Target

OPSET = int(ops.generated_table()["opset"])


def resize_kinds(device: str) -> Modes:
    """The pairs (mode, coordinates) of Resize that the device supports."""
    return frozenset((mode, coordinates) for mode, coordinates in rules(device, "Resize")["resize_kind"]["kinds"])


def rules(device: str, op: str) -> dict[str, Any]:
    """The arguments of each check that an op has on this device, by the check's name."""
    return {rule["check"]: rule["args"] for rule in ops.generated_table()["ops"][device][op]["rules"]}


def risk(settings: Settings) -> str:
    """How many restrictions the table has, and that the file keeps them."""
    count = ops.restrictions(settings.options.get(DEVICE.name, DEVICE.default))
    return (
        f"{count} cases are known that PPLNN refuses, computes wrongly or crashes on; the file was searched for all of"
        " them and has none"
    )


def float32_or_int64(tensor: gs.Tensor) -> str | None:
    """Why a tensor cannot enter or leave a segment, or None: PPLNN's engines exchange float32 and int64."""
    supported = tensor.dtype is not None and np.dtype(tensor.dtype) in (np.float32, np.int64)
    return None if supported else f"'{tensor.name}' is {tensor.dtype}, not float32 or int64"


def configure(target: Target, settings: Settings) -> Target:
    """The target with the capability table and the passes of the device. Raises UsageError for fp16 on x86."""
    device = settings.options.get(DEVICE.name, DEVICE.default)
    if device == "x86" and settings.precision != "fp32":
        raise UsageError(
            f"pplnn on x86 does not compute in {settings.precision}",
            code=Code.UNSUPPORTED_BY_TARGET,
            because="its x86 engine has kernels for float32 only",
            so="--precision fp32, or --device cuda",
        )
    table = ops.capability_table(device)
    last = to_file_opset(table, OPSET, cast_topk_indices="recast" in rules(device, "TopK"))
    legalize = (*legalizations(table, resize_kinds(device)), *last)
    return replace(target, ops=table, legalize=legalize, segment_passes=last)


PPLNN = configure(
    Target(
        name="pplnn",
        summary="PPLNN (OpenPPL's ppl.nn), x86 or CUDA: ONNX of opset 11",
        opset=20,
        file_opset=OPSET,
        program=Path(__file__).with_name("cpp"),
        kit=Path(__file__).with_name("kit"),
        runtime=RUNTIME,
        ops={},
        emit=emit,
        table="targets/pplnn/capabilities.json",
        precisions=("fp32", "fp16"),
        no_precisions={"int8": "PPLNN reads no QuantizeLinear or DequantizeLinear, and its x86 kernels are float32"},
        limits={"fp32": (1.5e-3, 0.999)},  # measured on the legalized graph, without ONNX Runtime's optimizations
        options=(DEVICE,),
        configure=configure,
        cannot_run=cannot_run,
        risk=risk,
        explain=build_version,
        runs_on=build_version,
        status_when_not_run=StatusKind.EMITTED,
        boundary=float32_or_int64,
        write_extras=write_hybrid_readme,
    ),
    Settings(),
)
