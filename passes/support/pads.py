"""Reading a Pad of any opset: its mode, pads and fill value."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.passes.support.edit import ints, optional, rank, scalar


def is_pad(node: gs.Node) -> bool:
    """Whether this is a Pad of the standard domain."""
    return bool(node.op == "Pad" and node.domain is None and node.inputs and node.outputs)


def pad_mode(node: gs.Node) -> str:
    """The mode of a Pad: constant, reflect, edge or wrap."""
    value = node.attrs.get("mode", "constant")
    return value.decode() if isinstance(value, bytes) else str(value)


def pads_of(node: gs.Node) -> list[int] | None:
    """Cells added before each axis, then after each axis; None if they are not constant."""
    dims = rank(node.inputs[0])
    values = list(node.attrs["pads"]) if "pads" in node.attrs else ints(optional(node, 1))
    if values is None or dims is None:
        return None
    if optional(node, 3) is None:
        return values if len(values) == 2 * dims else None
    axes = ints(optional(node, 3))
    if axes is None or len(values) != 2 * len(axes):
        return None
    all_axes = [0] * (2 * dims)
    for i, axis in enumerate(axes):
        all_axes[axis % dims], all_axes[axis % dims + dims] = values[i], values[i + len(axes)]
    return all_axes


def pad_value(node: gs.Node) -> float | None:
    """The value that a Pad of mode constant fills in; None if it is computed."""
    if "value" in node.attrs:
        return float(node.attrs["value"])
    fill_value = optional(node, 2)
    return 0.0 if fill_value is None else scalar(fill_value)
