"""Lower segc.AdaptiveAvgPool2d to standard ops, exactly for every size.

Bin i of n along a side of length s averages the cells floor(i*s/n) <= cell < ceil((i+1)*s/n). Bins overlap unless n
divides s. Only then is a strided AveragePool correct (kernel = stride = s // n is wrong for half of all sizes). A bin
of a map is a rectangle, so rows and columns can be averaged independently:

    y = rows @ x @ cols,    rows[i, cell] = 1/size(i) in bin i, else 0;    cols the same, transposed.

For a known side the matrix is a constant, otherwise it is computed from Shape(x) with the same formula in int64. One
bin is the mean of the side; -1, or as many bins as cells, keeps the side. There are three lowerings, cheapest first:

    native  one AveragePool or ReduceMean where that is exact; otherwise there is none
    matmul  one MatMul for each side that changes
    slices  Concat of ReduceMean of Slice for each side that changes; sides must be known

One bin becomes a ReduceMean, not a GlobalAveragePool: over 64 x 128 cells ONNX Runtime's GlobalAveragePool adds in one
chain and is off by 3e-6, its ReduceMean by 4e-7, PyTorch by 1e-7.

Must not fire: if `ops` is given and no lowering uses these ops alone; with lowering keep, which leaves the op to a
target that has it. AveragePool is not used for inputs without a batch axis, which ONNX would read as N x C x L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.graph import dialect
from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, insert
from segc.passes.support.pooling_bins import bin_bounds

OP = "AdaptiveAvgPool2d"
LOWERINGS = ("native", "matmul", "slices")  # cheapest first


@dataclass(frozen=True)
class LowerAdaptiveAvgPool(Pass):
    """Rewrite segc.AdaptiveAvgPool2d into standard ops, exactly, for static and dynamic sides.

    lowering: the first one to try, of native, matmul and slices; keep leaves the op as it is. ops: the standard ops
    that the target supports; the first lowering that uses no others is taken, without `ops` the first that applies.
    dynamic: also lower pools with unknown sides, whose bins further nodes compute.
    """

    name: ClassVar[str] = "lower-adaptive-avg-pool"
    algebra: ClassVar[str] = "segc.AdaptiveAvgPool2d(x)  ->  AveragePool if bins divide the sides, else rows @ x @ cols"
    invalidates: ClassVar[frozenset[str]] = NODE_RULES | {
        "constants folded", "identities removed", "lowerings merged"
    }  # fmt: skip

    lowering: Literal["native", "matmul", "slices", "keep"] = "native"
    ops: frozenset[str] | None = None
    dynamic: bool = True

    def __post_init__(self) -> None:
        """Promise that no pool is left, but for skips, only where this pass is asked to leave none."""
        if self.lowering not in (*LOWERINGS, "keep"):
            raise ValueError(f"'{self.lowering}' is not a valid lowering; choose {', '.join(LOWERINGS)} or keep")
        if self.lowering != "keep" and self.dynamic:
            object.__setattr__(self, "ensures", frozenset({"no segc.AdaptiveAvgPool2d"}))
        last = self.ops is None and self.dynamic  # lowers what is left, at any price: of a graph that is cleaned up
        needed = {"lowerings merged", "identities removed" if last else "pools recognized"}
        object.__setattr__(self, "requires", Pass.requires | {PORTABLE} | needed)

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each pool where it stands."""
        result, names = PassResult(), Names(graph)
        for node in [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, OP)]:
            lowering = self._choose(graph.opset, node)
            if lowering is None:
                result.skip(node, self._why_not(graph.opset, node))
                continue
            new_nodes = _PoolNodes(graph.opset, names, node).build(lowering)
            assert new_nodes is not None
            insert(graph, node, new_nodes)
            node.inputs.clear()
            graph.nodes = [n for n in graph.nodes if n is not node]
            result.changes += 1
        return result

    def _choose(self, opset: int, node: gs.Node) -> str | None:
        """The first lowering, from `self.lowering` on, whose ops the target supports."""
        for lowering, used in self._applicable(opset, node):
            if self.ops is None or used <= self.ops:
                return lowering
        return None

    def _applicable(self, opset: int, node: gs.Node) -> list[tuple[str, set[str]]]:
        """The lowerings that apply to this node, each with its ops; found by building them for a copy."""
        if self.lowering == "keep" or self._is_excluded(node):
            return []
        applicable = []
        for lowering in LOWERINGS[LOWERINGS.index(self.lowering) :]:
            tensors = [gs.Variable(t.name, t.dtype, t.shape) for t in (node.inputs[0], node.outputs[0])]
            copy = gs.Node(OP, attrs=dict(node.attrs), inputs=tensors[:1], outputs=tensors[1:])
            nodes = _PoolNodes(opset, Names(gs.Graph()), copy).build(lowering)
            if nodes is not None:
                applicable.append((lowering, {n.op for n in nodes}))
        return applicable

    def _is_excluded(self, node: gs.Node) -> bool:
        shape = node.inputs[0].shape
        known = shape is not None and all(isinstance(side, int) for side in shape[-2:])
        return not (self.dynamic or known)

    def _why_not(self, opset: int, node: gs.Node) -> str:
        if self.lowering == "keep":
            return "the target implements it"
        if self._is_excluded(node):
            return "its sides are unknown"
        lacking = [f"{s} needs {', '.join(sorted(u - (self.ops or u)))}" for s, u in self._applicable(opset, node)]
        return "; ".join(lacking) if lacking else f"{self.lowering} needs known sides"


