"""Emit the files of a PPLNN bundle: the model, the settings of its engine, and how to run it from C++ and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from segc.errors import Code, CompileError
from segc.graph import ir
from segc.graph.external_weights import fits_one_file
from segc.passes.legalize.lower_opset import LowerOpset
from segc.targets.pplnn.ops import generated_table
from segc.targets.pplnn.readme import readme
from segc.targets.protocol import Emitted, Settings

MODEL, SETTINGS, README = "model.onnx", "pplnn.json", "README.md"
IR_VERSION = 6  # the format of ONNX 1.6, which came with opset 11
KERNEL_TYPES = {"fp32": "float32", "fp16": "float16"}
TIME_LIMIT = 600  # seconds that loading or a run may take


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Write model.onnx, pplnn.json and README.md. Raises CompileError where the opset cannot be lowered."""
    written = at_opset(model, int(generated_table()["opset"]))
    written.ir_version = IR_VERSION
    chosen = engine_settings(settings)
    files = [*_write_model(written, directory), SETTINGS, README]
    (directory / SETTINGS).write_text(json.dumps(chosen, indent=2) + "\n")
    (directory / README).write_text(readme(written, chosen))
    return Emitted(tuple(files), {"time_limit": TIME_LIMIT})


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of the model in this opset. Raises CompileError where a node has no form there."""
    if any(o.version == opset for o in model.opset_import if o.domain in ("", "ai.onnx")):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    result = LowerOpset(opset).run(graph)
    if graph.opset != opset:
        raise CompileError(
            f"the graph cannot be expressed in opset {opset}, which PPLNN reads",
            code=Code.EMISSION,
            because=[f"{skip.node}: {skip.reason}" for skip in result.skips],
        )
    return ir.to_model(graph, functions=False)


def engine_settings(settings: Settings) -> dict[str, Any]:
    """The content of pplnn.json: settings as the tool `pplnn` and the Python API name them."""
    device = settings.options.get("device", "x86")
    common: dict[str, Any] = {"device": device, "model": MODEL, "precision": settings.precision}
    if device == "x86":
        # MM_MRU is the tool's `--mm-policy perf`; OMP_NUM_THREADS sets the number of threads
        own = {"mm_policy": "MM_MRU", "graph_fusion": True, "disable_avx512": False, "disable_avx_fma3": False}
        return {**common, "x86": own}
    own = {
        "device_id": 0,
        "mm_policy": "MM_BEST_FIT",
        "kernel_type": KERNEL_TYPES[settings.precision],
        "quick_select": False,
        "algorithm_file": "algorithms.json",
    }
    return {**common, "cuda": own}


def _write_model(model: onnx.ModelProto, directory: Path) -> list[str]:
    if fits_one_file(model):
        (directory / MODEL).write_bytes(model.SerializeToString(deterministic=True))
        return [MODEL]
    data = f"{MODEL}.data"
    onnx.save_model(model, str(directory / MODEL), save_as_external_data=True, location=data, size_threshold=1024)
    return [MODEL, data]
