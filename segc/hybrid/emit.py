"""Write segments to disk, each into its own folder: `segments/0-onnxruntime`, `segments/1-ncnn`, …, in run order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from segc.errors import Code, CompileError
from segc.graph import ir
from segc.graph.analysis.liveness import dtype_of
from segc.hybrid.costs import Costs
from segc.hybrid.plan import Plan, Segment
from segc.targets.protocol import Settings


def emit(
    graph: gs.Graph, plan: Plan, directory: Path, settings: Settings, versions: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Write every segment below `directory`; returns the manifest's entry of each.

    settings: of the target's segments; ONNX Runtime's are written in float32 and without options. versions: of the
    runtimes, by the target's name.
    """
    folders = [Path("segments") / f"{index}-{segment.target.name}" for index, segment in enumerate(plan.segments)]
    return [
        _write(graph, segment, folder, directory, settings, versions, plan.costs)
        for segment, folder in zip(plan.segments, folders, strict=True)
    ]


def model_of(graph: gs.Graph, segment: Segment) -> onnx.ModelProto:
    """A segment as a model of its own; ONNX Runtime's includes the function bodies of segc's ops.

    Raises CompileError where a boundary tensor has no known type.
    """
    for tensor in [*segment.inputs, *segment.outputs]:
        if tensor.dtype is None:
            raise CompileError(
                f"the graph cannot be split at '{tensor.name}'",
                code=Code.CANNOT_SPLIT,
                because="its type is unknown",
                so="compile with --no-hybrid to see which nodes the target refuses",
            )
    segment_graph = segment.graph
    if segment_graph is None:
        segment_graph = gs.Graph(
            nodes=list(segment.nodes), inputs=list(segment.inputs), outputs=list(segment.outputs), name=graph.name,
            opset=graph.opset, import_domains=graph.import_domains, ir_version=graph.ir_version,
        )  # fmt: skip
    return ir.to_model(segment_graph, functions=segment.on_host, origins=segment.target.source_info)


def _write(
    graph: gs.Graph, segment: Segment, relative: Path, directory: Path, settings: Settings, versions: Mapping[str, str],
    costs: Costs,
) -> dict[str, Any]:  # fmt: skip
    folder = directory / relative
    folder.mkdir(parents=True)
    emitted = segment.target.emit(model_of(graph, segment), folder, Settings() if segment.on_host else settings)
    return {
        "target": segment.target.name,
        "runtime": versions[segment.target.name],
        "directory": relative.as_posix(),
        "files": [(relative / name).as_posix() for name in emitted.files],
        "options": dict(emitted.options),
        "nodes": segment.count,
        "inputs": _boundary_tensors(segment.inputs, costs),
        "outputs": _boundary_tensors(segment.outputs, costs),
    }


def _boundary_tensors(tensors: Sequence[gs.Variable], costs: Costs) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "dtype": str(dtype_of(tensor)),
            "shape": None if tensor.shape is None else [s if isinstance(s, int) else None for s in tensor.shape],
            "bytes": costs.nbytes(tensor),
        }
        for tensor in tensors
    ]
