"""Recognize adaptive average pooling that an exporter wrote as gathers, slices, sums and means.

    a linear part of the graph whose result [n, c, i, j] is, for every i and j, the mean of x[n, c] over the cells
    floor(i*H/h) <= row < ceil((i+1)*H/h) and floor(j*W/w) <= column < ceil((j+1)*W/w)
        ->  segc.AdaptiveAvgPool2d<output_size = [h, w]>(x)

No pattern is matched. That part of the graph is executed symbolically: every element of every tensor is a list of cells
of x and a divisor. Slice, Gather, GatherND, Split, Concat and Transpose move such lists, Add and ReduceMean concatenate
them, Where and Mul by 0 empty them, Div and Mul by a constant scale the divisor; batch and channels must pass through
unchanged. At the end each list must hold exactly the cells of its bin, each once, and the divisor must be their number.
Then the pool is the same function for any input, and only the order of the sums differs.

Must not fire: one cell too many, too few or twice in one bin (the skip names the bin); a divisor that is not the number
of cells, such as an average that counts padding; batch or channels that are sliced or mixed; sizes that are not static;
a single AveragePool or the mean of a whole side, which need no rewrite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import insert, ints, optional, protected, prune, small_constant
from segc.passes.support.pooling_bins import bin_bounds
from segc.passes.support.slices import cuts_of, positions

ROOTS = frozenset({"Div", "Mul", "ReduceMean", "Concat"})
CUTS = frozenset({"Slice", "Gather", "GatherND", "Split"})
LARGEST = 1 << 22  # elements of index constants and of symbolic tensors
CONE = 20000  # nodes of one pool: a bin of 22 x 43 cells written as Gather and Add has about 2000
CANDIDATES = 8


@dataclass(frozen=True)
class Cells:
    """A symbolic tensor: each element is a sum of cells of x over a divisor.

    axes: 0 for the batch, 1 for the channels, None for an axis of cells. terms: arrays over the axes of cells that hold
    cell numbers of x, -1 for none; an element is the sum of its terms. divisor: an array over the same axes.
    """

    axes: tuple[int | None, ...]
    terms: tuple[np.ndarray, ...]
    divisor: np.ndarray

    def place(self, axis: int) -> int | None:
        """The axis of the arrays for this axis of the tensor; None for batch and channels."""
        axis %= len(self.axes)
        return None if self.axes[axis] is not None else sum(a is None for a in self.axes[:axis])

    def map(self, axes: tuple[int | None, ...], change: Callable[[np.ndarray], np.ndarray]) -> Cells:
        """Apply the same change to all arrays."""
        return Cells(axes, tuple(change(t) for t in self.terms), change(self.divisor))


class RecognizeAdaptiveAvgPool(Pass):
    """Raise standard ops to segc.AdaptiveAvgPool2d. Cost: one symbolic run of each linear part that slices maps."""

    name: ClassVar[str] = "recognize-adaptive-avg-pool"
    algebra: ClassVar[str] = "gathers, sums and means over exactly the bins of x  ->  segc.AdaptiveAvgPool2d(x)"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    ensures: ClassVar[frozenset[str]] = frozenset({"pools recognized"})
    invalidates: ClassVar[frozenset[str]] = frozenset({"no segc dialect", "no segc.AdaptiveAvgPool2d"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Try each node that may be the last of a pool, from the end of the graph."""
        result, protected_ids = PassResult(), protected(graph)
        order = {id(n): at for at, n in enumerate(graph.nodes)}
        for node in reversed(list(graph.nodes)):
            if not node.outputs or node.domain or node.op not in ROOTS or _static4(node.outputs[0]) is None:
                continue
            x, why = recognize(node, order)
            if x is None:
                if why:
                    result.skip(node, why)
                continue
            _replace(graph, node, x, protected_ids)
            result.changes += 1
        return result


def _static4(tensor: gs.Tensor) -> tuple[int, ...] | None:
    shape = ir.static_shape(tensor)
    return shape if shape is not None and len(shape) == 4 and min(shape) > 0 else None


def recognize(root: gs.Node, order: dict[int, int]) -> tuple[gs.Tensor | None, str | None]:
    """The x that `root` pools, or None and the reason why a graph that slices and averages is no adaptive pool."""
    cone = linear_cone(root, order)
    if cone is None or not any(n.op in CUTS for n in cone):
        return None, None
    why = None
    for x in _sources(cone):
        symbols = execute_symbolically(x, cone, root)
        if symbols is None:
            continue
        if (reason := mismatch(symbols, x.shape[2:], root.outputs[0].shape)) is None:
            return x, None
        why = why or reason or None
    return None, why


