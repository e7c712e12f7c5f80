"""`segc inspect`: the content of a bundle or an ONNX file."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from segc.cli import arguments

if TYPE_CHECKING:
    from segc.commands.inspect import Inspection


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("inspect", help="show the content of a bundle or an ONNX file")
    p.add_argument("path", metavar="BUNDLE|ONNX")
    p.add_argument(
        "--origins", action="store_true", help="for an ONNX file: each node with the source line that it comes from"
    )
    p.add_argument("--shape", metavar="HxW", help="for a dynamic ONNX graph: the input size for the estimate of memory")
    arguments.add_native_limits(p)
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Print a bundle's manifest and report, or an ONNX file's graph."""
    content = dict(_inspected(args).content)
    if args.json:
        print(json.dumps(content, indent=2))
    else:
        _print({**content, "segments": _outline(content["segments"])} if content.get("segments") else content)
    return 0


def _inspected(args: argparse.Namespace) -> Inspection:
    arguments.prepare_libraries(args.path)
    from segc.commands.inspect import inspect

    shape = arguments.shape(args.shape) if args.shape is not None else None
    return inspect(
        args.path, origins=args.origins, shape=shape, memory_limit=args.memory_limit, time_limit=args.time_limit
    )


def _outline(segments: list[dict[str, Any]]) -> dict[str, Any]:
    """The segments of a bundle in execution order, and the tensors between them."""
    return {
        segment["directory"]: {
            "runs": f"{_counted(segment['nodes'])} in {segment['target']} {segment['runtime']}",
            **{side: [_boundary_tensor(tensor) for tensor in segment[side]] for side in ("inputs", "outputs")},
        }
        for segment in segments
    }


def _counted(nodes: int) -> str:
    return f"{nodes} node{'s' * (nodes != 1)}"


def _boundary_tensor(tensor: dict[str, Any]) -> str:
    sizes = tensor["shape"]
    shape = "?" if sizes is None else ", ".join("?" if size is None else str(size) for size in sizes)
    return f"{tensor['name']} {tensor['dtype']} ({shape}) {tensor['bytes'] or '?'} bytes"


def _print(content: dict[str, Any], indent: int = 0) -> None:
    """Print nested values as an indented outline, short lists on one line."""
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
