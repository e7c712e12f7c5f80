"""Lower segc.ResizeArgMax to Resize and ArgMax, for runtimes without a faster form.

segc.ResizeArgMax(x, size)  ->  ArgMax over axis 1 of Resize(x, sizes = [N, C, *size]), mode linear. If a Squeeze of the
channel axis is the only reader of the result, it becomes keepdims = 0 of the ArgMax.

Must not fire: nothing; this is the definition of the op.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, insert, ints, optional, protected

INT64 = np.dtype(np.int64)


class LowerResizeArgMax(Pass):
    """Lower segc.ResizeArgMax to Resize and ArgMax. The resized logits are stored."""

    name = "lower-resize-argmax"
    algebra = "segc.ResizeArgMax(x, size)  ->  ArgMax(Resize(x, size))"
    requires = Pass.requires | {PORTABLE, "argmax folded", "thresholds folded"}
    ensures = frozenset({"no segc.ResizeArgMax"})
    invalidates = frozenset({"argmax folded", "no ArgMax", "identities removed", "lowerings merged"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, dialect.RESIZE_ARGMAX)]:
            _lower(graph, node, names, protected_ids)
            graph.nodes = [n for n in graph.nodes if n.outputs]
            result.changes += 1
        return result


def _lower(graph: gs.Graph, node: gs.Node, names: Names, protected_ids: set[int]) -> None:
    x, size, y = node.inputs[0], node.inputs[1], node.outputs[0]
    squeeze = _only_squeeze(y, protected_ids)
    target = squeeze.outputs[0] if squeeze is not None else y
    known = ints(size)
    shape = None if x.shape is None else [*x.shape[:2], *(known if known is not None else (None, None))]
    large = names.variable(target, "large", x.dtype, shape)
    attrs = {"mode": "linear", "coordinate_transformation_mode": node.attrs["coordinate_transformation_mode"]}
    prefix, sizes = _sizes(graph, x, size, target, names)
    if sizes is size:
        attrs["axes"] = [2, 3]
    y.inputs.clear()
    target.inputs.clear()
    inputs = [x, *(_omitted(graph, target, role, names) for role in ("roi", "scales")), sizes]
    resize = gs.Node("Resize", attrs=attrs, inputs=inputs, outputs=[large])
    argmax = gs.Node("ArgMax", attrs={"axis": 1, "keepdims": int(squeeze is None)}, inputs=[large], outputs=[target])
    insert(graph, node, [*prefix, resize, argmax])
    for dead in (node, squeeze):
        if dead is not None:
            dead.inputs.clear()
            dead.outputs.clear()


def _omitted(graph: gs.Graph, serves: gs.Tensor, role: str, names: Names) -> gs.Tensor:
    """An input of Resize that is not given: an empty constant where the opset has no optional ones."""
    return gs.Variable.empty() if graph.opset >= 13 else names.constant(serves, role, np.zeros(0, np.float32))


def _only_squeeze(y: gs.Variable, protected_ids: set[int]) -> gs.Node | None:
    """The Squeeze of axis 1 that is the only reader of `y`, otherwise None."""
    if id(y) in protected_ids or len(y.outputs) != 1 or y.outputs[0].op != "Squeeze" or y.outputs[0].domain is not None:
        return None
    squeeze = y.outputs[0]
    axes = squeeze.attrs.get("axes", ints(optional(squeeze, 1)))
    return squeeze if axes is not None and list(axes) == [1] else None


def _sizes(
    graph: gs.Graph, x: gs.Tensor, size: gs.Tensor, serves: gs.Tensor, names: Names
) -> tuple[list[gs.Node], gs.Tensor]:
    """The nodes that compute the sizes input of the Resize, and that input; `size` itself if `axes` names the rest."""
    known, kept = ints(size), ir.static_shape(x)
    if known is not None and kept is not None:
        return [], names.constant(serves, "sizes", [*kept[:2], *known])
    if graph.opset >= 18:
        return [], size
    shape = names.variable(serves, "shape", INT64, [4])
    outer = names.variable(serves, "outer", INT64, [2])
    sizes = names.variable(serves, "sizes", INT64, [4])
    edges = [names.constant(serves, f"outer_{what}", [at]) for what, at in (("start", 0), ("end", 2))]
    nodes = [
        gs.Node("Shape", inputs=[x], outputs=[shape]),
        gs.Node("Slice", inputs=[shape, *edges], outputs=[outer]),
        gs.Node("Concat", attrs={"axis": 0}, inputs=[outer, size], outputs=[sizes]),
    ]
    return nodes, sizes
