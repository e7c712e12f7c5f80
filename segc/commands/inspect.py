"""`segc.inspect`: the content of a bundle or an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segc.compilation.guarded import guarded_libraries
from segc.errors import Code, FileError, ShapeError
from segc.suggestions import checked_keywords

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

_LARGEST = 5  # tensors listed at the peak


@dataclass(frozen=True)
class Inspection:
    """The result; content: as `segc inspect --json` prints it."""

    path: Path
    kind: Literal["bundle", "onnx"]
    content: Mapping[str, Any]


@checked_keywords
def inspect(
    path: str | Path,
    *,
    origins: bool = False,
    shape: tuple[int, int] | None = None,
    memory_limit: float | None = None,
    time_limit: float | None = None,
) -> Inspection:
    """Read a bundle's manifest and report, or an ONNX file's graph: its size, ops, memory and refused nodes.

    origins: of an ONNX file, every node with the source line it comes from. shape: (height, width) in pixels that the
    memory of a dynamic graph is counted for. memory_limit (GiB), time_limit (seconds): of libraries that look at an
    ONNX file. Raises FileError, BundleError, SourceError, ShapeError.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(
            f"there is nothing at '{path}'", code=Code.NOT_FOUND, so="give a bundle's folder or an .onnx file"
        )
    with guarded_libraries(path, memory_limit, time_limit):
        if path.is_dir():
            return Inspection(path, "bundle", _bundle(path, shape))
        return Inspection(path, "onnx", _onnx(path, origins, shape))


def _bundle(path: Path, shape: tuple[int, int] | None) -> dict[str, Any]:
    from segc.bundle.report import REPORT, read_report
    from segc.bundle.store import read_bundle

    manifest = read_bundle(path)
    shown = {k: v for k, v in manifest.to_json().items() if k != "palette"}
    report = read_report(path) if REPORT in manifest.files else {}
    sized = None if manifest.segments else shape  # the inputs of segments are not images
    engines = {name: _memory(_read(path / name), sized) for name in manifest.files if name.endswith(".onnx")}
    return {
        **({"hybrid": manifest.hybrid} if manifest.hybrid else {}),
        **shown,
        **({"activations": engines} if engines else {}),
        "report": report,
    }


def _read(path: Path) -> gs.Graph:
    from segc.graph import external_weights, ir

    graph = external_weights.read_graph(path)
    ir.infer_shapes(graph)
    return graph


def _memory(graph: gs.Graph, shape: tuple[int, int] | None) -> dict[str, Any]:
    """Peak memory of the activations, and the largest tensors at the peak. Specializes `graph` if a shape is given."""
    from segc.graph.analysis.liveness import peak_memory
    from segc.passes.inputs.specialize_shapes import SpecializeShapes

    if shape is not None:
        try:
            SpecializeShapes(_batch(graph), *shape).run(graph)
        except ValueError as error:
            raise ShapeError(
                f"the graph cannot have the shape {shape[0]}x{shape[1]}", code=Code.FIXED_SHAPE, because=str(error)
            ) from error
    found = peak_memory(graph)
    if found.unknown and not found.live:
        return {"peak_mb": "unknown; give --shape HxW"}
    content: dict[str, Any] = {
        "peak_mb": round(found.peak / 1e6, 3),
        "at": f"step {found.step + 1} of {len(graph.nodes)}, '{found.node}'",
        "largest": [
            {"tensor": t.name, "mb": round(t.bytes / 1e6, 3), "type": f"{t.dtype} ({', '.join(map(str, t.shape))})"}
            for t in found.live[:_LARGEST]
        ],
    }
    if found.unknown:
        content["not_counted"] = f"{len(found.unknown)} tensors of unknown size; give --shape HxW"
    return content


def _batch(graph: gs.Graph) -> int | None:
    """1 if the batch of the image input is dynamic, else None."""
    image = next((t for t in graph.inputs if t.shape is not None and len(t.shape) == 4), None)
    return None if image is None or isinstance(image.shape[0], int) else 1


def _onnx(path: Path, origins: bool, shape: tuple[int, int] | None) -> dict[str, Any]:
    from segc.graph import external_weights, ir, source_info

    graph = _read(path)
    content: dict[str, Any] = {
        "file": path.name,
        "opset": graph.opset,
        "inputs": {t.name: _typed(t) for t in graph.inputs},
        "outputs": {t.name: _typed(t) for t in graph.outputs},
        "nodes": len(graph.nodes),
        "ops": dict(sorted(Counter(f"{n.domain}::{n.op}" if n.domain else n.op for n in ir.nodes(graph)).items())),
        "weights_mb": round(external_weights.weight_bytes(graph) / 1e6, 2),
        "refused_by": _refusals(graph),
    }
    if origins:
        content["origins"] = {node.name: str(source_info.of(node)) for node in graph.nodes}
    content["activations"] = _memory(graph, shape)
    return content


def _refusals(graph: Any) -> dict[str, list[str]]:
    """The nodes that each target refuses after its legalizations."""
    from segc import targets
    from segc.legality.report import refusals
    from segc.pipeline import stages

    found = {}
    for name in targets.names():
        target, copy = targets.get(name), graph.copy()
        pipeline = stages.chosen(f"{name} legalize", target.legalize)
        try:
            pipeline.run(copy)
        except ValueError as error:  # a pass that fixes sizes finds no image
            found[name] = [f"the graph as a whole: {error}"]
            continue
        found[name] = [f"{r.reason}: {len(r.nodes)} nodes" for r in refusals(copy, target)]
    return found


def _typed(tensor: Any) -> str:
    shape = "?" if tensor.shape is None else ", ".join("?" if s is None else str(s) for s in tensor.shape)
    return f"{tensor.dtype} ({shape})"
