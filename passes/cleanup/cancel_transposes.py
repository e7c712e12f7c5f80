"""Compose, cancel and join Transposes.

    Transpose(Transpose(x, p), q)        ->  Transpose(x, p[q]), and x where that moves nothing
    Transpose(f(Transpose(x, p)), q)     ->  f'(x) or Transpose(f'(x), p[q]); f: nodes that work element by element
    f(Transpose(x, p), Transpose(y, p))  ->  Transpose(f'(x, y), p); f: element by element, or Concat

f' is f with its axis and its constants permuted back. Softmax takes its axis along; LayerNormalization over the last
axis and MatMul by a matrix commute with a Transpose that leaves the last axis alone. The arithmetic is the same, in
another memory order.

Must not fire: where the number of nodes would not fall (one of two Transposes is needed elsewhere and the pair does
not cancel); where the operands of f are transposed differently; a Softmax before opset 13, which flattens; a MatMul
whose rows the Transpose takes apart; a value between the two Transposes that is an output or is used elsewhere.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.support.commute import (
    BINARY,
    UNARY,
    Chain,
    Rules,
    chains,
    compose,
    elementwise,
    identity,
    last_axis_only,
    permuted,
)
from segc.passes.support.edit import forward, insert, prune, rank, small_constant


class CancelTransposes(Pass):
    """Compose, cancel and join Transposes, where fewer nodes remain. Cost: a few walks over the Transposes."""

    name = "cancel-transposes"
    algebra = "Transpose(f(Transpose(x, p)), q)  ->  Transpose(f(x), p[q]), nothing where p[q] = 0..n-1"

    def run(self, graph: gs.Graph) -> PassResult:
        """Apply the three rules until none does anything."""
        site = _Site(graph)
        return site.exhaust(site.composed, site.sunk, site.joined)


class _Site(Rules):
    def composed(self, node: gs.Node) -> int:
        """Transpose of a Transpose."""
        first = _producer(node)
        if perm(node) is None or first is None or perm(first) is None:
            return 0
        return self._move(node, first.inputs[0], compose(_perm(first), _perm(node)), first)

    def sunk(self, node: gs.Node) -> int:
        """Transpose, element by element, Transpose."""
        if (order := perm(node)) is None:
            return 0
        opset = self.graph.opset
        found = chains(node, lambda user, data: _commutes(user, data, order, opset), _is_transpose, self.keep)
        whole = bool(found) and all(found)
        done = 0
        for each in [c for c in found if c is not None and c.through]:
            cancels = identity(compose(order, _perm(each.end)))
            if whole or cancels:
                done += self._sink(node, each, order)
        if not done and found and not whole and any(c is not None and c.through for c in found):
            self.left[id(node)] = (node, f"'{node.outputs[0].name}' is also used by nodes that need it transposed")
        if done:
            prune(self.graph, node, self.keep)
        return done

    def joined(self, node: gs.Node) -> int:
        """All operands are transposed alike."""
        if node.op not in BINARY | {"Concat"} or len(node.outputs) != 1 or node.domain:
            return 0
        read = [t for t in node.inputs if not isinstance(t, gs.Constant)]
        movers = [t.inputs[0] if t.inputs else None for t in read]
        order = perm(movers[0]) if movers and movers[0] is not None else None
        if order is None or len({id(t) for t in read}) < 2 or any(m is None or perm(m) != order for m in movers):
            return 0
        alone = [t for t in read if len(t.outputs) == 1 and id(t) not in self.keep]
        constants = [t for t in node.inputs if isinstance(t, gs.Constant)]
        if len(alone) < 2:
            self.left[id(node)] = (node, "its operands are transposed, and needed so elsewhere")
            return 0
        if any(small_constant(t, 1 << 16) is None for t in constants) or any(rank(t) != len(order) for t in read):
            return 0
        self._join(node, order)
        return 1

    def _join(self, node: gs.Node, order: list[int]) -> None:
        y = node.outputs[0]
        movers = [t.inputs[0] for t in node.inputs if not isinstance(t, gs.Constant)]
        between = self.names.variable(y, "untransposed", y.dtype, _back(y.shape, order))
        node.inputs = [self._operand(t, y, order) for t in node.inputs]
        if node.op == "Concat":
            node.attrs["axis"] = order[node.attrs["axis"] % len(order)]
        y.inputs.clear()
        node.outputs = [between]
        insert(self.graph, node, [gs.Node("Transpose", attrs={"perm": order}, inputs=[between], outputs=[y])])
        for mover in movers:
            prune(self.graph, mover, self.keep)

    def _operand(self, tensor: gs.Tensor, serves: gs.Tensor, order: list[int]) -> gs.Tensor:
        if not isinstance(tensor, gs.Constant):
            return tensor.inputs[0].inputs[0]
        return self._constant(tensor, serves, order)

    def _constant(self, constant: gs.Constant, serves: gs.Tensor, order: list[int]) -> gs.Constant:
        if int(np.prod(constant.shape)) == 1:
            return constant
        return self.names.constant(serves, "permuted", permuted(constant.values, order))

    def _sink(self, node: gs.Node, found: Chain, order: list[int]) -> int:
        moved, x = node.outputs[0], node.inputs[0]
        for each in found.through:
            y = each.outputs[0]
            each.inputs = [
                x if t is moved else self._rearranged(each, t, y, order) if isinstance(t, gs.Constant) else t
                for t in each.inputs
            ]
            if each.op in ("Softmax", "LogSoftmax"):
                each.attrs["axis"] = order[each.attrs.get("axis", -1) % len(order)]
            y.shape = _back(y.shape, order)
            moved = x = y
        return self._move(found.end, moved, compose(order, _perm(found.end)), None)

    def _rearranged(self, node: gs.Node, constant: gs.Constant, serves: gs.Tensor, order: list[int]) -> gs.Constant:
        return self._constant(constant, serves, order) if node.op in BINARY else constant

    def _move(self, node: gs.Node, x: gs.Tensor, order: list[int], former: gs.Node | None) -> int:
        """Let the Transpose `node` read `x` by `order`, or go where that moves nothing."""
        if identity(order):
            why = forward(self.graph, node.outputs[0], x, self.keep)
            if why is None:
                node.inputs.clear()
                node.outputs.clear()
                self.graph.nodes = [n for n in self.graph.nodes if n is not node]
            elif former is not None:
                self.left[id(node)] = (node, why)
                return 0
            else:
                node.attrs["perm"] = order
        else:
            node.inputs, node.attrs["perm"] = [x], order
        if former is not None:
            prune(self.graph, former, self.keep)
        return 1


def perm(node: gs.Node) -> list[int] | None:
    """The permutation of a Transpose of known rank, None for any other node."""
    if node.op != "Transpose" or node.domain or not node.inputs or not node.outputs:
        return None
    dims = rank(node.inputs[0]) if rank(node.inputs[0]) is not None else rank(node.outputs[0])
    given = node.attrs.get("perm", None if dims is None else list(reversed(range(dims))))
    return None if given is None else [int(axis) for axis in given]


def _perm(node: gs.Node) -> list[int]:
    found = perm(node)
    assert found is not None
    return found


def _is_transpose(node: gs.Node) -> bool:
    return perm(node) is not None


def _producer(node: gs.Node) -> gs.Node | None:
    if not node.inputs or not node.inputs[0].inputs:
        return None
    found: gs.Node = node.inputs[0].inputs[0]
    return found


def _back(shape: list[int | str | None] | None, order: list[int]) -> list[int | str | None] | None:
    """The shape before a Transpose by `order`."""
    if shape is None or len(shape) != len(order):
        return None
    return [shape[at] for at in np.argsort(order)]


def _commutes(node: gs.Node, data: gs.Tensor, order: list[int], opset: int) -> bool:
    if rank(data) != len(order) or not node.outputs or node.outputs[0].shape is None:
        return False
    if node.op in ("Softmax", "LogSoftmax"):
        return opset >= 13
    if node.op in UNARY | BINARY:
        other = elementwise(node, data)
        return other is True or (isinstance(other, gs.Constant) and len(other.shape) <= len(order))
    return last_axis_only(node, data) and order[-1] == len(order) - 1
