"""Merge and cancel Reshape, Flatten, Squeeze, Unsqueeze, and Transposes that move only axes of size 1.

All of them keep the elements in order; the last shape alone decides. So

    r(r'(x))           ->  Reshape(x, shape of the result), and x where that is the shape of x
    r(f(r'(x)))        ->  Reshape(f(x)); f: element by element, or along a last axis that r' keeps
    s(Transpose(r(x))) ->  Transpose'(Reshape(x)); s only adds or drops axes of size 1

The new shape is a constant: sizes that are numbers, 0 where the size is the symbol that stands at the same place in x,
and -1 for at most one other. f along the last axis: MatMul by a matrix, LayerNormalization, a bias.

Must not fire: where two sizes are unknown; a Transpose that swaps two axes larger than 1; where the value between is
an output or has a user that needs its shape, and nothing is gained; a constant that broadcasts along other axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.cancel_transposes import perm
from segc.passes.support.commute import BINARY, UNARY, Chain, Rules, chains, elementwise, last_axis_only
from segc.passes.support.edit import forward, prune, rank

KEEPS_ORDER = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


class CancelReshapes(Pass):
    """Merge and cancel nodes that only rename the axes, where fewer nodes remain. Cost: a few walks over them."""

    name = "cancel-reshapes"
    algebra = "Reshape(f(Squeeze(x)))  ->  Reshape(f(x)), nothing where the shape is that of x"

    def run(self, graph: gs.Graph) -> PassResult:
        """Apply the three rules until none does anything."""
        site = _Site(graph)
        return site.exhaust(site.merged, site.sunk, site.unsqueezed)


class _Site(Rules):
    def merged(self, node: gs.Node) -> int:
        """One right after the other."""
        first = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
        if first is None or not keeps_order(node) or not keeps_order(first):
            return 0
        if _is(node, "Transpose") and _is(first, "Transpose"):
            return 0
        if not self._reads(node, first.inputs[0]):
            return 0
        prune(self.graph, first, self.keep)
        return 1

    def sunk(self, node: gs.Node) -> int:
        """Before and after nodes that do not care."""
        if not keeps_order(node):
            return 0
        x, moved = node.inputs[0], node.outputs[0]
        found = chains(
            node, lambda user, data: _commutes(user, data, x, moved, self.graph.opset), keeps_order, self.keep
        )
        whole = bool(found) and all(c is not None and self._can(c, x) for c in found)
        done = 0
        for each in [c for c in found if c is not None and c.through]:
            if whole or (same(_after(each, x), each.end.outputs[0].shape) and self._free(each.end)):
                done += self._sink(moved, each, x)
        if done:
            prune(self.graph, node, self.keep)
        return done

    def unsqueezed(self, node: gs.Node) -> int:
        """Axes of size 1 that come or go behind a Transpose may come or go before it."""
        turn = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
        if turn is None or not keeps_order(node) or not _is(turn, "Transpose") or not turn.inputs[0].inputs:
            return 0
        first = turn.inputs[0].inputs[0]
        wanted, turned = (ir.static_shape(n.outputs[0]) for n in (node, turn))
        order = perm(turn)
        if order is None or wanted is None or turned is None or not keeps_order(first) or keeps_order(turn):
            return 0
        alone = all(len(n.outputs[0].outputs) == 1 and id(n.outputs[0]) not in self.keep for n in (turn, first))
        large = [size for size in wanted if size != 1]
        if not alone or large != [size for size in turned if size != 1]:
            return 0
        shape, after = earlier(wanted, [axis for axis, size in zip(order, turned, strict=True) if size != 1])
        y, between = node.outputs[0], first.outputs[0]
        between.shape = shape
        self._reshape(first, first.inputs[0], shape)
        turn.attrs["perm"] = after
        y.inputs.clear()
        turn.outputs = [y]
        node.inputs.clear()
        self.graph.nodes = [n for n in self.graph.nodes if n is not node]
        return 1

    def _can(self, found: Chain, x: gs.Tensor) -> bool:
        end = found.end
        if target(_after(found, x), end.outputs[0].shape) is not None:
            return True
        self.left[id(end)] = (end, f"two sizes of '{end.outputs[0].name}' are unknown")
        return False

    def _free(self, node: gs.Node) -> bool:
        return id(node.outputs[0]) not in self.keep

    def _sink(self, moved: gs.Tensor, found: Chain, x: gs.Tensor) -> int:
        for each in found.through:
            y = each.outputs[0]
            shape = _through(each, x.shape, y.shape)
            if each.op in ("LayerNormalization", "Softmax", "LogSoftmax"):
                each.attrs["axis"] = -1
            each.inputs = [x if t is moved else t for t in each.inputs]
            y.shape = shape
            moved = x = y
        return int(self._reads(found.end, moved))

    def _reads(self, node: gs.Node, x: gs.Tensor) -> bool:
        """Let `node` make its shape from `x`; it goes where that is the shape of `x`."""
        y = node.outputs[0]
        if same(x.shape, y.shape) and forward(self.graph, y, x, self.keep) is None:
            node.inputs.clear()
            node.outputs.clear()
            self.graph.nodes = [n for n in self.graph.nodes if n is not node]
            return True
        shape = target(x.shape, y.shape)
        if shape is None:
            self.left[id(node)] = (node, f"two sizes of '{y.name}' are unknown")
            return False
        self._reshape(node, x, shape)
        return True

    def _reshape(self, node: gs.Node, x: gs.Tensor, shape: Sequence[int]) -> None:
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
    order = perm(node)
    shape = node.inputs[0].shape
    if order is None or shape is None or len(shape) != len(order):
        return False
    large = [axis for axis in order if shape[axis] != 1]
    return large == sorted(large) and list(order) != sorted(order)


def same(a: Sequence[Any] | None, b: Sequence[Any] | None) -> bool:
    """Equal shapes of numbers and symbols, in which at most one size is unknown: the element count decides it."""
    if a is None or b is None or len(a) != len(b):
        return False
    differ = [(s, t) for s, t in zip(a, b, strict=True) if s is None or s != t]
    if any(isinstance(s, int) and isinstance(t, int) for s, t in differ) or any(s == 0 for s in a):
        return False
    return len(differ) <= 1


def target(x: Sequence[Any] | None, y: Sequence[Any] | None) -> list[int] | None:
    """The shape input of a Reshape from `x` to `y`, None when it cannot be a constant."""
    if x is None or y is None or any(isinstance(size, int) and size < 1 for size in [*x, *y]):
        return None
    shape: list[int] = []
    for at, size in enumerate(y):
        if isinstance(size, (int, np.integer)):
            shape.append(int(size))
        else:
            shape.append(0 if size is not None and at < len(x) and x[at] == size else -1)
    return shape if shape.count(-1) <= 1 else None


def earlier(wanted: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Shape before a Transpose to `wanted`, and its perm; `order`: the axes larger than 1 as they stood before.

    Axes of size 1 keep their place, the others stand between them in the order they had.
    """
    places = [at for at, size in enumerate(wanted) if size != 1]
    perm_ = list(range(len(wanted)))
    shape = [1] * len(wanted)
    for place, rank_ in zip(places, np.argsort(np.argsort(order)), strict=True):
        perm_[place] = places[int(rank_)]
        shape[places[int(rank_)]] = wanted[place]
    return shape, perm_