def linear_cone(root: gs.Node, order: dict[int, int]) -> list[gs.Node] | None:
    """`root` and the nodes above it that have a rule, in the graph's order; None if there are too many."""
    seen: dict[int, gs.Node] = {}
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen or node.domain or node.op not in RULES or id(node) not in order:
            continue
        seen[id(node)] = node
        if len(seen) > CONE:
            return None
        pending.extend(producer for t in node.inputs for producer in t.inputs)
    return sorted(seen.values(), key=lambda n: order[id(n)])


def _sources(cone: list[gs.Node]) -> list[gs.Tensor]:
    """The maps that may be the pooled x, those nearest to the graph's inputs first."""
    found: dict[int, gs.Tensor] = {}
    for node in cone:
        x = node.inputs[0]
        if node.op in CUTS | {"Transpose", "ReduceMean", "AveragePool"} and isinstance(x, gs.Variable) and _static4(x):
            found.setdefault(id(x), x)
    return list(found.values())[:CANDIDATES]


def execute_symbolically(x: gs.Tensor, cone: list[gs.Node], root: gs.Node) -> Cells | None:
    """The output of `root` in cells of `x`; None if it depends on another tensor or an op has no symbolic result, or if
    x is too large.
    """
    height, width = x.shape[2:]
    if height * width > LARGEST:
        return None
    start = np.arange(height * width).reshape(height, width)
    known: dict[int, Cells] = {id(x): Cells((0, 1, None, None), (start,), np.ones((height, width)))}
    for node in cone:
        if any(id(t) in known for t in node.outputs):
            continue
        operands = [t for t in node.inputs if isinstance(t, gs.Variable) and not t.is_empty()]
        if not operands or any(id(t) not in known for t in operands):
            continue
        results = RULES[node.op](node, known)
        if results is None or sum(term.size for cells in results for term in cells.terms) > LARGEST:
            continue
        known.update({id(t): cells for t, cells in zip(node.outputs, results, strict=True)})
    slices_map = any(id(n.outputs[0]) in known for n in cone if n.op in CUTS)
    return known.get(id(root.outputs[0])) if slices_map else None


def mismatch(symbols: Cells, sides: tuple[int, int], shape: tuple[int, ...]) -> str | None:
    """None if the symbols are those of the bins; otherwise the first bin that differs, or "" if it is no pool."""
    if symbols.axes != (0, 1, None, None):
        return ""
    bins = tuple(int(b) for b in shape[2:])
    if all(b in (1, s) for b, s in zip(bins, sides, strict=True)):
        return ""  # whole sides: a mean or a copy, which needs no rewrite
    terms = np.stack(symbols.terms)
    rows, columns = (bin_bounds(int(s), b) for s, b in zip(sides, bins, strict=True))
    cells = np.arange(sides[0] * sides[1]).reshape(sides)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            expected = cells[top:bottom, left:right].ravel()
            averaged = np.sort(terms[:, i, j])
            averaged = averaged[averaged >= 0]
            if not np.array_equal(averaged, expected):
                return f"bin ({i}, {j}) averages {len(averaged)} cells, not the {len(expected)} of an adaptive pool"
            if abs(symbols.divisor[i, j] - len(expected)) > 1e-6 * len(expected):
                return f"bin ({i}, {j}) is divided by {symbols.divisor[i, j]:g}, not by its {len(expected)} cells"
    return None


def _replace(graph: gs.Graph, node: gs.Node, x: gs.Tensor, protected_ids: set[int]) -> None:
    y = node.outputs[0]
    y.inputs.clear()
    attrs = {"output_size": [int(s) for s in y.shape[2:]]}
    insert(graph, node, [gs.Node("AdaptiveAvgPool2d", domain=dialect.DOMAIN, attrs=attrs, inputs=[x], outputs=[y])])
    prune(graph, node, protected_ids)


# The rules: the symbolic outputs of a node, None where batch or channels would change or an operand is not constant.

Known = dict[int, Cells]
Outputs = list[Cells] | None


def _data(node: gs.Node, known: Known) -> Cells | None:
    return known.get(id(node.inputs[0]))


def _transpose(node: gs.Node, known: Known) -> Outputs:
    x = _data(node, known)
    if x is None:
        return None
    perm = [int(p) for p in node.attrs.get("perm", reversed(range(len(x.axes))))]
    places = [place for p in perm if (place := x.place(p)) is not None]
    return [x.map(tuple(x.axes[p] for p in perm), lambda array: array.transpose(places))]


def _slice(node: gs.Node, known: Known) -> Outputs:
    x, cuts_by_axis = _data(node, known), cuts_of(node)
    if x is None or cuts_by_axis is None:
        return None
    index: list[slice] = [slice(None)] * x.divisor.ndim
    for axis, cut in cuts_by_axis.items():
        place = x.place(axis)
        if place is None:
            return None
        cells = positions(cut, x.divisor.shape[place])
        index[place] = slice(cells.start, cells.stop, cells.step)
    return [x.map(x.axes, lambda array: array[tuple(index)])]


