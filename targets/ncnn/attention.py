"""Scaled dot-product attention in one layer: ncnn's SDPA keeps the products of queries and keys in its cache.

    MatMul(Softmax(MatMul(q, k^T)), v)  ->  SDPA(q, k, v), scale 1        q, k, v: heads x tokens x channels

The keys come transposed; the transpose is undone, or was one of a row of tokens and heads, then heads move instead:

    k^T = Reshape(Permute(x, tokens x all channels), heads x channels x tokens)  ->  k = Permute(Reshape(x))

Must not fire: where somebody else reads the scores or the weights, for other axes of the Softmax, and where heads
broadcast.
"""

from __future__ import annotations

from segc.targets.ncnn.net import Blob, Layer, Net, Shape
from segc.targets.ncnn.readers import Readers

LAST_TWO, FIRST_TWO, BOTH = 1, 2, 1  # order_type of (0, 2, 1) and (1, 0, 2) of three axes, and of (1, 0) of two


def fuse_attention(net: Net) -> None:
    """Replace each attention by an SDPA layer where it stands."""
    readers = Readers(net)
    gone: set[int] = set()
    instead: dict[int, list[Layer]] = {}
    for softmax in [layer for layer in net.layers if layer.type == "Softmax"]:
        found = matched(softmax, readers)
        if found is None:
            continue
        scores, weighted = found
        q, keys, v = scores.inputs[0], scores.inputs[1], weighted.inputs[1]
        steps, k = untransposed(keys, readers)
        sdpa = Layer("SDPA", weighted.name, [q, k, v], weighted.outputs, {"scale": 1.0}, node=weighted.node)
        gone |= {id(scores), id(softmax), id(weighted)}
        instead[id(weighted)] = [*steps, sdpa]
    layers: list[Layer] = []
    for layer in net.layers:
        layers += instead.get(id(layer), [] if id(layer) in gone else [layer])
    net.layers = layers


def matched(softmax: Layer, readers: Readers) -> tuple[Layer, Layer] | None:
    """The products before and after the Softmax of an attention."""
    weights = softmax.outputs[0]
    scores, weighted = readers.maker(softmax.inputs[0]), readers.only_user(weights)
    if weights.rank != 3 or softmax.params.get("axis") != 2 or scores is None or weighted is None:
        return None
    if scores.type != "MatMul" or weighted.type != "MatMul" or not readers.alone(scores.outputs[0]):
        return None
    if "trans_b" in scores.params or "trans_b" in weighted.params or weighted.inputs[0] is not weights:
        return None
    blobs = [*scores.inputs, *weighted.inputs]
    heads = {blob.shape[0] for blob in blobs}
    return (scores, weighted) if len(heads) == 1 and all(blob.rank == 3 for blob in blobs) else None


def untransposed(keys: Blob, readers: Readers) -> tuple[list[Layer], Blob]:
    """Layers that make heads x tokens x channels of heads x channels x tokens, and their result."""
    heads, channels, tokens = keys.shape
    reshape = readers.maker(keys)
    turn = readers.maker(reshape.inputs[0]) if reshape is not None and reshape.type == "Reshape" else None
    if turn is not None and turn.type == "Permute" and turn.inputs[0].rank == 2 and turn.params["order_type"] == BOTH:
        assert reshape is not None
        rows: Shape = (tokens, heads, channels)
        if None not in rows:
            sizes = {"c": tokens, "h": heads, "w": channels}
            split = _layer("Reshape", f"{keys.name}_rows", turn.inputs[0], rows, sizes, reshape.node)
            moved = _layer("Permute", f"{keys.name}_keys", split.outputs[0], (heads, tokens, channels),
                           {"order_type": FIRST_TWO}, reshape.node)  # fmt: skip
            return [split, moved], moved.outputs[0]
    back = _layer("Permute", f"{keys.name}_keys", keys, (heads, tokens, channels), {"order_type": LAST_TWO}, "")
    return [back], back.outputs[0]


def _layer(type_: str, name: str, x: Blob, shape: Shape, params: dict[str, int | None], node: str) -> Layer:
    known = {key: value for key, value in params.items() if value is not None}
    return Layer(type_, name, [x], [Blob(name, shape)], dict(known), node=node)
