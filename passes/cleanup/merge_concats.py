"""Flatten nested Concats and merge adjacent slices that a Concat puts together again.

    Concat(a, Concat(b, c), d)               ->  Concat(a, b, c, d), along the same axis
    Concat(x[0:4], x[4:9])                   ->  x[0:9]: x itself if that is all of x, otherwise one Slice
    Concat(*Split(x))                        ->  x, if every part is there and in order

Exact: all of these ops only copy.

Must not fire: different axes; an inner Concat that is an output or used elsewhere; pieces that overlap, leave a gap or
come in another order (ShuffleNet concatenates swapped halves); a Slice with a step; unknown sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, forward, insert, ints, optional, protected, prune, rank
from segc.passes.support.slices import cuts_of, is_slice, positions


@dataclass
class Piece:
    """An input `tensor` of the Concat: cells [start, end) of `source` along the Concat's axis.

    end == 0 marks a tensor that is no part of another one: it is its own source.
    """

    tensor: gs.Tensor
    source: gs.Tensor
    start: int
    end: int


class MergeConcats(Pass):
    """Flatten nested Concats and merge adjacent pieces of one tensor. Cost: one walk over the Concats."""

    name = "merge-concats"
    algebra = "Concat(a, Concat(b, c))  ->  Concat(a, b, c);  Concat(x[0:4], x[4:9])  ->  x[0:9]"
    requires = Pass.requires | {PORTABLE, "identities removed"}
    invalidates = REVEALED | {"batchnorms fused", "convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph, so that inner Concats come first."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if _is_concat(n)]:
            result.changes += _flatten(graph, node, protected_ids, result)
            result.changes += _merge_pieces(graph, node, names, protected_ids, result)
        return result


def _is_concat(node: gs.Node) -> bool:
    return bool(node.op == "Concat" and node.domain is None and node.inputs and node.outputs)


def _axis(node: gs.Node) -> int | None:
    dims = next((len(t.shape) for t in [*node.outputs, *node.inputs] if t.shape is not None), None)
    return None if dims is None else int(node.attrs["axis"]) % dims


def _flatten(graph: gs.Graph, node: gs.Node, protected_ids: set[int], result: PassResult) -> int:
    parts: list[gs.Tensor] = []
    inner: list[gs.Node] = []
    for tensor in node.inputs:
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None or not _is_concat(producer) or _axis(producer) is None or _axis(producer) != _axis(node):
            parts.append(tensor)
        elif id(tensor) in protected_ids or len(tensor.outputs) != 1:
            result.skip(node, f"'{tensor.name}' is also used elsewhere")
            parts.append(tensor)
        else:
            parts.extend(producer.inputs)
            inner.append(producer)
    if not inner:
        return 0
    node.inputs = parts
    for producer in inner:
        prune(graph, producer, protected_ids)
    return len(inner)


def _merge_pieces(graph: gs.Graph, node: gs.Node, names: Names, protected_ids: set[int], result: PassResult) -> int:
    axis = _axis(node)
    if axis is None or not node.outputs:
        return 0
    parts: list[gs.Tensor] = []
    merged = 0
    for run in adjacent_runs([piece_of(tensor, axis) for tensor in node.inputs]):
        merged_tensor = _merged_piece(graph, node, run, axis, names, protected_ids, result)
        parts.extend([p.tensor for p in run] if merged_tensor is None else [merged_tensor])
        merged += merged_tensor is not None
    if not merged:
        return 0
    producers = [producer for tensor in node.inputs for producer in tensor.inputs]
    if len(parts) == 1 and forward(graph, node.outputs[0], parts[0], protected_ids) is None:
        node.inputs.clear()
        node.outputs.clear()
        graph.nodes = [n for n in graph.nodes if n is not node]
    else:
        node.inputs = parts
    for producer in producers:
        prune(graph, producer, protected_ids)
    return merged


def piece_of(tensor: gs.Tensor, axis: int) -> Piece:
    """The piece of another tensor that a Slice or a Split makes `tensor`; otherwise `tensor` stands for itself."""
    producer = tensor.inputs[0] if tensor.inputs else None
    itself = Piece(tensor, tensor, 0, 0)
    if (
        producer is None
        or producer.domain is not None
        or producer.op not in ("Slice", "Split")
        or rank(producer.inputs[0]) is None
    ):
        return itself
    size = producer.inputs[0].shape[axis] if axis < len(producer.inputs[0].shape) else None
    if not isinstance(size, (int, np.integer)):
        return itself
    bounds = _slice_bounds(producer, axis, int(size)) if is_slice(producer) else _split_bounds(producer, tensor, axis)
    return itself if bounds is None else Piece(tensor, producer.inputs[0], *bounds)


def _slice_bounds(node: gs.Node, axis: int, size: int) -> tuple[int, int] | None:
    cuts_by_axis = cuts_of(node)
    if cuts_by_axis is None or list(cuts_by_axis) != [axis] or cuts_by_axis[axis].step != 1:
        return None
    cells = positions(cuts_by_axis[axis], size)
    return (cells.start, cells.stop) if len(cells) else None


def _split_bounds(node: gs.Node, tensor: gs.Tensor, axis: int) -> tuple[int, int] | None:
    if int(node.attrs.get("axis", 0)) % (rank(node.inputs[0]) or 1) != axis:
        return None
    sizes = node.attrs.get("split", ints(optional(node, 1)))
    if sizes is None:
        shapes = [ir.static_shape(t) for t in node.outputs]
        sizes = [s[axis] if s is not None else 0 for s in shapes]
    if not all(sizes) or len(sizes) != len(node.outputs):
        return None
    index = next(i for i, t in enumerate(node.outputs) if t is tensor)
    return sum(sizes[:index]), sum(sizes[: index + 1])


def adjacent_runs(pieces: list[Piece]) -> list[list[Piece]]:
    """Group consecutive pieces that continue each other; a tensor that is no piece forms a group alone."""
    grouped: list[list[Piece]] = []
    for each in pieces:
        last = grouped[-1][-1] if grouped else None
        pieces_of_one = last is not None and last.end > 0 and each.end > 0 and last.source is each.source
        follows = pieces_of_one and last is not None and last.end == each.start
        if follows:
            grouped[-1].append(each)
        else:
            grouped.append([each])
    return grouped


def _merged_piece(
    graph: gs.Graph, node: gs.Node, run: list[Piece], axis: int, names: Names, protected_ids: set[int],
    result: PassResult,
) -> gs.Tensor | None:  # fmt: skip
    """One tensor for all pieces of a run, None if they cannot be merged."""
    if len(run) < 2:
        return None
    source, start, end = run[0].source, run[0].start, run[-1].end
    if start == 0 and end == source.shape[axis]:
        return source
    producers = [p.tensor.inputs[0] for p in run]
    alone = all(len(p.tensor.outputs) == 1 and id(p.tensor) not in protected_ids for p in run)
    if graph.opset < 10 or not alone or not all(is_slice(p) for p in producers):
        result.skip(node, f"'{run[0].tensor.name}' and its neighbour are also used elsewhere")
        return None
    y = node.outputs[0]
    shape = list(source.shape)
    shape[axis] = end - start
    part = names.variable(y, f"{start}_{end}", source.dtype, shape)
    values = (("starts", start), ("ends", end), ("axes", axis))
    edges = [names.constant(part, role, [value]) for role, value in values]
    insert(graph, node, [gs.Node("Slice", inputs=[source, *edges], outputs=[part])])
    return part
