"""The origin of a node: the source line and module, from the metadata that torch's exporter writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

import onnx
import onnx_graphsurgeon as gs

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_KEYS = {"segc.source": "source", "segc.scope": "scope", "segc.pass": "made_by"}


@dataclass(frozen=True, slots=True)
class Origin:
    """source: 'package/file.py:line function'; scope: dotted module path; made_by: the pass that created the node.

    for_runtime: whether that pass rewrites for one runtime; not stored in files.
    """

    source: str = ""
    scope: str = ""
    made_by: str = ""
    for_runtime: bool = False

    def __str__(self) -> str:
        where = " in ".join(part for part in (self.source, self.scope) if part) or "unknown origin"
        return f"{where} (by {self.made_by})" if self.made_by else where


def read(node: onnx.NodeProto) -> Origin:
    """The origin from a node's metadata_props: from segc's keys, else from those of torch's exporter."""
    props = {p.key: p.value for p in node.metadata_props}
    if own := {field: props[key] for key, field in _KEYS.items() if key in props}:
        return Origin(**own)
    return Origin(source_line(props.get("pkg.torch.onnx.stack_trace", "")), _scope(props))


def origins(model: onnx.ModelProto) -> Mapping[str, Origin]:
    """Where the node of each tensor comes from."""
    return {name: read(node) for node in model.graph.node for name in node.output if name}


def write(node: onnx.NodeProto, origin: Origin) -> None:
    """Store `origin` in the node's metadata_props, under segc's keys."""
    del node.metadata_props[:]
    for key, field in _KEYS.items():
        if value := getattr(origin, field):
            node.metadata_props.add(key=key, value=value)


def of(node: gs.Node) -> Origin:
    """The origin of a node of the IR; empty if unknown."""
    return getattr(node, "segc_origin", Origin())


def put(node: gs.Node, origin: Origin) -> None:
    """Attach `origin` to a node of the IR."""
    node.segc_origin = origin


def source_line(stack_trace: str) -> str:
    """The innermost frame outside torch, with its path below site-packages or, elsewhere, its file name."""
    frames = [m.groupdict() for m in _FRAME.finditer(stack_trace)]
    ours = [f for f in frames if "/torch/" not in f["file"].replace("\\", "/")] or frames
    if not ours:
        return ""
    frame = ours[-1]
    parts = PurePath(frame["file"]).parts
    cut = max((i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")), default=len(parts) - 2)
    return f"{'/'.join(parts[cut + 1 :])}:{frame['line']} {frame['function']}"


def _scope(props: dict[str, str]) -> str:
    try:
        scopes = ast.literal_eval(props.get("pkg.torch.onnx.name_scopes", "[]"))
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]) if len(scopes) > 1 else ""


class Adoption:
    """Gives a name and an origin to the nodes that a pass created.

    A new node that writes a tensor of before gets the origin of that tensor's former producer. Any other new node gets
    the origin of its first user.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.known = {id(t): of(n) for n in graph.nodes for t in n.outputs}

    def adopt(self, graph: gs.Graph, pass_name: str, *, for_runtime: bool = False) -> None:
        """Call this after the pass `pass_name`, on the sorted graph. for_runtime: see Origin."""
        for node in reversed(graph.nodes):
            if hasattr(node, "segc_origin"):
                continue
            put(node, replace(self._former(node), made_by=pass_name, for_runtime=for_runtime))
            if not node.name and node.outputs:
                node.name = f"{pass_name}/{node.outputs[0].name}"

    def _former(self, node: gs.Node) -> Origin:
        for tensor in node.outputs:
            if id(tensor) in self.known:
                return self.known[id(tensor)]
        return next((of(user) for tensor in node.outputs for user in tensor.outputs), Origin())