def _split(node: gs.Node, known: Known) -> Outputs:
    x = _data(node, known)
    axis = int(node.attrs.get("axis", 0))
    place = None if x is None else x.place(axis)
    shapes = [ir.static_shape(t) for t in node.outputs]
    if x is None or place is None or any(s is None for s in shapes):
        return None
    edges = np.cumsum([s[axis] for s in shapes if s is not None])[:-1]
    terms = [np.split(t, edges, place) for t in x.terms]
    divisors = np.split(x.divisor, edges, place)
    return [Cells(x.axes, tuple(t[part] for t in terms), d) for part, d in enumerate(divisors)]


def _gather(node: gs.Node, known: Known) -> Outputs:
    x, indices = _data(node, known), small_constant(node.inputs[1], LARGEST)
    axis = int(node.attrs.get("axis", 0))
    place = None if x is None else x.place(axis)
    if x is None or indices is None or place is None:
        return None
    axis %= len(x.axes)
    axes = (*x.axes[:axis], *[None] * indices.ndim, *x.axes[axis + 1 :])
    return [x.map(axes, lambda array: np.take(array, indices, place))]


def _gather_nd(node: gs.Node, known: Known) -> Outputs:
    x, indices = _data(node, known), small_constant(node.inputs[1], LARGEST)
    if x is None or indices is None or node.attrs.get("batch_dims", 0):
        return None
    depth = indices.shape[-1]
    if any(axis is not None for axis in x.axes[:depth]):
        return None
    index = tuple(indices[..., i] for i in range(depth))
    return [x.map((*[None] * (indices.ndim - 1), *x.axes[depth:]), lambda array: array[index])]


def _concat(node: gs.Node, known: Known) -> Outputs:
    parts = [known.get(id(t)) for t in node.inputs]
    first = parts[0]
    place = None if first is None else first.place(int(node.attrs["axis"]))
    if first is None or place is None:
        return None
    aligned = [p for p in parts if p is not None and p.axes == first.axes]
    if len(aligned) != len(parts):
        return None
    most_terms = max(len(p.terms) for p in aligned)
    terms = []
    for index in range(most_terms):
        row = [p.terms[index] if index < len(p.terms) else np.full_like(p.terms[0], -1) for p in aligned]
        terms.append(np.concatenate(row, place))
    return [Cells(first.axes, tuple(terms), np.concatenate([p.divisor for p in aligned], place))]


def _add(node: gs.Node, known: Known) -> Outputs:
    parts = [known.get(id(t)) for t in node.inputs]
    first = parts[0]
    if first is None or any(p is None or p.axes != first.axes for p in parts):
        return None
    operands = [p for p in parts if p is not None]
    if any(p.divisor.shape != first.divisor.shape or not np.array_equal(p.divisor, first.divisor) for p in operands):
        return None
    return [Cells(first.axes, tuple(t for p in operands for t in p.terms), first.divisor)]


def _mean(node: gs.Node, known: Known) -> Outputs:
    return _reduce(node, known, mean=True)


def _sum(node: gs.Node, known: Known) -> Outputs:
    return _reduce(node, known, mean=False)


def _reduce(node: gs.Node, known: Known, *, mean: bool) -> Outputs:
    x = _data(node, known)
    axes = node.attrs.get("axes", ints(optional(node, 1)))
    if x is None or not axes:
        return None
    dims = sorted(int(a) % len(x.axes) for a in axes)
    return _merged_axes(x, dims, bool(node.attrs.get("keepdims", 1)), mean)


def _merged_axes(x: Cells, dims: list[int], protected_ids: bool, mean: bool) -> Outputs:
    places = [x.place(d) for d in dims]
    if any(p is None for p in places):
        return None
    first = [p for p in places if p is not None]
    divisor = np.moveaxis(x.divisor, first, range(len(first)))
    flat = divisor.reshape(-1, *divisor.shape[len(first) :])
    if not len(flat) or not (flat == flat[0]).all():
        return None
    terms: list[np.ndarray] = []
    for term in x.terms:
        in_front = np.moveaxis(term, first, range(len(first)))
        terms.extend(in_front.reshape(-1, *in_front.shape[len(first) :]))
    axes = tuple(a for index, a in enumerate(x.axes) if index not in dims)
    merged = Cells(axes, tuple(terms), flat[0] * (len(flat) if mean else 1))
    return [merged.map(x.axes, lambda array: np.expand_dims(array, tuple(first)))] if protected_ids else [merged]


def _global_mean(node: gs.Node, known: Known) -> Outputs:
    x = _data(node, known)
    return None if x is None or x.axes != (0, 1, None, None) else _merged_axes(x, [2, 3], True, True)


