"""Give each size of an input that is not known a name: some runtimes take a name for "any", and refuse nothing at all.

    input float32[?, 3, ?, ?]  ->  input float32[input_dim0, 3, input_dim2, input_dim3]

Exact: names say nothing about numbers, and new names are shared by nothing.

Must not fire: on sizes that have a number or a name.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult


class NameDimensions(Pass):
    """Name the unknown sizes of the graph's inputs after the input and the axis."""

    name = "name-dimensions"
    algebra = "input of size ?  ->  input of size input_dim0"
    requires = frozenset({SINGLE})
    ensures = frozenset({"dimensions named"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Edit the shapes of the inputs."""
        result = PassResult()
        for tensor in graph.inputs:
            unknown = [at for at, size in enumerate(tensor.shape or ()) if size is None]
            if unknown:
                tensor.shape = [f"{tensor.name}_dim{at}" if at in unknown else s for at, s in enumerate(tensor.shape)]
                result.changes += len(unknown)
        return result
