"""Name the unknown sizes of the inputs, for runtimes that accept a named size as dynamic but refuse one without a name.

    input float32[?, 3, ?, ?]  ->  input float32[input_dim0, 3, input_dim2, input_dim3]

Exact: a name does not restrict a size, and the new names are unique.

Must not fire: sizes that have a number or a name.
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
            unknown = [axis for axis, size in enumerate(tensor.shape or ()) if size is None]
            if unknown:
                tensor.shape = [
                    f"{tensor.name}_dim{axis}" if axis in unknown else s for axis, s in enumerate(tensor.shape)
                ]
                result.changes += len(unknown)
        return result
