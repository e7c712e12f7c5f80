"""`segc inspect`: what is in a bundle or an ONNX file."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.errors import FileError

if TYPE_CHECKING:
    import onnx


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("inspect", help="show what is in a bundle or an ONNX file")
    p.add_argument("path", metavar="BUNDLE|ONNX")
    p.add_argument(
        "--origins", action="store_true", help="of an ONNX file: every node with the source line it comes from"
    )
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Show a bundle's manifest and report, or an ONNX file's graph."""
    path = Path(args.path)
    if not path.exists():
        raise FileError(f"there is nothing at '{path}'", so="give a bundle's folder or an .onnx file")
    content = _bundle(path) if path.is_dir() else _onnx(path, args.origins)
    if args.json:
        print(json.dumps(content, indent=2))
    else:
        _print(content)
    return 0


def _bundle(path: Path) -> dict[str, Any]:
    from segc.bundle import read_bundle

    manifest = read_bundle(path)
    shown = {k: v for k, v in manifest.to_json().items() if k != "palette"}
    report_file = path / "report.json"
    report = json.loads(report_file.read_text(encoding="utf-8")) if report_file.is_file() else {}
    return {**shown, "report": report}


def _onnx(path: Path, origins: bool) -> dict[str, Any]:
    from segc import ir, origin
    from segc.frontend.onnx_file import read_model

    model = read_model(path)
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    content: dict[str, Any] = {
        "file": path.name,
        "opset": graph.opset,
        "inputs": {t.name: _typed(t) for t in graph.inputs},
        "outputs": {t.name: _typed(t) for t in graph.outputs},
        "nodes": len(graph.nodes),
        "ops": dict(sorted(Counter(f"{n.domain}::{n.op}" if n.domain else n.op for n in ir.nodes(graph)).items())),
        "weights_mb": round(_weight_bytes(model) / 1e6, 2),
        "refused_by": _refusals(graph),
    }
    if origins:
        content["origins"] = {node.name: str(origin.of(node)) for node in graph.nodes}
    return content


def _refusals(graph: Any) -> dict[str, list[str]]:
    """What each target would refuse as the graph stands, before its legalizations."""
    from segc import legality, targets

    return {
        name: [f"{r.reason}: {len(r.nodes)} nodes" for r in legality.refusals(graph, targets.get(name))]
        for name in targets.names()
    }


def _weight_bytes(model: onnx.ModelProto) -> int:
    import math

    import onnx.helper

    sizes = (
        onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize * math.prod(t.dims) for t in model.graph.initializer
    )
    return int(sum(sizes))


def _typed(tensor: Any) -> str:
    shape = "?" if tensor.shape is None else ", ".join("?" if s is None else str(s) for s in tensor.shape)
    return f"{tensor.dtype} ({shape})"


def _print(content: dict[str, Any], indent: int = 0) -> None:
    """Nested values as an indented outline; short lists stay on one line."""
    for key, value in content.items():
        label = f"{'  ' * indent}{key}:"
        if isinstance(value, dict) and value:
            print(label)
            _print(value, indent + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(label)
            for item in value:
                print(f"{'  ' * (indent + 1)}- " + ", ".join(f"{k} {v}" for k, v in item.items()))
        else:
            print(f"{label} {', '.join(map(str, value)) if isinstance(value, list) else value}")
