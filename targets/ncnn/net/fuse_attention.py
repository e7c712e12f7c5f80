"""Scaled dot-product attention in one layer: ncnn's SDPA keeps the products of queries and keys in its cache.

    MatMul(Softmax(MatMul(q, k^T)), v)  ->  SDPA(q, k, v), scale 1        q, k, v: heads x tokens x channels

A factor between the first MatMul and the Softmax is SDPA's scale. The keys come transposed; the transpose is undone, or
was one of a row of tokens and heads, then heads move instead:

    k^T = Reshape(Permute(x, tokens x all channels), heads x channels x tokens)  ->  k = Permute(Reshape(x))

Without heads (tokens x channels) the queries are shared among up to 8 of them, which all read the same keys and values:
some builds of ncnn give each head one thread.

Must not fire: where somebody else reads the scores or the weights, for other axes of the Softmax, where heads
broadcast, and for a scale of 0, which SDPA takes for its default.
"""

from __future__ import annotations

from dataclasses import dataclass

from segc.targets.ncnn.lower.lowering import same_sizes, sides
from segc.targets.ncnn.net.net import Blob, Layer, Net, Param, Shape
from segc.targets.ncnn.net.params import BINARY
from segc.targets.ncnn.net.readers import Readers

LAST_TWO, FIRST_TWO, BOTH = 1, 2, 1  # order_type of (0, 2, 1) and (1, 0, 2) of three axes, and of (1, 0) of two
SHARES = (8, 4, 2)


@dataclass(frozen=True, eq=False)
class Attention:
    """The layers that SDPA takes the place of. between: the factor on the scores, if there is one."""

    scores: Layer
    between: Layer | None
    softmax: Layer
    weighted: Layer
    scale: float

    def gone(self) -> set[int]:
        """Their ids."""
        return {id(layer) for layer in (self.scores, self.between, self.softmax, self.weighted) if layer is not None}


def fuse_attention(net: Net) -> None:
    """Replace each attention by an SDPA layer where it stands."""
    readers = Readers(net)
    gone: set[int] = set()
    instead: dict[int, list[Layer]] = {}
    for softmax in [layer for layer in net.layers if layer.type == "Softmax"]:
        if (found := matched(softmax, readers)) is not None:
            gone |= found.gone()
            instead[id(found.weighted)] = spelled(found, readers)
    layers: list[Layer] = []
    for layer in net.layers:
        layers += instead.get(id(layer), [] if id(layer) in gone else [layer])
    net.layers = layers


def matched(softmax: Layer, readers: Readers) -> Attention | None:
    """The attention around a Softmax."""
    weights = softmax.outputs[0]
    weighted, scores = readers.only_user(weights), readers.maker(softmax.inputs[0])
    between, scale = None, 1.0
    if scores is not None and (factor := factor_of(scores)):
        between, scale, scores = scores, factor, readers.maker(scores.inputs[0])
    if weights.rank not in (2, 3) or softmax.params.get("axis") != weights.rank - 1:
        return None
    if scores is None or weighted is None or scores.type != "MatMul" or weighted.type != "MatMul":
        return None
    if not all(readers.alone(blob) for blob in (scores.outputs[0], softmax.inputs[0])):
        return None
    if "trans_b" in scores.params or "trans_b" in weighted.params or weighted.inputs[0] is not weights:
        return None
    blobs = [*scores.inputs, *weighted.inputs]
    if any(blob.rank != weights.rank for blob in blobs):
        return None
    if weights.rank == 3 and len({blob.shape[0] for blob in blobs}) != 1:
        return None
    return Attention(scores, between, softmax, weighted, scale)


def factor_of(layer: Layer) -> float:
    """The number that the layer multiplies by, 0 where it does something else."""
    if layer.type != "BinaryOp" or not layer.whole("with_scalar", 0):
        return 0.0
    value = layer.params["b"]
    assert isinstance(value, (int, float))
    if layer.params["op_type"] == BINARY["mul"]:
        return float(value)
    return 1 / value if layer.params["op_type"] == BINARY["div"] and value else 0.0


def spelled(found: Attention, readers: Readers) -> list[Layer]:
    """SDPA, with what brings its inputs and its output into shape."""
    (q, keys), v = found.scores.inputs, found.weighted.inputs[1]
    name, node, outputs = found.weighted.name, found.weighted.node, found.weighted.outputs
    params: dict[str, Param] = {"scale": found.scale}
    if keys.rank == 3:
        steps, k = untransposed(keys, readers)
        return [*steps, Layer("SDPA", name, [q, k, v], outputs, params, node=node)]
    steps, k = unturned(keys, readers)
    rows = q.shape[0]
    shares = next((s for s in SHARES if rows is not None and rows % s == 0), 1)
    part = None if rows is None else rows // shares
    shaped = [
        _reshape(f"{name}_sdpa_{role}", blob, shape, node)
        for role, blob, shape in (
            ("q", q, (shares, part, q.shape[1])), ("k", k, (1, *k.shape)), ("v", v, (1, *v.shape)),
        )
    ]  # fmt: skip
    heads = Blob(f"{name}_sdpa", (shares, part, v.shape[1]))
    sdpa = Layer("SDPA", heads.name, [layer.outputs[0] for layer in shaped], [heads], params, node=node)
    back = _reshape(name, heads, outputs[0].shape, node)
    back.outputs = outputs
    return [*steps, *shaped, sdpa, back]


def untransposed(keys: Blob, readers: Readers) -> tuple[list[Layer], Blob]:
    """Layers that make heads x tokens x channels of heads x channels x tokens, and their result."""
    heads, channels, tokens = keys.shape
    reshape = readers.maker(keys)
    turn = readers.maker(reshape.inputs[0]) if reshape is not None and reshape.type == "Reshape" else None
    if turn is not None and turn.type == "Permute" and turn.inputs[0].rank == 2 and turn.params["order_type"] == BOTH:
        assert reshape is not None
        rows: Shape = (tokens, heads, channels)
        if None not in rows:
            split = _reshape(f"{keys.name}_rows", turn.inputs[0], rows, reshape.node)
            moved = _layer("Permute", f"{keys.name}_keys", split.outputs[0], (heads, tokens, channels),
                           {"order_type": FIRST_TWO}, reshape.node)  # fmt: skip
            return [split, moved], moved.outputs[0]
    back = _layer("Permute", f"{keys.name}_keys", keys, (heads, tokens, channels), {"order_type": LAST_TWO}, "")
    return [back], back.outputs[0]


def unturned(keys: Blob, readers: Readers) -> tuple[list[Layer], Blob]:
    """The same for channels x tokens without heads."""
    turn = readers.maker(keys)
    if turn is not None and turn.type == "Permute":
        return [], turn.inputs[0]
    channels, tokens = keys.shape
    back = _layer("Permute", f"{keys.name}_keys", keys, (tokens, channels), {"order_type": BOTH}, "")
    return [back], back.outputs[0]


def _reshape(name: str, x: Blob, shape: Shape, node: str) -> Layer:
    params: dict[str, Param] = {"shape_expr": same_sizes(x.shape, shape)} if None in shape else sides(shape)
    return _layer("Reshape", name, x, shape, params, node)


def _layer(type_: str, name: str, x: Blob, shape: Shape, params: dict[str, Param], node: str) -> Layer:
    return Layer(type_, name, [x], [Blob(name, shape)], params, node=node)
