"""Divide integers as integers, for runtimes whose float division is a product with a rounded reciprocal.

Floor(Div(Cast(a), b))  ->  Cast(Div(a - Mod(a, b), b))

PyTorch's exporter writes `torch.div(a, b, rounding_mode="floor")` of integers in float32. OpenVINO divides as
a * (1 / b), and Floor makes 0 of 82 / 82 or of 41 / 41. What is left of `a` without its remainder divides evenly, so
that the rounding of an integer Div does not matter. Equal to a correctly rounded float division where float32 holds `a`
and `b`, within 2 ** 24; beyond, only the integers are right.

Must not fire: divisors that are neither whole constants nor integers computed from sizes and constants (a value may be
0, by which floats are divided and integers are not).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import INT64, Builder, Cannot, rewrite, standard

INTEGERS = frozenset({np.dtype(np.int32), INT64})
HELD = 2**24  # float32 holds every integer up to here


class LegalizeFloorDivision(Pass):
    """Rewrite the floor of a float division of integers into integer arithmetic."""

    name = "legalize-floor-division"
    algebra = "Floor(Div(Cast(a), b))  ->  Cast(Div(a - Mod(a, b), b))"
    ensures = frozenset({"floor division legalized"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each Floor that divides integers."""
        return rewrite(graph, [node for node in standard(graph, "Floor") if divides(node)], spelled, PassResult())


def divides(floor: gs.Node) -> bool:
    """Whether it is the floor of a division of what was an integer."""
    division = made_by(floor.inputs[0], "Div")
    return division is not None and integer(division.inputs[0]) is not None


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one Floor."""
    division = made_by(b.node.inputs[0], "Div")
    assert division is not None
    above, below = division.inputs
    dividend, divisor = integer(above), whole(b, below)
    assert dividend is not None
    dividend, divisor = b.cast("dividend", dividend, INT64), b.cast("divisor", divisor, INT64)
    even = b.op("Sub", "even", dividend, b.op("Mod", "remainder", dividend, divisor))
    return b.cast("float", b.op("Div", "quotient", even, divisor), above.dtype)


def whole(b: Builder, divisor: gs.Tensor) -> gs.Tensor:
    """The divisor as integers. Raises Cannot where it may be a fraction or 0."""
    if isinstance(divisor, gs.Constant):
        values = divisor.values
        if not ((values == np.rint(values)) & (values != 0) & (np.abs(values) <= HELD)).all():
            raise Cannot("its divisor is not a whole number that the float type holds, or is 0")
        return b.const("divisor", values.astype(np.int64))
    found = integer(divisor)
    if found is None or not of_sizes(found):
        raise Cannot("its divisor is not an integer computed from sizes and constants, and may be 0")
    return found


def integer(x: gs.Tensor) -> gs.Tensor | None:
    """The int32 or int64 of which `x` is a Cast."""
    cast = made_by(x, "Cast")
    return cast.inputs[0] if cast is not None and cast.inputs[0].dtype in INTEGERS else None


def made_by(x: gs.Tensor, op: str) -> gs.Node | None:
    """The node that makes `x` if it is a standard `op`."""
    node = x.inputs[0] if x.inputs else None
    return node if node is not None and node.op == op and node.domain is None else None


def of_sizes(x: gs.Tensor) -> bool:
    """Whether `x` is computed from Shapes and constants alone."""
    seen: set[int] = set()
    pending = [x]
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen or isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        seen.add(id(tensor))
        node = tensor.inputs[0] if tensor.inputs else None
        if node is not None and node.op in ("Shape", "Size"):
            continue
        # an input of the graph; random numbers; what control flow reads besides its inputs
        if node is None or not node.inputs or any(isinstance(value, gs.Graph) for value in node.attrs.values()):
            return False
        pending += node.inputs
    return True
