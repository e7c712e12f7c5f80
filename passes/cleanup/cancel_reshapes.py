"""Merge and cancel Reshape, Flatten, Squeeze, Unsqueeze, and Transposes that move only axes of size 1.

All of them keep the elements in order, so only the last shape matters. With r, r' any of these nodes:

    merge          r(r'(x))            ->  Reshape(x, shape of the result), or x if that is the shape of x
    sink chain     r(f(r'(x)))         ->  Reshape(f(x)); f: elementwise, or along a last axis that r' keeps
    hoist squeeze  s(Transpose(r(x)))  ->  Transpose'(Reshape(x)); s only adds or removes axes of size 1

For example, with x of shape [1, 8, 16],

    Reshape(Relu(Reshape(x, [8, 16])), [1, 128])               ->  Reshape(Relu(x), [1, 128])
    Unsqueeze(Transpose(Squeeze(x, 0), [1, 0]), 0), [1, 16, 8] ->  Transpose(Reshape(x, [1, 8, 16]), [0, 2, 1])

The new shape is a constant: sizes that are numbers, 0 where the size is the symbol at the same place in x, and -1 for
at most one other. f along the last axis: MatMul by a matrix, LayerNormalization, a bias.

Must not fire: where two sizes are unknown; a Transpose that swaps two axes larger than 1; an intermediate result that
is an output or has a user that needs its shape, if no node is saved; a constant that broadcasts along other axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.commute import BINARY, UNARY, Chain, Rules, chains, elementwise, last_axis_only, perm_of
from segc.passes.support.edit import forward, prune, rank

KEEPS_ORDER = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


class CancelReshapes(Pass):
    """Merge and cancel nodes that change the shape only, where that saves nodes. Cost: a few walks over these nodes."""

    name = "cancel-reshapes"
    algebra = "Reshape(f(Squeeze(x)))  ->  Reshape(f(x)), or f(x) if the shape is that of x"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    invalidates = REVEALED | {"batchnorms fused", "convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Apply the three rules until none applies."""
        rules = _ReshapeRules(graph)
        return rules.apply_until_stable(rules.merge, rules.sink_through_chain, rules.hoist_above_transpose)


