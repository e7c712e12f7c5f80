"""Compose, cancel and sink Transposes.

    compose        Transpose(Transpose(x, p), q)        ->  Transpose(x, p[q]), or x if p[q] is the identity
    sink chain     Transpose(f(Transpose(x, p)), q)     ->  Transpose(f'(x), p[q]), or f'(x); f: elementwise nodes
    sink operands  f(Transpose(x, p), Transpose(y, p))  ->  Transpose(f'(x, y), p); f: elementwise, or Concat

f' is f with its axis and its constants permuted back. For example, with p = [0, 2, 3, 1] and its inverse q,

    Transpose(Relu(Transpose(x, p) + c), q)  ->  Relu(x + Transpose(c, q))

A Softmax takes its axis along; LayerNormalization over the last axis and MatMul by a matrix commute with a Transpose
that leaves the last axis in place. The arithmetic is the same, in another memory order.

Must not fire: where no node would be saved (one of two Transposes is needed elsewhere and the pair does not cancel);
where the operands of f are transposed differently; a Softmax before opset 13, which flattens; a MatMul whose rows the
Transpose splits; an intermediate result that is an output or is used elsewhere.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
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
    perm_of,
    permuted,
)
from segc.passes.support.edit import forward, insert, prune, rank, small_constant


class CancelTransposes(Pass):
    """Compose, cancel and sink Transposes where that saves nodes. Cost: a few walks over the Transposes."""

    name = "cancel-transposes"
    algebra = "Transpose(f(Transpose(x, p)), q)  ->  Transpose(f(x), p[q]), or f(x) if p[q] = 0..n-1"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    invalidates = REVEALED | {"batchnorms fused", "convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Apply the three rules until none applies."""
        rules = _TransposeRules(graph)
        return rules.apply_until_stable(rules.compose, rules.sink_through_chain, rules.sink_below_operands)


class _TransposeRules(Rules):
    def compose(self, node: gs.Node) -> int:
        """A Transpose of a Transpose becomes one."""
        first = _producer(node)
        if perm_of(node) is None or first is None or perm_of(first) is None:
            return 0
        return self._set_transpose(node, first.inputs[0], compose(_perm(first), _perm(node)), first)

    def sink_through_chain(self, node: gs.Node) -> int:
        """A Transpose before a chain of elementwise nodes moves to the Transpose at the end of the chain."""
        if (order := perm_of(node)) is None:
            return 0
        opset = self.graph.opset
        found = chains(node, lambda user, data: _commutes(user, data, order, opset), _is_transpose, self.protected_ids)
        every_use_ends_in_transpose = bool(found) and all(found)
        sunk = 0
        for chain in [c for c in found if c is not None and c.through]:
            cancels = identity(compose(order, _perm(chain.end)))
            if every_use_ends_in_transpose or cancels:
                sunk += self._sink_through(node, chain, order)
        if not sunk and not every_use_ends_in_transpose and any(c is not None and c.through for c in found):
            self.skipped[id(node)] = (node, f"'{node.outputs[0].name}' is also used by nodes that need it transposed")
        if sunk:
            prune(self.graph, node, self.protected_ids)
        return sunk

    def sink_below_operands(self, node: gs.Node) -> int:
        """An elementwise node or Concat whose operands are all transposed alike: transpose its result instead."""
        order = _common_perm(node)
        if order is None:
            return 0
        operands = [t for t in node.inputs if not isinstance(t, gs.Constant)]
        if sum(len(t.outputs) == 1 and id(t) not in self.protected_ids for t in operands) < 2:
            self.skipped[id(node)] = (node, "its transposed operands are also used elsewhere")
            return 0
        constants = [t for t in node.inputs if isinstance(t, gs.Constant)]
        if any(small_constant(t, 1 << 16) is None for t in constants) or any(rank(t) != len(order) for t in operands):
            return 0
        self._sink_below(node, order)
        return 1

    def _sink_below(self, node: gs.Node, order: list[int]) -> None:
        """Let `node` read its operands as they are before the Transposes, and transpose its result."""
        y = node.outputs[0]
        movers = [t.inputs[0] for t in node.inputs if not isinstance(t, gs.Constant)]
        between = self.names.variable(y, "untransposed", y.dtype, _shape_before(y.shape, order))
        node.inputs = [self._untransposed(t, y, order) for t in node.inputs]
        if node.op == "Concat":
            node.attrs["axis"] = order[node.attrs["axis"] % len(order)]
        y.inputs.clear()
        node.outputs = [between]
        insert(self.graph, node, [gs.Node("Transpose", attrs={"perm": order}, inputs=[between], outputs=[y])])
        for mover in movers:
            prune(self.graph, mover, self.protected_ids)

    def _untransposed(self, tensor: gs.Tensor, serves: gs.Tensor, order: list[int]) -> gs.Tensor:
        if not isinstance(tensor, gs.Constant):
            return tensor.inputs[0].inputs[0]
        return self._permuted_constant(tensor, serves, order)

    def _permuted_constant(self, constant: gs.Constant, serves: gs.Tensor, order: list[int]) -> gs.Constant:
        if int(np.prod(constant.shape)) == 1:
            return constant
        return self.names.constant(serves, "permuted", permuted(constant.values, order))

    def _sink_through(self, node: gs.Node, chain: Chain, order: list[int]) -> int:
        """Take the Transpose `node` through the chain and compose it with the Transpose at the chain's end."""
        moved, x = node.outputs[0], node.inputs[0]
        for step in chain.through:
            y = step.outputs[0]
            step.inputs = [
                x if t is moved else self._permuted_operand(step, t, y, order) if isinstance(t, gs.Constant) else t
                for t in step.inputs
            ]
            if step.op in ("Softmax", "LogSoftmax"):
                step.attrs["axis"] = order[step.attrs.get("axis", -1) % len(order)]
            y.shape = _shape_before(y.shape, order)
            moved = x = y
        return self._set_transpose(chain.end, moved, compose(order, _perm(chain.end)), None)

    def _permuted_operand(
        self, node: gs.Node, constant: gs.Constant, serves: gs.Tensor, order: list[int]
    ) -> gs.Constant:
        return self._permuted_constant(constant, serves, order) if node.op in BINARY else constant

    def _set_transpose(self, node: gs.Node, x: gs.Tensor, order: list[int], former: gs.Node | None) -> int:
        """Let `node` transpose `x` by `order`; remove it if `order` is the identity.

        former: the Transpose that `node` read before, which is removed if nothing else reads it.
        """
        if identity(order):
            why = forward(self.graph, node.outputs[0], x, self.protected_ids)
            if why is None:
                node.inputs.clear()
                node.outputs.clear()
                self.graph.nodes = [n for n in self.graph.nodes if n is not node]
            elif former is not None:
                self.skipped[id(node)] = (node, why)
                return 0
            else:
                node.attrs["perm"] = order
        else:
            node.inputs, node.attrs["perm"] = [x], order
        if former is not None:
            prune(self.graph, former, self.protected_ids)
        return 1


