"""Make ONNX defaults explicit, for runtimes that read every attribute and every output.

    Conv, ConvTranspose, pools    kernel_shape, strides, pads, dilations, group; auto_pad VALID becomes pads of 0
    Conv(x, w)                    the bias: 0; a bias that other nodes read too: a copy
    Reduce...(x), keepdims        axes: all of them
    Squeeze(x)                    axes: those of size 1
    Split(x) into n               the sizes
    Pad(x, pads)                  the value: 0
    outputs without a name        removed at the end; those of TopK get a name

Exact: the nodes do the same. Only attributes that an op has in the graph's opset are written. Axes and sizes that are
inputs (from opset 13 or 18 on) stay, so this pass runs after lower-opset.

Must not fire: where a shape that would have to be written is unknown.
"""

from __future__ import annotations

import numpy as np
import onnx.defs
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import RewriteNotApplicable, text
from segc.passes.support.edit import Names, optional, rank

WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")


class LegalizeDefaults(Pass):
    """Write attributes that have defaults, and name or remove outputs without a name."""

    name = "legalize-defaults"
    algebra = "Conv(x, w)  ->  Conv<kernel_shape, strides, pads, dilations, group>(x, w), and likewise for others"
    requires = frozenset({SINGLE})
    ensures = frozenset({"defaults written"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite nodes in place."""
        result, names = PassResult(), Names(graph)
        for node in [n for n in ir.nodes(graph) if not n.domain]:
            try:
                attributes = explicit_attributes(node, graph.opset)
            except RewriteNotApplicable as why:
                result.skip(node, str(why))
                continue
            changed = attributes != dict(node.attrs)
            node.attrs = attributes
            result.changes += changed | _set_pad_value(node, names) | _set_bias(node, names) | _fix_outputs(node, names)
        return result


def explicit_attributes(node: gs.Node, opset: int) -> dict[str, object]:
    """All attributes of the node, including defaults. Raises RewriteNotApplicable."""
    attrs = dict(node.attrs)
    known = onnx.defs.get_schema(node.op, opset).attributes if onnx.defs.has(node.op) else {}
    if node.op in WINDOWS:
        attrs = _window_attributes(node, attrs)
    elif node.op.startswith("Reduce") and "axes" in known and "axes" not in attrs and attrs.get("keepdims", 1):
        if (dims := rank(node.inputs[0])) is None:
            raise RewriteNotApplicable(f"the rank of '{node.inputs[0].name}' is unknown")
        attrs["axes"] = list(range(dims))
    elif node.op == "Squeeze" and "axes" in known and "axes" not in attrs:
        shape = ir.static_shape(node.inputs[0])
        if shape is None:
            raise RewriteNotApplicable(f"'{node.inputs[0].name}' is not static")
        attrs["axes"] = [axis for axis, size in enumerate(shape) if size == 1]
    elif node.op == "Split" and "split" in known and "split" not in attrs:
        attrs["split"] = _split_sizes(node)
    return {name: value for name, value in attrs.items() if name in known or name in node.attrs}


def _window_attributes(node: gs.Node, attrs: dict[str, object]) -> dict[str, object]:
    shape = node.inputs[1].shape if "Conv" in node.op else None
    kernel = attrs.get("kernel_shape", None if shape is None else list(shape[2:]))
    if not isinstance(kernel, list) or not all(isinstance(size, int) for size in kernel):
        raise RewriteNotApplicable("its kernel size is unknown")
    sides = len(kernel)
    defaults = {"kernel_shape": kernel, "strides": [1] * sides, "pads": [0] * 2 * sides, "dilations": [1] * sides}
    if "Conv" in node.op:
        defaults["group"] = 1  # type: ignore[assignment]
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        del defaults["pads"]
    else:
        attrs = {name: value for name, value in attrs.items() if name != "auto_pad"}
    if not any(node.attrs.get("output_padding", [1])):
        del attrs["output_padding"]
    if "dilations" not in onnx.defs.get_schema(node.op, 11).attributes and "dilations" not in attrs:
        del defaults["dilations"]
    return {**defaults, **attrs}


def _split_sizes(node: gs.Node) -> list[int]:
    shape, axis = node.inputs[0].shape, node.attrs.get("axis", 0)
    side = None if shape is None else shape[axis]
    if not isinstance(side, int):
        raise RewriteNotApplicable(f"the size of '{node.inputs[0].name}' along axis {axis} is not static")
    return [side // len(node.outputs)] * len(node.outputs)


def _set_pad_value(node: gs.Node, names: Names) -> bool:
    """Give a Pad its fill value, which modes other than constant ignore. Returns whether it changed."""
    if node.op != "Pad" or optional(node, 2) is not None or node.inputs[0].dtype is None:
        return False
    value = names.constant(node.outputs[0], "value", np.array(0, node.inputs[0].dtype))
    node.inputs = [*node.inputs[:2], value, *node.inputs[3:]]
    return True


def _set_bias(node: gs.Node, names: Names) -> bool:
    """Give a Conv with known channels a bias of its own. Returns whether it changed."""
    bias, channels = optional(node, 2), (node.inputs[1].shape or [None])[0] if node.op == "Conv" else None
    if not isinstance(channels, int) or node.inputs[0].dtype is None:
        return False
    if bias is None:
        values = np.zeros(channels, node.inputs[0].dtype)
    elif isinstance(bias, gs.Constant) and len(bias.outputs) > 1:
        values = bias.values
    else:
        return False
    node.inputs = [*node.inputs[:2], names.constant(node.outputs[0], "bias", values)]
    return True


def _fix_outputs(node: gs.Node, names: Names) -> bool:
    """Remove outputs without a name, or name them. Returns whether the node changed."""
    changed = False
    if node.op == "TopK":
        for i, (role, dtype) in enumerate((("values", node.inputs[0].dtype), ("indices", np.dtype(np.int64)))):
            if i < len(node.outputs) and not node.outputs[i].is_empty():
                continue
            named = next(t for t in node.outputs if not t.is_empty())
            output = names.variable(named, role, dtype, named.shape)
            node.outputs = [*node.outputs[:i], output, *node.outputs[i + 1 :]]
            changed = True
    while len(node.outputs) > 1 and node.outputs[-1].is_empty():
        node.outputs.pop()
        changed = True
    return changed
