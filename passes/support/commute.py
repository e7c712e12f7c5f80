"""Helpers of the passes that move Transpose and Reshape through a graph.

`Rules` applies local rules until none changes anything. A *mover* is a Transpose or Reshape; a `Chain` is a run of
nodes behind a mover that commute with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import PassResult
from segc.passes.support.edit import Names, optional, protected, rank, small_constant

_UNARY = (
    "Abs Atan Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg Not"
    " Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Softplus Softsign Sqrt Tanh ThresholdedRelu"
)
_BINARY = "Add Sub Mul Div Pow Max Min Greater GreaterOrEqual Less LessOrEqual Equal And Or Xor"
UNARY = frozenset(_UNARY.split())
BINARY = frozenset(_BINARY.split())

Commutes = Callable[[gs.Node, gs.Tensor], bool]
IsEnd = Callable[[gs.Node], bool]


@dataclass
class Chain:
    """The nodes between a mover and the node that ends the chain; each is the only user of the one before it.

    through: the nodes that commute with the mover, in order. end: the node behind them, which cancels the mover.
    """

    through: list[gs.Node]
    end: gs.Node


def chain(user: gs.Node, moved: gs.Tensor, commutes: Commutes, is_end: IsEnd, protected_ids: set[int]) -> Chain | None:
    """The chain that starts at `user`, which reads `moved`; None if it does not reach a node for which `is_end` holds.

    commutes(node, tensor): whether the node commutes with the mover of this input. protected_ids: see `protected`.
    """
    through: list[gs.Node] = []
    while not is_end(user):
        if user.domain or not commutes(user, moved) or len(user.outputs) != 1:
            return None
        through.append(user)
        moved = user.outputs[0]
        if id(moved) in protected_ids or len(moved.outputs) != 1:
            return None
        user = moved.outputs[0]
    return Chain(through, user)


def chains(mover: gs.Node, commutes: Commutes, is_end: IsEnd, protected_ids: set[int]) -> list[Chain | None]:
    """A chain or None for each user of the mover's output; empty if the output is protected."""
    moved = mover.outputs[0]
    if id(moved) in protected_ids:
        return []
    return [chain(user, moved, commutes, is_end, protected_ids) for user in moved.outputs]


def elementwise(node: gs.Node, data: gs.Tensor) -> gs.Constant | bool:
    """Whether the node is an elementwise function of `data`; if its other operand varies by element, that constant."""
    if node.op in UNARY and node.inputs[0] is data:
        parameters = (optional(node, index) for index in range(1, len(node.inputs)))
        return all(t is None or isinstance(t, gs.Constant) for t in parameters)
    if node.op not in BINARY or len(node.inputs) != 2:
        return False
    other = node.inputs[1] if node.inputs[0] is data else node.inputs[0]
    if other is data or not isinstance(other, gs.Constant) or small_constant(other, 1 << 16) is None:
        return False
    return True if int(np.prod(other.shape)) == 1 and len(other.shape) <= (rank(data) or 0) else other


def last_axis_only(node: gs.Node, data: gs.Tensor) -> bool:
    """Whether the node computes each row along the last axis of `data` from that row alone, in the same way."""
    dims = rank(data)
    if dims is None or not node.inputs or node.inputs[0] is not data:
        return False
    if node.op == "MatMul":
        weight = node.inputs[1]
        return dims >= 2 and isinstance(weight, gs.Constant) and len(weight.shape) == 2
    if node.op == "LayerNormalization":
        constants = all(isinstance(t, gs.Constant) for t in node.inputs[1:])
        return node.attrs.get("axis", -1) in (-1, dims - 1) and constants and len(node.outputs) == 1
    return False


def identity(order: Sequence[int]) -> bool:
    """Whether a permutation is the identity."""
    return list(order) == list(range(len(order)))


def compose(first: Sequence[int], then: Sequence[int]) -> list[int]:
    """The perm of the Transpose that equals Transpose(Transpose(x, first), then)."""
    return [first[axis] for axis in then]


def permuted(value: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The constant c' for which Transpose(x op c') = Transpose(x) op c. value: c. order: the Transpose's perm."""
    wide = value.reshape((1,) * (len(order) - value.ndim) + value.shape)
    return np.ascontiguousarray(wide.transpose(np.argsort(order)))


class Rules:
    """Local rules that are applied to every node until none changes anything.

    skipped: by node id, a node that a rule recognized and left alone, and the reason.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.graph, self.names, self.protected_ids = graph, Names(graph), protected(graph)
        self.skipped: dict[int, tuple[gs.Node, str]] = {}

    def apply_until_stable(self, *rules: Callable[[gs.Node], int]) -> PassResult:
        """Apply the rules to all nodes, in turns. A rule returns the number of its changes at a node."""
        result = PassResult()
        while changes := sum(self._apply_to_all_nodes(rule) for rule in rules):
            result.changes += changes
        for node, why in self.skipped.values():
            if node.outputs:
                result.skip(node, why)
        return result

    def _apply_to_all_nodes(self, rule: Callable[[gs.Node], int]) -> int:
        return sum(rule(node) for node in list(self.graph.nodes) if node.outputs and node.domain is None)


def perm_of(node: gs.Node) -> list[int] | None:
    """The permutation of a Transpose; None for another node, or if neither perm nor rank is known."""
    if node.op != "Transpose" or node.domain or not node.inputs or not node.outputs:
        return None
    dims = rank(node.inputs[0]) if rank(node.inputs[0]) is not None else rank(node.outputs[0])
    order = node.attrs.get("perm", None if dims is None else list(reversed(range(dims))))
    return None if order is None else [int(axis) for axis in order]