def _average_pool(node: gs.Node, known: Known) -> Outputs:
    x, kernel = _data(node, known), list(node.attrs["kernel_shape"])
    step = list(node.attrs.get("strides", [1] * len(kernel)))
    plain = not any(node.attrs.get("pads", [0])) and not node.attrs.get("ceil_mode", 0)
    auto = node.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID", b"NOTSET", b"VALID")
    if x is None or x.axes != (0, 1, None, None) or not plain or not auto or max(node.attrs.get("dilations", [1])) > 1:
        return None
    counts = [(side - k) // s + 1 for side, k, s in zip(x.divisor.shape, kernel, step, strict=True)]
    windows = [
        (slice(top, top + counts[0] * step[0], step[0]), slice(left, left + counts[1] * step[1], step[1]))
        for top in range(kernel[0])
        for left in range(kernel[1])
    ]
    if any(not np.array_equal(x.divisor[w][: counts[0], : counts[1]], x.divisor[windows[0]]) for w in windows):
        return None
    terms = tuple(t[w][: counts[0], : counts[1]] for t in x.terms for w in windows)
    return [Cells(x.axes, terms, x.divisor[windows[0]] * len(windows))]


def _broadcast_constant(x: Cells, constant: gs.Tensor) -> np.ndarray | None:
    """A constant broadcast over the axes of cells; None if it varies by batch or channel."""
    value = small_constant(constant, LARGEST)
    if value is None or value.ndim > len(x.axes):
        return None
    expanded = value.reshape((1,) * (len(x.axes) - value.ndim) + value.shape)
    others = tuple(index for index, axis in enumerate(x.axes) if axis is not None)
    if any(expanded.shape[index] != 1 for index in others):
        return None
    over_cells = expanded.squeeze(others)
    if np.broadcast_shapes(over_cells.shape, x.divisor.shape) != x.divisor.shape:
        return None
    return np.broadcast_to(over_cells, x.divisor.shape)


def _scaled(node: gs.Node, known: Known) -> Outputs:
    for index in (0, 1) if node.op == "Mul" else (0,):
        x = known.get(id(node.inputs[index]))
        value = None if x is None else _broadcast_constant(x, node.inputs[1 - index])
        if x is None or value is None:
            continue
        factor = value.astype(np.float64)
        if node.op == "Div":
            return [Cells(x.axes, x.terms, x.divisor * factor)] if factor.all() else None
        empty = factor == 0
        terms = tuple(np.where(empty, -1, t) for t in x.terms)
        return [Cells(x.axes, terms, np.where(empty, x.divisor, x.divisor / np.where(empty, 1, factor)))]
    return None


def _where(node: gs.Node, known: Known) -> Outputs:
    condition, *sides = node.inputs
    for index in (0, 1):
        x, other_side = known.get(id(sides[index])), small_constant(sides[1 - index], LARGEST)
        mask = None if x is None else _broadcast_constant(x, condition)
        if x is None or other_side is None or mask is None or other_side.any() or other_side.size != 1:
            continue
        chosen = mask if index == 0 else ~mask
        return [Cells(x.axes, tuple(np.where(chosen, t, -1) for t in x.terms), x.divisor)]
    return None


def _squeeze(node: gs.Node, known: Known) -> Outputs:
    x, axes = _data(node, known), node.attrs.get("axes", ints(optional(node, 1)))
    if x is None or not axes:
        return None
    dims = sorted(int(a) % len(x.axes) for a in axes)
    places = [x.place(d) for d in dims]
    if any(p is None for p in places):
        return None
    removed = tuple(p for p in places if p is not None)
    kept_axes = tuple(a for index, a in enumerate(x.axes) if index not in dims)
    return [x.map(kept_axes, lambda array: array.squeeze(removed))]


def _unsqueeze(node: gs.Node, known: Known) -> Outputs:
    x, axes = _data(node, known), node.attrs.get("axes", ints(optional(node, 1)))
    if x is None or not axes:
        return None
    dims = sorted(int(a) % (len(x.axes) + len(axes)) for a in axes)
    new_axes = list(x.axes)
    for d in dims:
        new_axes.insert(d, None)
    places = tuple(sum(a is None for a in new_axes[:d]) for d in dims)
    return [x.map(tuple(new_axes), lambda array: np.expand_dims(array, places))]


def _identity(node: gs.Node, known: Known) -> Outputs:
    x = _data(node, known)
    return None if x is None else [x]


RULES: dict[str, Callable[[gs.Node, Known], Outputs]] = {
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Concat": _concat,
    "Add": _add,
    "Sum": _add,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "GlobalAveragePool": _global_mean,
    "AveragePool": _average_pool,
    "Div": _scaled,
    "Mul": _scaled,
    "Where": _where,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _identity,
}
