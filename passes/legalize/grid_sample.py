"""Expand GridSample (opset 16) into gathers and arithmetic.

The grid holds x and y from -1 to 1 for each pixel of the result. Along an axis of s cells the coordinate is

    align_corners 1:  (g + 1) / 2 * (s - 1)           align_corners 0:  ((g + 1) * s - 1) / 2

nearest reads the cell it rounds to (half to even), bilinear interpolates the four cells around it. A cell outside is

    zeros       0
    border      the cell at the edge
    reflection  reflected at the centres (align_corners 1) or the outer edges (0) of the cells at the ends

    GridSample(x, grid)  ->  sum over corners of Gather(x[..., H*W], y * W + x) * weight

Reflection and clipping act on each corner, as ONNX defines it. Coordinates are computed in the same steps as in ONNX
Runtime, so the results agree except for the last bits and for coordinates within rounding of a boundary between cells.

Sides whose size is known only at run time are read from the shape of the map.

Must not fire: cubic sampling; maps without exactly two sides; channels that are not static; reflection on sides that
are not static. Coordinates that are NaN, or too large for an integer, are undefined here as in ONNX.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, text, typed

INT64 = np.dtype(np.int64)
OLD_NAMES = {"bilinear": "linear", "bicubic": "cubic"}  # before opset 20


class LegalizeGridSample(Pass):
    """Expand bilinear and nearest GridSample into Gather and arithmetic."""

    name = "legalize-grid-sample"
    algebra = "GridSample(x, grid)  ->  sum over corners of Gather(x, y * W + x) * weight"
    ensures = frozenset({"no GridSample"})
    invalidates = NODE_RULES | {PORTABLE, "no GatherElements"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "GridSample"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one GridSample. Raises RewriteNotApplicable."""
    x, grid = b.node.inputs
    typed(x, grid)
    mode = text(b.node, "mode", "linear")
    mode = OLD_NAMES.get(mode, mode)
    if mode not in ("linear", "nearest"):
        raise RewriteNotApplicable(f"its mode is {mode}")
    if len(x.shape) != 4:
        raise RewriteNotApplicable(f"'{x.name}' has {len(x.shape) - 2} sides")
    if not isinstance(x.shape[1], int):
        raise RewriteNotApplicable(f"the channels of '{x.name}' are not static")
    if text(b.node, "padding_mode") == "reflection" and not all(isinstance(side, int) for side in x.shape[2:]):
        raise RewriteNotApplicable(f"it reflects, and the sides of '{x.name}' are not static")
    return Sampling(b, mode).result()


