"""Fold nodes whose inputs are all constants (constant folding).

f(c1, c2, ...)  ->  constant, for a deterministic f of the standard domain, where the model grows by no more than the
limit: the size of the result minus the size of the constants that nothing else reads.

Must not fire: random ops (each run must differ); ops with subgraphs; Expand or Tile of a small constant to a large one
(the model would carry the copies); results that are graph outputs (an output must be written by a node);
DequantizeLinear of a weight (it would undo the quantization).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate
from segc.passes.support.edit import forward, protected
from segc.passes.support.op_sets import RANDOM

NEVER = RANDOM | {"Constant", "Dropout", "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"}


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace each node whose inputs are all constants by its value.

    size_limit: bytes by which one folded node may grow the model. Cost: one run of each folded node.
    """

    name: ClassVar[str] = "fold-constants"
    algebra: ClassVar[str] = "f(constants)  ->  constant, unless f is random or the model would grow too much"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE}
    ensures: ClassVar[frozenset[str]] = frozenset({"constants folded"})
    invalidates: ClassVar[frozenset[str]] = REVEALED | {
        "identities removed",
        "pads merged",
        "batchnorms fused",
        "convolutions hoisted",
    }

    size_limit: int = 1 << 20

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph until no node folds: a folded node may leave a constant to a single other reader."""
        result, protected_ids = PassResult(), protected(graph)
        skipped: dict[int, tuple[gs.Node, str]] = {}
        while True:
            before = result.changes
            for node in list(graph.nodes):
                if not _has_constant_inputs(node):
                    continue
                if why := self._fold(graph, node, protected_ids):
                    skipped[id(node)] = (node, why)
                else:
                    skipped.pop(id(node), None)
                    result.changes += 1
            if result.changes == before:
                break
            graph.nodes = [n for n in graph.nodes if n.outputs]
        for node, why in skipped.values():
            result.skip(node, why)
        return result

    def _fold(self, graph: gs.Graph, node: gs.Node, protected_ids: set[int]) -> str | None:
        """Fold one node. Returns the reason if the node cannot be folded."""
        if node.op in NEVER:
            return f"{node.op} is not folded"
        if any(id(t) in protected_ids for t in node.outputs):
            return f"'{node.outputs[0].name}' is an output"
        shapes = [ir.static_shape(t) for t in node.outputs]
        result_bytes = [
            int(np.prod(s)) * _itemsize(t) for s, t in zip(shapes, node.outputs, strict=True) if s is not None
        ]
        if (growth := sum(result_bytes) - _exclusive_bytes(node)) > self.size_limit:
            return f"the model would grow by {growth} bytes, more than the limit of {self.size_limit}"
        try:
            values = evaluate.by_runtime(node, graph.opset)
        except evaluate.CannotRun as error:
            return f"ONNX Runtime cannot compute it: {error}"
        if (growth := sum(v.nbytes for v in values) - _exclusive_bytes(node)) > self.size_limit:
            return f"the model would grow by {growth} bytes, more than the limit of {self.size_limit}"
        written = [t for t in node.outputs if not t.is_empty()]
        for tensor, value in zip(written, values, strict=True):
            forward(graph, tensor, gs.Constant(tensor.name, value), protected_ids)
        node.inputs.clear()
        node.outputs.clear()
        return None


def _has_constant_inputs(node: gs.Node) -> bool:
    if node.domain or not node.outputs or any(True for _ in node.subgraphs()):
        return False
    operands = [t for t in node.inputs if not t.is_empty()]
    return bool(operands) and all(isinstance(t, gs.Constant) for t in operands)


def _itemsize(tensor: gs.Tensor) -> int:
    return 1 if tensor.dtype is None else int(np.dtype(tensor.dtype).itemsize)


def _exclusive_bytes(node: gs.Node) -> int:
    """Bytes of the constants that only this node reads."""
    exclusive = {id(t): t for t in node.inputs if not t.is_empty() and all(user is node for user in t.outputs)}
    return sum(int(np.prod(t.shape)) * _itemsize(t) for t in exclusive.values())
