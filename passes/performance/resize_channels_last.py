"""Resize maps in channels-last order where they are made from tokens.

A transformer's tokens (N, h w, C) become a map by Reshape(Transpose(tokens)). Where a dynamic graph resizes such a map,
this pass makes the map as Reshape(tokens) of shape (N, h, w, C), and carries that order through the nodes that compute
each pixel from itself, and through the Resizes:

    Conv1x1(x, W, b)     ->  MatMul(x', W') + b
    Resize(x, sizes)     ->  Resize(x', sizes in the other order)
    Relu(x), x + y, ...  ->  the same of x', y'
    Concat(x, y; 1)      ->  Concat(x', y'; 3)

until a Transpose turns a result back where that moves least. For runtimes that interpolate all channels of a pixel
together many times faster than pixels of one channel: ONNX Runtime needs a fifth of the time. Its own blocked layout
does as well, but for constant factors alone, so that SegFormer's dynamic engine took 1.3 times as long as the static
one. The Resizes give the same numbers; products may add in another order.

Must not fire: maps of static sizes; interpolation other than linear, or of other axes; maps that are not made from
tokens alone; and where more would be turned back than is resized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.symbolic_sizes import estimate
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, standard, text
from segc.passes.support.commute import BINARY, UNARY, elementwise, perm_of, permuted
from segc.passes.support.edit import Names, insert, ints, optional, protected, rank, redirect, small_constant
from segc.passes.support.resize_nodes import require_plain

_LAST = [0, 2, 3, 1]  # the order of axes of a channels-last map: Transpose(x, _LAST) = x'
_FIRST = [0, 3, 1, 2]  # Transpose(x', _FIRST) = x
_WORTH = 2  # so many times more elements must be resized than are turned back


class ResizeChannelsLast(Pass):
    """Resize maps that are made from tokens before their channels become the second axis. Cost: weights are turned."""

    name = "resize-channels-last"
    algebra = "Resize(Reshape(Transpose(tokens)))  ->  Transpose(Resize(Reshape(tokens))), also behind 1x1 Conv and Add"
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each connected part of the graph that can be carried in this order and is worth it."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        maps = (_map_of_tokens(node) for node in standard(graph, "Reshape", "Transpose"))
        entries = {id(t) for t in maps if t is not None}
        region = _trimmed(_grown(graph, entries), protected_ids)
        for part in _connected(region):
            resizes = [node for node in part if node.op == "Resize"]
            if not any(ir.static_shape(node.outputs[0]) is None for node in resizes):
                continue
            if (why := _why_not_worth(part, resizes, protected_ids)) is not None:
                result.skip(resizes[0], why)
                continue
            _Turn(graph, names, protected_ids).run(part)
            result.changes += 1
        return result


def _map_of_tokens(node: gs.Node) -> gs.Tensor | None:
    """The map (N, C, h, w) that a Reshape or Transpose makes from tokens or from a channels-last map; else None."""
    y = node.outputs[0]
    if node.op == "Transpose":
        return y if perm_of(node) == _FIRST and node.inputs[0].inputs else None
    x = node.inputs[0]
    turned = x.inputs[0] if x.inputs else None
    if turned is None or perm_of(turned) != [0, 2, 1] or rank(y) != 4:
        return None
    if 0 in (ints(node.inputs[1]) or ()) and not node.attrs.get("allowzero", 0):
        return None  # a size taken over by its position
    channels = x.shape[1] if rank(x) == 3 else None
    return y if isinstance(channels, int) and y.shape[1] == channels else None


def _grown(graph: gs.Graph, entries: set[int]) -> list[gs.Node]:
    """The nodes, in order, that can be computed in channels-last order from these maps alone."""
    carried, region = set(entries), []
    for node in graph.nodes:
        data = _carried_inputs(node)
        if data and len(node.outputs) == 1 and all(id(t) in carried for t in data):
            carried.add(id(node.outputs[0]))
            region.append(node)
    return region


def _carried_inputs(node: gs.Node) -> list[gs.Tensor]:
    """The maps that the node reads, if it can read and write channels-last maps; else none."""
    if node.domain or not node.inputs or not node.outputs or rank(node.outputs[0]) != 4:
        return []
    x = node.inputs[0]
    if node.op in UNARY and elementwise(node, x) is True:
        return [x]
    if node.op == "Conv":
        return [x] if _pointwise(node) else []
    if node.op == "Resize":
        return [x] if _linear(node) else []
    if node.op == "Concat":
        return list(node.inputs) if node.attrs["axis"] % 4 == 1 else []
    if node.op not in BINARY or len(node.inputs) != 2:
        return []
    maps = [t for t in node.inputs if not isinstance(t, gs.Constant)]
    known = all(small_constant(t, 1 << 16) is not None for t in node.inputs if isinstance(t, gs.Constant))
    return maps if known and all(rank(t) == 4 for t in maps) else []


def _pointwise(conv: gs.Node) -> bool:
    """Whether a convolution is a product of each pixel with constant weights."""
    weights = conv.inputs[1]
    plain = isinstance(weights, gs.Constant) and tuple(weights.shape[2:]) == (1, 1) and conv.attrs.get("group", 1) == 1
    moved = any(side != 1 for side in conv.attrs.get("strides", ())) or any(conv.attrs.get("pads", ()))
    return plain and not moved and text(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID")


def _linear(resize: gs.Node) -> bool:
    """Whether a Resize interpolates height and width linearly, and nothing else."""
    try:
        require_plain(resize)
    except RewriteNotApplicable:
        return False
    x, y = resize.inputs[0], resize.outputs[0]
    return text(resize, "mode", "nearest") == "linear" and x.shape[1] == y.shape[1] and isinstance(x.shape[1], int)


def _trimmed(region: list[gs.Node], protected_ids: set[int]) -> list[gs.Node]:
    """The region without last nodes behind which more would be turned back than before them."""
    while True:
        carried = {id(t) for node in region for t in _carried_inputs(node)} - protected_ids
        kept = [
            node for node in region
            if id(node.outputs[0]) in carried or _elements(node.outputs) < _elements(_carried_inputs(node))
        ]  # fmt: skip
        if len(kept) == len(region):
            return region
        region = kept


def _elements(tensors: Sequence[gs.Tensor]) -> float:
    """About how many elements these tensors have."""
    sizes = [[estimate(size) for size in tensor.shape] for tensor in tensors]
    return sum(math.prod(size or 1 for size in each) for each in sizes)


def _connected(region: list[gs.Node]) -> list[list[gs.Node]]:
    """The region in parts that share no tensor, in order."""
    part_of: dict[int, list[gs.Node]] = {}  # by node
    inside = {id(node): node for node in region}
    for node in region:
        part = [node]
        near = [n for t in _carried_inputs(node) for n in (*t.inputs, *t.outputs) if id(n) in inside]
        for other in (part_of[id(n)] for n in near if id(n) in part_of):
            if other[0] is not part[0]:
                part = other + part
        for each in part:
            part_of[id(each)] = part
    order = {id(node): at for at, node in enumerate(region)}
    parts = {id(part): part for part in part_of.values()}
    return [sorted(part, key=lambda n: order[id(n)]) for part in parts.values()]


def _why_not_worth(part: list[gs.Node], resizes: list[gs.Node], protected_ids: set[int]) -> str | None:
    """Why carrying this part in the other order costs more than its Resizes gain, None if it does not."""
    leaving = [node.outputs[0] for node in part if _leaves(node.outputs[0], part, protected_ids)]
    back, gained = _elements(leaving), _elements([node.outputs[0] for node in resizes])
    names = ", ".join(f"'{t.name}'" for t in leaving)
    return None if gained >= _WORTH * back else f"turning {names} back costs more than resizing in this order saves"


def _leaves(tensor: gs.Tensor, part: list[gs.Node], protected_ids: set[int]) -> bool:
    """Whether something outside the part reads more of a map than its shape."""
    inside = {id(node) for node in part}
    outside = [n for n in tensor.outputs if id(n) not in inside and not _reads_shape(n, protected_ids)]
    return id(tensor) in protected_ids or bool(outside)


def _reads_shape(node: gs.Node, protected_ids: set[int]) -> bool:
    """Whether a node can read the shape of the turned map in place of this one's."""
    return node.op == "Shape" and not node.domain and id(node.outputs[0]) not in protected_ids