class _ReshapeRules(Rules):
    def merge(self, node: gs.Node) -> int:
        """A reshape of a reshape becomes one Reshape."""
        first = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
        if first is None or not keeps_order(node) or not keeps_order(first):
            return 0
        if _is(node, "Transpose") and _is(first, "Transpose"):
            return 0
        if not self._reshape_from(node, first.inputs[0]):
            return 0
        prune(self.graph, first, self.protected_ids)
        return 1

    def sink_through_chain(self, node: gs.Node) -> int:
        """A reshape before a chain of nodes that ignore the shape merges with the reshape at the chain's end."""
        if not keeps_order(node):
            return 0
        x, moved = node.inputs[0], node.outputs[0]
        found = chains(
            node, lambda user, data: _commutes(user, data, x, moved, self.graph.opset), keeps_order, self.protected_ids
        )
        node_becomes_unused = bool(found) and all(c is not None and self._can_reshape(c, x) for c in found)
        sunk = 0
        for chain in [c for c in found if c is not None and c.through]:
            if node_becomes_unused or self._end_becomes_unused(chain, x):
                sunk += self._sink_through(moved, chain, x)
        if sunk:
            prune(self.graph, node, self.protected_ids)
        return sunk

    def hoist_above_transpose(self, node: gs.Node) -> int:
        """A reshape after a Transpose that only adds or removes axes of size 1 merges with the one before it."""
        site = self._transpose_between_reshapes(node)
        if site is None:
            return 0
        first, transpose = site
        after, final = (ir.static_shape(n.outputs[0]) for n in (transpose, node))
        order = perm_of(transpose)
        if order is None or after is None or final is None:
            return 0
        if [size for size in after if size != 1] != [size for size in final if size != 1]:
            return 0
        large_axes = [axis for axis, size in zip(order, after, strict=True) if size != 1]
        shape, transpose.attrs["perm"] = shape_before_transpose(final, large_axes)
        first.outputs[0].shape = shape
        self._set_reshape(first, first.inputs[0], shape)
        y = node.outputs[0]
        y.inputs.clear()
        transpose.outputs = [y]
        node.inputs.clear()
        self.graph.nodes = [n for n in self.graph.nodes if n is not node]
        return 1

    def _transpose_between_reshapes(self, last: gs.Node) -> tuple[gs.Node, gs.Node] | None:
        """(first, Transpose) of last(Transpose(first(x))), two reshapes, where nothing else reads what is between."""
        transpose = last.inputs[0].inputs[0] if last.inputs and last.inputs[0].inputs else None
        if transpose is None or not _is(transpose, "Transpose") or not transpose.inputs[0].inputs:
            return None
        first = transpose.inputs[0].inputs[0]
        if not keeps_order(last) or not keeps_order(first) or keeps_order(transpose):
            return None
        read_once = all(len(n.outputs[0].outputs) == 1 and self._unprotected(n) for n in (transpose, first))
        return (first, transpose) if read_once else None

    def _can_reshape(self, chain: Chain, x: gs.Tensor) -> bool:
        """Whether the end of the chain can make its shape when the chain starts from `x`."""
        end = chain.end
        if constant_shape(_shape_after(chain, x), end.outputs[0].shape) is not None:
            return True
        self.skipped[id(end)] = (end, f"two sizes of '{end.outputs[0].name}' are unknown")
        return False

    def _end_becomes_unused(self, chain: Chain, x: gs.Tensor) -> bool:
        """Whether the chain makes the final shape by itself when it starts from `x`."""
        return same(_shape_after(chain, x), chain.end.outputs[0].shape) and self._unprotected(chain.end)

    def _unprotected(self, node: gs.Node) -> bool:
        return id(node.outputs[0]) not in self.protected_ids

    def _sink_through(self, moved: gs.Tensor, chain: Chain, x: gs.Tensor) -> int:
        """Let the chain start from `x` instead of `moved`; its end makes the shape."""
        for step in chain.through:
            y = step.outputs[0]
            shape = _shape_through(step, x.shape, y.shape)
            if step.op in ("LayerNormalization", "Softmax", "LogSoftmax"):
                step.attrs["axis"] = -1
            step.inputs = [x if t is moved else t for t in step.inputs]
            y.shape = shape
            moved = x = y
        return int(self._reshape_from(chain.end, moved))

    def _reshape_from(self, node: gs.Node, x: gs.Tensor) -> bool:
        """Let `node` reshape `x`; remove it if `x` has that shape already. Returns whether it could."""
        y = node.outputs[0]
        if same(x.shape, y.shape) and forward(self.graph, y, x, self.protected_ids) is None:
            node.inputs.clear()
            node.outputs.clear()
            self.graph.nodes = [n for n in self.graph.nodes if n is not node]
            return True
        shape = constant_shape(x.shape, y.shape)
        if shape is None:
            self.skipped[id(node)] = (node, f"two sizes of '{y.name}' are unknown")
            return False
        self._set_reshape(node, x, shape)
        return True

    def _set_reshape(self, node: gs.Node, x: gs.Tensor, shape: Sequence[int]) -> None:
        constant = self.names.constant(node.outputs[0], "shape", np.array(shape, np.int64))
        node.op, node.attrs, node.inputs = "Reshape", {}, [x, constant]


def _is(node: gs.Node, op: str) -> bool:
    return bool(node.op == op and node.domain is None)


def keeps_order(node: gs.Node) -> bool:
    """Whether the node gives its input's elements in the same order, in another shape that is known."""
    if node.domain or not node.inputs or len(node.outputs) != 1 or node.outputs[0].shape is None:
        return False
    if node.op in KEEPS_ORDER:
        return node.inputs[0].dtype is not None and rank(node.inputs[0]) is not None
    order = perm_of(node)
    shape = node.inputs[0].shape
    if order is None or shape is None or len(shape) != len(order):
        return False
    large = [axis for axis in order if shape[axis] != 1]
    return large == sorted(large) and list(order) != sorted(order)