class Sampling:
    """Builds the nodes that replace one GridSample. Coordinates are [N, P, 1], with P pixels in the result."""

    def __init__(self, b: Builder, mode: str) -> None:
        self.b, self.mode = b, mode
        self.x, self.grid = b.node.inputs
        self.channels = self.x.shape[1]
        self._sizes: dict[int, gs.Tensor] = {}
        self.padding = text(b.node, "padding_mode", "zeros")
        self.align = bool(b.node.attrs.get("align_corners", 0))

    def result(self) -> gs.Tensor:
        """The sampled map, [N, C, Ho, Wo]."""
        b = self.b
        points = b.reshape("points", self.grid, [(self.grid, 0), [(self.grid, 1), (self.grid, 2)], 2])
        cols = self._coordinates("col", points, 0, 3)
        rows = self._coordinates("row", points, 1, 2)
        flat = b.reshape("cells", self.x, [(self.x, 0), self.channels, [(self.x, 2), (self.x, 3)]])
        self.flat = b.transpose("pixels", flat, [0, 2, 1])
        sampled = self._nearest(rows, cols) if self.mode == "nearest" else self._linear(rows, cols)
        planes = b.transpose("planes", sampled, [0, 2, 1])
        return b.reshape("map", planes, [(self.grid, 0), self.channels, (self.grid, 1), (self.grid, 2)])

    def _nearest(self, rows: gs.Tensor, cols: gs.Tensor) -> gs.Tensor:
        return self._read("at", self.b.op("Round", "row_round", rows), self.b.op("Round", "col_round", cols))

    def _linear(self, rows: gs.Tensor, cols: gs.Tensor) -> gs.Tensor:
        b, one = self.b, self._number("one", 1)
        ends = []
        for axis, coordinate in (("row", rows), ("col", cols)):
            low = b.op("Floor", f"{axis}_low", coordinate)
            part = b.op("Sub", f"{axis}_part", coordinate, low)
            rest = b.op("Sub", f"{axis}_rest", one, part)
            ends.append([("low", low, rest), ("high", b.op("Add", f"{axis}_high", low, one), part)])
        total: gs.Tensor | None = None
        for row_end, row, row_weight in ends[0]:
            for col_end, col, col_weight in ends[1]:
                corner = f"{row_end}_{col_end}"
                weight = b.op("Mul", f"{corner}_weight", row_weight, col_weight)
                part = b.op("Mul", f"{corner}_part", self._read(corner, row, col), self._as_type_of_x(corner, weight))
                total = part if total is None else b.op("Add", f"{corner}_sum", total, part)
        assert total is not None
        return total

    def _read(self, role: str, row: gs.Tensor, col: gs.Tensor) -> gs.Tensor:
        """x at integer coordinates, [N, P, C]; cells outside as padding_mode demands."""
        b = self.b
        clipped = [self._clip(f"{role}_row", row, 2), self._clip(f"{role}_col", col, 3)]
        indices = [
            b.cast(f"{role}_{axis}_index", coordinate, INT64)
            for axis, coordinate in zip(("row", "col"), clipped, strict=True)
        ]
        first = b.op("Mul", f"{role}_first", indices[0], self._width(f"{role}_width"))
        index: gs.Tensor = b.op("Add", f"{role}_index", first, indices[1])
        ones = b.const(f"{role}_channels", [1, 1, self.channels])
        value: gs.Tensor = b.op(
            "GatherElements", f"{role}_cells", self.flat, b.op("Expand", f"{role}_all", index, ones), axis=1
        )
        if self.padding == "zeros":
            same = [
                b.op("Equal", f"{role}_{axis}_same", a, c) for axis, a, c in zip("yx", (row, col), clipped, strict=True)
            ]
            kept = b.op("And", f"{role}_kept", *same)
            value = b.op("Where", f"{role}_value", kept, value, b.const(f"{role}_zero", 0, self.x.dtype))
        return value

    def _clip(self, role: str, coordinate: gs.Tensor, axis: int) -> gs.Tensor:
        """An integer coordinate, reflected if padding_mode is reflection, and clipped to the map."""
        b, size = self.b, self.x.shape[axis]
        if not isinstance(size, int):
            low = b.op("Max", f"{role}_above", coordinate, self._number(f"{role}_first", 0))
            return b.op("Min", f"{role}_inside", low, self._size_as_float(f"{role}_last", axis, -1))
        if self.padding == "reflection":
            coordinate = self._reflect(role, coordinate, *((0, size - 1) if self.align else (-0.5, size - 0.5)))
        return b.op(
            "Clip",
            f"{role}_inside",
            coordinate,
            self._number(f"{role}_first", 0),
            self._number(f"{role}_last", size - 1),
        )

    def _reflect(self, role: str, coordinate: gs.Tensor, low: float, high: float) -> gs.Tensor:
        """Reflect by a triangle wave of period 2 * (high - low); a map of one cell has none."""
        b, span = self.b, high - low
        if span == 0:
            return coordinate
        distance = b.op(
            "Abs", f"{role}_apart", b.op("Sub", f"{role}_from", coordinate, self._number(f"{role}_low", low))
        )
        periods = b.op(
            "Floor", f"{role}_turns", b.op("Div", f"{role}_ratio", distance, self._number(f"{role}_period", 2 * span))
        )
        whole = b.op("Mul", f"{role}_whole", periods, self._number(f"{role}_period", 2 * span))
        phase = b.op("Sub", f"{role}_phase", distance, whole)
        overshoot = b.op(
            "Abs", f"{role}_beyond", b.op("Sub", f"{role}_past", phase, self._number(f"{role}_span", span))
        )
        return b.op("Sub", f"{role}_back", self._number(f"{role}_high", high), overshoot)

    def _coordinates(self, role: str, points: gs.Tensor, channel: int, axis: int) -> gs.Tensor:
        b = self.b
        g = b.slice(f"{role}_grid", points, [channel], [channel + 1], [2])
        moved = b.op("Add", f"{role}_moved", g, self._number(f"{role}_one", 1))
        if self.align:
            halved = b.op("Div", f"{role}_halved", moved, self._number(f"{role}_two", 2))
            return b.op("Mul", f"{role}_at", halved, self._size_as_float(f"{role}_span", axis, -1))
        scaled = b.op("Mul", f"{role}_scaled", moved, self._size_as_float(f"{role}_size", axis))
        less = b.op("Sub", f"{role}_less", scaled, self._number(f"{role}_one", 1))
        return b.op("Div", f"{role}_at", less, self._number(f"{role}_two", 2))

    def _size_as_float(self, role: str, axis: int, more: int = 0) -> gs.Tensor:
        """The size of a side of the map plus `more`, in the type of the grid."""
        size = self.x.shape[axis]
        if isinstance(size, int):
            return self._number(role, size + more)
        whole = self.b.cast(f"{role}_whole", self._size(axis), self.grid.dtype)
        return self.b.op("Add", role, whole, self._number(f"{role}_more", more)) if more else whole

    def _width(self, role: str) -> gs.Tensor:
        size = self.x.shape[3]
        return self.b.const(role, size) if isinstance(size, int) else self._size(3)

    def _size(self, axis: int) -> gs.Tensor:
        """The size of a side as an int64 scalar; its nodes are built once."""
        if axis not in self._sizes:
            role = f"side{axis}"
            shape = self.b.op("Shape", f"{role}_shape", self.x)
            self._sizes[axis] = self.b.op("Gather", role, shape, self.b.const(f"{role}_axis", axis), axis=0)
        return self._sizes[axis]

    def _number(self, role: str, value: float) -> gs.Constant:
        return self.b.const(role, value, self.grid.dtype)

    def _as_type_of_x(self, role: str, weight: gs.Tensor) -> gs.Tensor:
        return self.b.cast(f"{role}_like", weight, self.x.dtype)
