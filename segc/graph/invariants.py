"""What the facts in a pass's `needs`, `gives` and `drops` mean: a predicate for each."""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from segc.graph import dialect, ir

MASK = "mask"  # what the only output of a mask engine is called

# Standard ops that a pass of their own rewrites for runtimes and opsets without them.
LEGALIZED = (
    "ArgMax",
    "Attention",
    "Einsum",
    "GatherElements",
    "Gelu",
    "GridSample",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "PRelu",
    "ScatterElements",
)

Fact = Callable[[gs.Graph], str | None]  # None: it holds; otherwise what breaks it first


def static_shapes(graph: gs.Graph) -> str | None:
    """Every size of every tensor is a number."""
    for tensor in [*graph.inputs, *(t for node in graph.nodes for t in node.outputs), *graph.outputs]:
        if not tensor.is_empty() and ir.static_shape(tensor) is None:
            return f"'{tensor.name}' has shape {tensor.shape if tensor.shape is None else list(tensor.shape)}"
    return None


def without(op: str | None = None) -> Fact:
    """No node of the segc dialect, or none of this op of it, subgraphs included."""

    def check(graph: gs.Graph) -> str | None:
        for node in ir.nodes(graph):
            if node.domain == dialect.DOMAIN and op in (None, node.op):
                return f"node '{node.name}' is a {dialect.DOMAIN}.{node.op}"
        return None

    return check


def without_standard(op: str) -> Fact:
    """No node of this standard op, subgraphs included."""

    def check(graph: gs.Graph) -> str | None:
        for node in ir.nodes(graph):
            if node.op == op and not node.domain:
                return f"node '{node.name}' is a {op}"
        return None

    return check


def axes_in_order(graph: gs.Graph) -> str | None:
    """Every axis that is written down counts from the front, and lists of axes ascend."""
    for node in ir.nodes(graph):
        if node.domain:
            continue
        lists = [[node.attrs.get("axis", 0)], list(node.attrs.get("axes", ()))]
        at = 1 if node.op.startswith("Reduce") else {"Squeeze": 1, "Unsqueeze": 1, "Slice": 3, "Pad": 3}.get(node.op)
        if at is not None and at < len(node.inputs) and isinstance(node.inputs[at], gs.Constant):
            lists.append([int(axis) for axis in node.inputs[at].values.flat])
        for axes in lists:
            if min(axes, default=0) < 0 or axes != sorted(axes):
                return f"node '{node.name}' has axes {axes}"
    return None


def symmetric_pads(graph: gs.Graph) -> str | None:
    """Every Conv, MaxPool and AveragePool pads both ends of a side alike, and says how much."""
    for node in ir.nodes(graph):
        if node.op not in ("Conv", "MaxPool", "AveragePool") or node.domain:
            continue
        if str(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
            return f"node '{node.name}' has auto_pad {node.attrs['auto_pad']}"
        pads = list(node.attrs.get("pads", ()))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            return f"node '{node.name}' has pads {pads}"
    return None


def mask_output(graph: gs.Graph) -> str | None:
    """The only output is `mask` of shape (N, H, W): uint8 or uint16, or int32 or int64 for want of smaller."""
    if len(graph.outputs) != 1:
        return f"{len(graph.outputs)} outputs"
    mask = graph.outputs[0]
    if mask.name != MASK:
        return f"the output is called '{mask.name}'"
    if mask.dtype not in ("uint8", "uint16", "int32", "int64"):
        return f"the output is {mask.dtype}"
    if mask.shape is None or len(mask.shape) != 3:
        return f"the output has shape {mask.shape if mask.shape is None else list(mask.shape)}"
    return None


FACTS: dict[str, Fact] = {
    "static-shapes": static_shapes,
    "mask-output": mask_output,
    "axes in order": axes_in_order,
    "symmetric pads": symmetric_pads,
    "no segc dialect": without(),
    **{f"no segc.{op}": without(op) for op in dialect.OPS},
    **{f"no {op}": without_standard(op) for op in LEGALIZED},
}