def same(a: Sequence[Any] | None, b: Sequence[Any] | None) -> bool:
    """Whether two shapes of one tensor are equal. At most one size may differ in what is known of it: the element
    count determines that size.
    """
    if a is None or b is None or len(a) != len(b):
        return False
    differ = [(s, t) for s, t in zip(a, b, strict=True) if s is None or s != t]
    if any(isinstance(s, int) and isinstance(t, int) for s, t in differ) or any(s == 0 for s in a):
        return False
    return len(differ) <= 1


def constant_shape(x: Sequence[Any] | None, y: Sequence[Any] | None) -> list[int] | None:
    """The shape input of a Reshape from `x` to `y`, None if it cannot be a constant."""
    if x is None or y is None or any(isinstance(size, int) and size < 1 for size in [*x, *y]):
        return None
    shape: list[int] = []
    for axis, size in enumerate(y):
        if isinstance(size, (int, np.integer)):
            shape.append(int(size))
        else:
            shape.append(0 if size is not None and axis < len(x) and x[axis] == size else -1)
    return shape if shape.count(-1) <= 1 else None


def shape_before_transpose(final: Sequence[int], large_axes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The shape before a Transpose whose result has the shape `final`, and the perm of that Transpose.

    large_axes: the axes larger than 1 of the result, in order, each as the number of the axis it was before.
    Axes of size 1 keep their place; the others stand between them in the order they had before the Transpose. So
    final = [1, 16, 8] and large_axes = [1, 0] (a swap) give the shape [1, 8, 16] and perm = [0, 2, 1].
    """
    places = [axis for axis, size in enumerate(final) if size != 1]
    order = list(range(len(final)))
    shape = [1] * len(final)
    for place, position in zip(places, np.argsort(np.argsort(large_axes)), strict=True):
        order[place] = places[int(position)]
        shape[places[int(position)]] = final[place]
    return shape, order


def _shape_after(chain: Chain, x: gs.Tensor) -> list[Any] | None:
    """The shape at the end of the chain if it starts from `x`."""
    shape = None if x.shape is None else list(x.shape)
    for step in chain.through:
        shape = _shape_through(step, shape, step.outputs[0].shape)
    return shape


def _shape_through(node: gs.Node, x: Sequence[Any] | None, y: Sequence[Any] | None) -> list[Any] | None:
    """The shape that `node` makes of a tensor of shape `x`; `y`: the shape of its output so far."""
    if x is None or y is None:
        return None
    return [*x[:-1], y[-1]] if node.op == "MatMul" else list(x)


def _commutes(node: gs.Node, data: gs.Tensor, x: gs.Tensor, moved: gs.Tensor, opset: int) -> bool:
    """Whether `node`, which reads `data`, may run before the reshape from `x` to `moved`."""
    if not node.outputs or node.outputs[0].shape is None or x.shape is None or not x.shape or not moved.shape:
        return False
    rows_stay = isinstance(x.shape[-1], int) and x.shape[-1] == moved.shape[-1]
    if node.op in UNARY | BINARY:
        other = elementwise(node, data)
        if other is True:
            scalars = [t for t in node.inputs if isinstance(t, gs.Constant)]
            return all(len(t.shape) <= len(x.shape) for t in scalars)
        if not isinstance(other, gs.Constant) or data.shape is None:
            return False
        is_row = int(np.prod(other.shape)) == other.shape[-1] == data.shape[-1] and len(other.shape) <= len(x.shape)
        return rows_stay and is_row and len(other.shape) <= len(data.shape)
    if node.op in ("Softmax", "LogSoftmax"):
        return opset >= 13 and rows_stay and node.attrs.get("axis", -1) in (-1, (rank(data) or 0) - 1)
    return rows_stay and len(x.shape) >= 2 and last_axis_only(node, data)