def bin_matrix(size: int, bins: int) -> np.ndarray:
    """float32[bins, size]; row i averages the cells of bin i, so each row sums to 1."""
    matrix = np.zeros((bins, size), np.float32)
    for row, (low, high) in zip(matrix, bin_bounds(size, bins), strict=True):
        row[low:high] = 1 / (high - low)
    return matrix


def stride(side: int | None, bins: int) -> int | None:
    """Kernel and stride of the AveragePool that equals these bins along a side, None if there is none."""
    if bins == -1:
        return 1
    return side // bins if side is not None and side % bins == 0 else None


def columns_first(height: int, width: int, rows: int, cols: int) -> bool:
    """Whether rows @ (x @ cols) needs no more multiplications than (rows @ x) @ cols."""
    return height * width * cols + rows * height * cols <= rows * height * width + rows * width * cols


class _PoolNodes:
    """Builds the nodes that replace one pool. The output tensor keeps its name and users; the old node loses it."""

    def __init__(self, opset: int, names: Names, node: gs.Node) -> None:
        self.opset, self.names = opset, names
        self.x, self.y = node.inputs[0], node.outputs[0]
        self.dtype = np.dtype(self.x.dtype if self.x.dtype is not None else np.float32)
        shape = self.x.shape
        self.rank = None if shape is None else len(shape)
        self.side = [s if isinstance(s, int) else None for s in shape[-2:]] if shape is not None else [None, None]
        self.bins = [int(b) for b in node.attrs["output_size"]]
        self.unchanged = [b == -1 or b == s for s, b in zip(self.side, self.bins, strict=True)]
        self.nodes: list[gs.Node] = []

    def build(self, lowering: str) -> list[gs.Node] | None:
        """The nodes of a lowering, None if it does not apply to this pool."""
        if lowering == "matmul":
            return self.matmul_nodes()
        return self.native_nodes() if lowering == "native" else self.slice_nodes()

    def native_nodes(self) -> list[gs.Node] | None:
        """One standard pooling op if one is exact, otherwise None."""
        if all(self.unchanged):
            return self._single_op("Identity")
        if self.bins == [1, 1]:
            return self._reduce_mean([-2, -1])
        if any(b == 1 and k for b, k in zip(self.bins, reversed(self.unchanged), strict=True)):
            return self._reduce_mean([-2 if self.unchanged[1] else -1])
        step = [stride(s, b) for s, b in zip(self.side, self.bins, strict=True)]
        if self.rank != 4 or None in step:
            return None
        return self._single_op("AveragePool", kernel_shape=step, strides=step)

    def matmul_nodes(self) -> list[gs.Node]:
        """One matrix product for each side that changes, the cheaper one first."""
        if all(self.unchanged):
            return self._single_op("Identity")
        height, width = self.side
        rows_first = height is not None and width is not None and not columns_first(height, width, *self.bins)
        order = [axis for axis in ((0, 1) if rows_first else (1, 0)) if not self.unchanged[axis]]
        matrices = {axis: self._matrix(axis) for axis in order}
        current = self.x
        for axis in order:
            last = axis == order[-1]
            output = self._claim_output() if last else self._intermediate(axis)
            pair = [current, matrices[axis]] if axis == 1 else [matrices[axis], current]
            self.nodes.append(gs.Node("MatMul", inputs=pair, outputs=[output]))
            current = output
        return self.nodes

    def slice_nodes(self) -> list[gs.Node] | None:
        """For each side that changes: slice out the bins, average each, concatenate the means."""
        if all(self.unchanged):
            return self._single_op("Identity")
        order = [axis for axis in (1, 0) if not self.unchanged[axis]]
        if any(self.side[axis] is None for axis in order):
            return None
        current: gs.Tensor = self.x
        for axis in order:
            output = self._claim_output() if axis == order[-1] else self._intermediate(axis)
            self._add_bins(current, output, axis)
            current = output
        return self.nodes

    def _add_bins(self, x: gs.Tensor, y: gs.Variable, axis: int) -> None:
        """Append the nodes of y = x averaged over the bins of one axis."""
        if self.bins[axis] == 1:
            self.nodes.append(self._mean_node(x, y, [axis - 2], y))
            return
        means = []
        for at, (low, high) in enumerate(bin_bounds(self.side[axis] or 0, self.bins[axis])):
            role = f"{('row', 'col')[axis]}{at}"
            part = self.names.variable(self.y, role, self.dtype, _with_size(x.shape, axis - 2, high - low))
            mean = self.names.variable(self.y, f"{role}_mean", self.dtype, _with_size(x.shape, axis - 2, 1))
            values = (("from", low), ("to", high), ("axis", axis - 2))
            edges = [self.names.constant(part, what, [value]) for what, value in values]
            self.nodes.append(gs.Node("Slice", inputs=[x, *edges], outputs=[part]))
            self.nodes.append(self._mean_node(part, mean, [axis - 2], part))
            means.append(mean)
        self.nodes.append(gs.Node("Concat", attrs={"axis": axis - 2}, inputs=means, outputs=[y]))

    def _single_op(self, op: str, **attrs: object) -> list[gs.Node]:
        self.nodes.append(gs.Node(op, attrs=attrs, inputs=[self.x], outputs=[self._claim_output()]))
        return self.nodes

    def _reduce_mean(self, axes: list[int]) -> list[gs.Node]:
        self.nodes.append(self._mean_node(self.x, self._claim_output(), axes, self.y))
        return self.nodes

    def _mean_node(self, x: gs.Tensor, y: gs.Variable, axes: list[int], serves: gs.Tensor) -> gs.Node:
        if self.opset < 18:
            return gs.Node("ReduceMean", attrs={"keepdims": 1, "axes": axes}, inputs=[x], outputs=[y])
        inputs = [x, self.names.constant(serves, "axes", axes)]
        return gs.Node("ReduceMean", attrs={"keepdims": 1}, inputs=inputs, outputs=[y])

    def _claim_output(self) -> gs.Variable:
        self.y.inputs.clear()
        return self.y

    def _intermediate(self, axis: int) -> gs.Variable:
        shape = _with_size(self.x.shape, axis - 2, self.bins[axis])
        return self.names.variable(self.y, ("down", "across")[axis], self.dtype, shape)

    def _matrix(self, axis: int) -> gs.Tensor:
        """Rows as [bins, side], columns as [side, bins]."""
        role, side, bins = ("rows", "cols")[axis], self.side[axis], self.bins[axis]
        if side is None:
            return self._computed_matrix(axis, role, bins)
        matrix = bin_matrix(side, bins).astype(self.dtype)
        return self.names.constant(self.y, role, matrix if axis == 0 else matrix.T)

    def _computed_matrix(self, axis: int, role: str, bins: int) -> gs.Tensor:
        """The matrix of a side that is known only at run time, by the formula of `bin_matrix` in int64."""
        index = np.arange(bins, dtype=np.int64).reshape((bins, 1) if axis == 0 else (1, bins))
        edge, full = list(index.shape), [bins, None] if axis == 0 else [None, bins]
        side = self._side(axis, role)

        def ints(op: str, what: str, *inputs: gs.Tensor) -> gs.Variable:
            return self._int(op, f"{role}_{what}", edge, *inputs)

        def number(what: str, value: object) -> gs.Constant:
            return self.names.constant(self.y, f"{role}_{what}", np.asarray(value, np.int64))

        count, start = number("bins", bins), number("index", index)
        low = ints("Div", "low", ints("Mul", "scaled", start, side), count)
        end = ints("Mul", "end", number("next", index + 1), side)
        high = ints("Div", "high", ints("Add", "above", end, number("spare", bins - 1)), count)
        cell = self._cells(axis, role, side)
        after = self._bool("GreaterOrEqual", f"{role}_from", full, [cell, low])
        before = self._bool("Less", f"{role}_till", full, [cell, high])
        inside = self._bool("And", f"{role}_inside", full, [after, before])
        one = self._float(f"{role}_ones", full, inside)
        size = self._float(f"{role}_size", edge, ints("Sub", "count", high, low))
        matrix = self.names.variable(self.y, role, self.dtype, full)
        self.nodes.append(gs.Node("Div", inputs=[one, size], outputs=[matrix]))
        return matrix

    def _side(self, axis: int, role: str) -> gs.Variable:
        """The side as an int64 scalar."""
        whole = self._int("Shape", f"{role}_shape", None if self.rank is None else [self.rank], self.x)
        at = self.names.constant(self.y, f"{role}_axis", np.array(axis - 2, np.int64))
        return self._int("Gather", f"{role}_side", [], whole, at)

    def _cells(self, axis: int, role: str, side: gs.Tensor) -> gs.Variable:
        zero = self.names.constant(self.y, f"{role}_zero", np.array(0, np.int64))
        one = self.names.constant(self.y, f"{role}_one", np.array(1, np.int64))
        cells = self._int("Range", f"{role}_cells", [None], zero, side, one)
        if axis == 0:
            return cells
        column = self.names.variable(self.y, f"{role}_column", np.dtype(np.int64), [None, 1])
        if self.opset < 13:
            self.nodes.append(gs.Node("Unsqueeze", attrs={"axes": [1]}, inputs=[cells], outputs=[column]))
        else:
            axes = self.names.constant(self.y, f"{role}_last", [1])
            self.nodes.append(gs.Node("Unsqueeze", inputs=[cells, axes], outputs=[column]))
        return column

    def _int(self, op: str, role: str, shape: Sequence[int | None] | None, *inputs: gs.Tensor) -> gs.Variable:
        tensor = self.names.variable(self.y, role, np.dtype(np.int64), shape)
        self.nodes.append(gs.Node(op, inputs=list(inputs), outputs=[tensor]))
        return tensor

    def _bool(self, op: str, role: str, shape: Sequence[int | None], inputs: list[gs.Tensor]) -> gs.Variable:
        tensor = self.names.variable(self.y, role, np.dtype(np.bool_), shape)
        self.nodes.append(gs.Node(op, inputs=inputs, outputs=[tensor]))
        return tensor

    def _float(self, role: str, shape: Sequence[int | None], value: gs.Tensor) -> gs.Variable:
        tensor = self.names.variable(self.y, role, self.dtype, shape)
        to = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes.append(gs.Node("Cast", attrs={"to": to}, inputs=[value], outputs=[tensor]))
        return tensor


def _with_size(shape: Sequence[int | str | None] | None, axis: int, size: int) -> list[int | str | None] | None:
    """`shape` with the size of one axis replaced."""
    if shape is None:
        return None
    sizes = list(shape)
    sizes[axis] = size
    return sizes