class _Turn:
    """Rewrites one part. turned: channels-last maps by the id of the map."""

    def __init__(self, graph: gs.Graph, names: Names, protected_ids: set[int]) -> None:
        self.graph, self.names, self.protected_ids = graph, names, protected_ids
        self.turned: dict[int, gs.Tensor] = {}

    def run(self, part: list[gs.Node]) -> None:
        """Replace every node."""
        back = {id(node) for node in part if _leaves(node.outputs[0], part, self.protected_ids)}
        inner = {id(node.outputs[0]) for node in part}
        for t in [t for node in part for t in _carried_inputs(node)]:
            if id(t) not in inner and id(t) not in self.turned:
                self.turned[id(t)] = self._entry(t)
        for node in part:
            b, y = Builder(self.graph, node, self.names), node.outputs[0]
            made = self._build(b)
            made.dtype, made.shape = y.dtype, [y.shape[axis] for axis in _LAST]
            self.turned[id(y)] = made
            self._shapes(b, y, made)
            if id(node) in back:
                b.replace(b.transpose("map", made, _FIRST))
            else:
                insert(self.graph, node, b.nodes)
        gone = {id(node) for node in part}
        for node in part:
            node.inputs.clear()
            node.outputs.clear()
        self.graph.nodes = [node for node in self.graph.nodes if id(node) not in gone]

    def _entry(self, x: gs.Tensor) -> gs.Tensor:
        """The channels-last map of one that is made from tokens."""
        producer = x.inputs[0]
        if producer.op == "Transpose":
            return producer.inputs[0]
        b, tokens = Builder(self.graph, producer, self.names), producer.inputs[0].inputs[0].inputs[0]
        sizes = self._in_order(b, "channels_last_sizes", producer.inputs[1])
        made = b.op("Reshape", "channels_last", tokens, sizes, **producer.attrs)
        made.dtype, made.shape = x.dtype, [x.shape[axis] for axis in _LAST]
        insert(self.graph, producer, b.nodes)
        return made

    def _in_order(self, b: Builder, role: str, sizes: gs.Tensor) -> gs.Tensor:
        """Four sizes in channels-last order."""
        value = small_constant(sizes)
        if value is not None:
            return b.const(role, value.reshape(-1)[_LAST])
        return b.op("Gather", role, sizes, b.const(f"{role}_order", _LAST), axis=0)

    def _build(self, b: Builder) -> gs.Tensor:
        node = b.node
        kinds: dict[str, Callable[[Builder], gs.Tensor]] = {"Conv": self._conv, "Resize": self._resize}
        if node.op in kinds:
            return kinds[node.op](b)
        attrs = {**node.attrs, **({"axis": 3} if node.op == "Concat" else {})}
        given = [self._operand(b, at, t) if node.op in BINARY else t for at, t in enumerate(node.inputs)]
        return b.op(node.op, "channels_last", *(self.turned.get(id(t), t) for t in given), **attrs)

    def _operand(self, b: Builder, at: int, t: gs.Tensor) -> gs.Tensor:
        """An operand of an elementwise node; a constant in the order of the map."""
        if not isinstance(t, gs.Constant) or t.values.size == 1:
            return t
        return b.const(f"operand{at}", permuted(t.values, _FIRST))

    def _conv(self, b: Builder) -> gs.Tensor:
        x, weights, bias = b.node.inputs[0], b.node.inputs[1].values, optional(b.node, 2)
        turned = np.ascontiguousarray(weights[:, :, 0, 0].T)
        made = b.op(
            "MatMul", "product" if bias is not None else "channels_last", self.turned[id(x)], b.const("weights", turned)
        )
        return made if bias is None else b.op("Add", "channels_last", made, bias)

    def _resize(self, b: Builder) -> gs.Tensor:
        node = b.node
        attrs, scales, sizes = dict(node.attrs), optional(node, 2), optional(node, 3)
        if "axes" in attrs:
            attrs["axes"] = [_LAST.index(axis % 4) for axis in attrs["axes"]]
        else:
            scales = None if scales is None or not scales.shape[0] else self._in_order(b, "scales", scales)
            sizes = None if sizes is None else self._in_order(b, "sizes", sizes)
        given = [None, scales, sizes] if sizes is not None else [None, scales]
        return b.op("Resize", "channels_last", self.turned[id(node.inputs[0])], *given, **attrs)

    def _shapes(self, b: Builder, y: gs.Tensor, made: gs.Tensor) -> None:
        """What reads the shape of a map reads that of the turned one."""
        readers = [n for n in y.outputs if _reads_shape(n, self.protected_ids)]
        for number, node in enumerate(readers):
            start, end = node.attrs.get("start", 0), node.attrs.get("end", 4)
            sizes = b.op("Shape", f"sizes{number}", made)
            order = b.const(f"order{number}", _FIRST[start:end])
            redirect(node.outputs[0], b.op("Gather", f"shape{number}", sizes, order, axis=0))
