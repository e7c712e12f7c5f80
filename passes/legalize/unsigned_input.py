"""Hoist the Cast of a uint8 input above data movement, for runtimes that cannot move uint8.

y = Cast(f(x))  ->  y = f(Cast(x)), where x is a uint8 input of the graph and f moves values: Transpose, Gather, ...

Exact: a Cast acts on each value, movement on none. The movement then copies wider values, so this is for runtimes that
have no choice, or that fuse all of it into one kernel, as TensorRT does.

Must not fire: moved bytes that are an output or have other readers than the Cast and its chain. Without a Cast at the
end the nodes stay, and the target refuses them.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import standard
from segc.passes.support.edit import Names, insert, protected

MOVES = frozenset(
    ("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze")
)


class LegalizeUnsignedInput(Pass):
    """Move each Cast of a moved uint8 input directly after the input."""

    name = "legalize-unsigned-input"
    algebra = "Cast(f(x))  ->  f(Cast(x)), x a uint8 input, f data movement"
    requires = Pass.requires | {"lowerings merged", "identities removed"}
    ensures = frozenset({"bytes widened"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Move casts; the other nodes keep their places."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        inputs = {id(t) for t in graph.inputs if t.dtype == np.uint8}
        for cast in standard(graph, "Cast"):
            moves = _movement_between(cast, inputs)
            moved = [move.outputs[0] for move in moves]
            shared = next((t for t in moved if len(t.outputs) > 1 or id(t) in protected_ids), None)
            if shared is not None:
                result.skip(cast, f"'{shared.name}' is also read elsewhere, as uint8")
            elif moves:
                _hoist_cast(graph, cast, moves, names)
                result.changes += 1
        return result


def _movement_between(cast: gs.Node, inputs: set[int]) -> list[gs.Node]:
    """The movement between a uint8 input and the Cast, the last node first; empty if there is no such path."""
    movement: list[gs.Node] = []
    tensor = cast.inputs[0]
    while id(tensor) not in inputs:
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None or producer.op not in MOVES or producer.domain is not None:
            return []
        movement.append(producer)
        tensor = producer.inputs[0]
    return movement


def _hoist_cast(graph: gs.Graph, cast: gs.Node, moves: list[gs.Node], names: Names) -> None:
    """x -> moves -> Cast -> y  becomes  x -> Cast -> moves -> y."""
    x, y = moves[-1].inputs[0], cast.outputs[0]
    wide = names.variable(y, "wide", y.dtype, x.shape)
    graph.nodes = [n for n in graph.nodes if n is not cast]
    insert(graph, moves[-1], [cast])
    cast.inputs, cast.outputs = [x], [wide]
    moves[-1].inputs = [wide, *moves[-1].inputs[1:]]
    moves[0].outputs = [y]
    for move in moves[1:]:
        move.outputs[0].dtype = y.dtype