def _after(found: Chain, x: gs.Tensor) -> list[Any] | None:
    """The shape at the end of the chain when it starts from `x`."""
    shape = None if x.shape is None else list(x.shape)
    for each in found.through:
        shape = _through(each, shape, each.outputs[0].shape)
    return shape


def _through(node: gs.Node, x: Sequence[Any] | None, y: Sequence[Any] | None) -> list[Any] | None:
    """The shape that `node` makes of `x`, when it made `y` before."""
    if x is None or y is None:
        return None
    return [*x[:-1], y[-1]] if node.op == "MatMul" else list(x)


def _commutes(node: gs.Node, data: gs.Tensor, x: gs.Tensor, moved: gs.Tensor, opset: int) -> bool:
    """Whether `node` may run before the reshape from `x` to `moved`; `data` is what it reads now."""
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
        row = int(np.prod(other.shape)) == other.shape[-1] == data.shape[-1] and len(other.shape) <= len(x.shape)
        return rows_stay and row and len(other.shape) <= len(data.shape)
    if node.op in ("Softmax", "LogSoftmax"):
        return opset >= 13 and rows_stay and node.attrs.get("axis", -1) in (-1, (rank(data) or 0) - 1)
    return rows_stay and len(x.shape) >= 2 and last_axis_only(node, data)
