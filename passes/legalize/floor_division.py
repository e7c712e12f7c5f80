"""Rewrite floor division of integers in integer arithmetic, for runtimes that divide floats by a rounded reciprocal.

Floor(Div(Cast(a), b))  ->  Cast(Div(a - Mod(a, b), b))

PyTorch's exporter writes `torch.div(a, b, rounding_mode="floor")` of integers in float32. OpenVINO divides as
a * (1 / b), so Floor makes 0 of 82 / 82 or of 41 / 41. `a` minus its remainder divides evenly, so the rounding of an
integer Div does not matter. Equal to a correctly rounded float division where float32 holds `a` and `b`, up to 2 ** 24;
beyond that only the integers are correct.

Must not fire: divisors that are neither integer constants nor integers computed from sizes and constants (a value may
be 0: floats can be divided by 0, integers cannot).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import INT64, Builder, RewriteNotApplicable, rewrite, standard

INTEGERS = frozenset({np.dtype(np.int32), INT64})
LARGEST_EXACT = 2**24  # float32 holds every integer up to here


class LegalizeFloorDivision(Pass):
    """Rewrite the floor of a float division of integers as integer arithmetic."""

    name = "legalize-floor-division"
    algebra = "Floor(Div(Cast(a), b))  ->  Cast(Div(a - Mod(a, b), b))"
    ensures = frozenset({"floor division legalized"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each Floor of a division of integers in place."""
        return rewrite(
            graph, [node for node in standard(graph, "Floor") if is_floor_division(node)], lower, PassResult()
        )


def is_floor_division(floor: gs.Node) -> bool:
    """Whether the node is the floor of a float division whose numerator is a cast integer."""
    division = producer_of(floor.inputs[0], "Div")
    return division is not None and integer_source(division.inputs[0]) is not None


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Floor. Raises RewriteNotApplicable."""
    division = producer_of(b.node.inputs[0], "Div")
    assert division is not None
    numerator, denominator = division.inputs
    dividend, divisor = integer_source(numerator), integer_divisor(b, denominator)
    assert dividend is not None
    dividend, divisor = b.cast("dividend", dividend, INT64), b.cast("divisor", divisor, INT64)
    even = b.op("Sub", "even", dividend, b.op("Mod", "remainder", dividend, divisor))
    return b.cast("float", b.op("Div", "quotient", even, divisor), numerator.dtype)


def integer_divisor(b: Builder, divisor: gs.Tensor) -> gs.Tensor:
    """The divisor as integers. Raises RewriteNotApplicable if it may be a fraction or 0."""
    if isinstance(divisor, gs.Constant):
        values = divisor.values
        if not ((values == np.rint(values)) & (values != 0) & (np.abs(values) <= LARGEST_EXACT)).all():
            raise RewriteNotApplicable("its divisor is 0 or not an integer that the float type holds")
        return b.const("divisor", values.astype(np.int64))
    source = integer_source(divisor)
    if source is None or not computed_from_sizes(source):
        raise RewriteNotApplicable("its divisor is not an integer computed from sizes and constants, and may be 0")
    return source


def integer_source(x: gs.Tensor) -> gs.Tensor | None:
    """The int32 or int64 tensor that `x` is a Cast of, otherwise None."""
    cast = producer_of(x, "Cast")
    return cast.inputs[0] if cast is not None and cast.inputs[0].dtype in INTEGERS else None


def producer_of(x: gs.Tensor, op: str) -> gs.Node | None:
    """The producer of `x` if it is a standard `op`, otherwise None."""
    node = x.inputs[0] if x.inputs else None
    return node if node is not None and node.op == op and node.domain is None else None


def computed_from_sizes(x: gs.Tensor) -> bool:
    """Whether `x` is computed from shapes and constants alone."""
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
        # an input of the graph; random numbers; control flow, which reads more than its inputs
        if node is None or not node.inputs or any(isinstance(value, gs.Graph) for value in node.attrs.values()):
            return False
        pending += node.inputs
    return True