def _perm(node: gs.Node) -> list[int]:
    order = perm_of(node)
    assert order is not None
    return order


def _common_perm(node: gs.Node) -> list[int] | None:
    """The permutation by which all operands of an elementwise node or a Concat are transposed, otherwise None.

    At least two different operands that are not constants must be transposed.
    """
    if node.op not in BINARY | {"Concat"} or len(node.outputs) != 1 or node.domain:
        return None
    operands = [t for t in node.inputs if not isinstance(t, gs.Constant)]
    if len({id(t) for t in operands}) < 2:
        return None
    producers = [t.inputs[0] if t.inputs else None for t in operands]
    orders = [None if producer is None else perm_of(producer) for producer in producers]
    return orders[0] if all(order == orders[0] for order in orders) else None


def _is_transpose(node: gs.Node) -> bool:
    return perm_of(node) is not None


def _producer(node: gs.Node) -> gs.Node | None:
    if not node.inputs or not node.inputs[0].inputs:
        return None
    producer: gs.Node = node.inputs[0].inputs[0]
    return producer


def _shape_before(shape: list[int | str | None] | None, order: list[int]) -> list[int | str | None] | None:
    """The shape before a Transpose by `order`."""
    if shape is None or len(shape) != len(order):
        return None
    return [shape[axis] for axis in np.argsort(order)]


def _commutes(node: gs.Node, data: gs.Tensor, order: list[int], opset: int) -> bool:
    """Whether `node` may run before a Transpose by `order` of its input `data`."""
    if rank(data) != len(order) or not node.outputs or node.outputs[0].shape is None:
        return False
    if node.op in ("Softmax", "LogSoftmax"):
        return opset >= 13
    if node.op in UNARY | BINARY:
        other = elementwise(node, data)
        return other is True or (isinstance(other, gs.Constant) and len(other.shape) <= len(order))
    return last_axis_only(node, data) and order[-1] == len(order) - 1
