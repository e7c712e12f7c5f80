"""Fuse scaled dot-product attention into one SDPA layer, which keeps the products of queries and keys in its cache.

    MatMul(Softmax(MatMul(q, k^T)), v)  ->  SDPA(q, k, v), scale 1        q, k, v: heads x tokens x channels

A factor between the first MatMul and the Softmax becomes SDPA's scale. The keys arrive transposed. Their transpose is
undone, or replaced by a cheaper one of the heads where it is the Reshape of a transposed row of tokens:

    k^T = Reshape(Permute(x, tokens x all channels), heads x channels x tokens)  ->  k = Permute(Reshape(x))

Without heads (tokens x channels) the queries are divided among up to 8 heads that read the same keys and values: some
builds of ncnn give each head one thread.

Must not fire where another layer reads the scores or the weights, for other axes of the Softmax, where heads
broadcast, or for a scale of 0, which SDPA takes for its default.
"""

from __future__ import annotations

from dataclasses import dataclass

from segc.targets.ncnn.net.def_use import DefUse
from segc.targets.ncnn.net.net import Blob, Layer, Net, Param, Shape
from segc.targets.ncnn.net.params import BINARY
from segc.targets.ncnn.net.reshape_params import same_sizes, size_params

LAST_TWO, FIRST_TWO = 1, 2  # order_type of a Permute by (0, 2, 1) and by (1, 0, 2)
TRANSPOSE_2D = 1  # order_type of a Permute by (1, 0)
HEAD_COUNTS = (8, 4, 2)  # that queries without heads are divided among


@dataclass(frozen=True, eq=False)
class Attention:
    """The layers that SDPA replaces. scaling: the layer that multiplies the scores by `scale`, if there is one."""

    scores: Layer
    scaling: Layer | None
    softmax: Layer
    weighted: Layer
    scale: float

    def layer_ids(self) -> set[int]:
        """The ids of its layers."""
        return {id(layer) for layer in (self.scores, self.scaling, self.softmax, self.weighted) if layer is not None}


def fuse_attention(net: Net) -> None:
    """Replace each attention by SDPA layers, in place."""
    uses = DefUse(net)
    removed: set[int] = set()
    replacements: dict[int, list[Layer]] = {}
    for softmax in [layer for layer in net.layers if layer.type == "Softmax"]:
        if (attention := match_attention(softmax, uses)) is not None:
            removed |= attention.layer_ids()
            replacements[id(attention.weighted)] = sdpa_layers(attention, uses)
    layers: list[Layer] = []
    for layer in net.layers:
        layers += replacements.get(id(layer), [] if id(layer) in removed else [layer])
    net.layers = layers


def match_attention(softmax: Layer, uses: DefUse) -> Attention | None:
    """The attention around a Softmax; None where it is not one, or not one that SDPA computes."""
    weights = softmax.outputs[0]
    weighted, scores = uses.only_reader(weights), uses.producer(softmax.inputs[0])
    scaling, scale = None, 1.0
    if scores is not None and (factor := scale_factor(scores)):
        scaling, scale, scores = scores, factor, uses.producer(scores.inputs[0])
    if weights.rank not in (2, 3) or softmax.params.get("axis") != weights.rank - 1:
        return None
    if scores is None or weighted is None or scores.type != "MatMul" or weighted.type != "MatMul":
        return None
    if not all(uses.has_one_reader(blob) for blob in (scores.outputs[0], softmax.inputs[0])):
        return None
    if "trans_b" in scores.params or "trans_b" in weighted.params or weighted.inputs[0] is not weights:
        return None
    blobs = [*scores.inputs, *weighted.inputs]
    if any(blob.rank != weights.rank for blob in blobs):
        return None
    if weights.rank == 3 and len({blob.shape[0] for blob in blobs}) != 1:
        return None
    return Attention(scores, scaling, softmax, weighted, scale)


def scale_factor(layer: Layer) -> float:
    """The number that the layer multiplies by; 0 where it does something else."""
    if layer.type != "BinaryOp" or not layer.int_param("with_scalar", 0):
        return 0.0
    value = layer.params["b"]
    assert isinstance(value, (int, float))
    if layer.params["op_type"] == BINARY["mul"]:
        return float(value)
    return 1 / value if layer.params["op_type"] == BINARY["div"] and value else 0.0


def sdpa_layers(attention: Attention, uses: DefUse) -> list[Layer]:
    """The SDPA layer, and the layers that bring its inputs and its output into shape."""
    (q, keys), v = attention.scores.inputs, attention.weighted.inputs[1]
    name, node, outputs = attention.weighted.name, attention.weighted.node, attention.weighted.outputs
    params: dict[str, Param] = {"scale": attention.scale}
    if keys.rank == 3:
        key_layers, k = keys_with_heads(keys, uses)
        return [*key_layers, Layer("SDPA", name, [q, k, v], outputs, params, node=node)]
    key_layers, k = keys_without_heads(keys, uses)
    tokens = q.shape[0]
    heads = next((n for n in HEAD_COUNTS if tokens is not None and tokens % n == 0), 1)
    tokens_per_head = None if tokens is None else tokens // heads
    reshapes = [
        _reshape(f"{name}_sdpa_{role}", blob, shape, node)
        for role, blob, shape in (
            ("q", q, (heads, tokens_per_head, q.shape[1])), ("k", k, (1, *k.shape)), ("v", v, (1, *v.shape)),
        )
    ]  # fmt: skip
    result = Blob(f"{name}_sdpa", (heads, tokens_per_head, v.shape[1]))
    sdpa = Layer("SDPA", result.name, [layer.outputs[0] for layer in reshapes], [result], params, node=node)
    merge_heads = _reshape(name, result, outputs[0].shape, node)
    merge_heads.outputs = outputs
    return [*key_layers, *reshapes, sdpa, merge_heads]


def keys_with_heads(keys: Blob, uses: DefUse) -> tuple[list[Layer], Blob]:
    """Layers that transpose keys (heads, channels, tokens) to (heads, tokens, channels), and their result."""
    heads, channels, tokens = keys.shape
    reshape = uses.producer(keys)
    permute = uses.producer(reshape.inputs[0]) if reshape is not None and reshape.type == "Reshape" else None
    if (
        permute is not None
        and permute.type == "Permute"
        and permute.inputs[0].rank == 2
        and permute.params["order_type"] == TRANSPOSE_2D
    ):
        assert reshape is not None
        by_token: Shape = (tokens, heads, channels)
        if None not in by_token:
            split = _reshape(f"{keys.name}_rows", permute.inputs[0], by_token, reshape.node)
            moved = _layer("Permute", f"{keys.name}_keys", split.outputs[0], (heads, tokens, channels),
                           {"order_type": FIRST_TWO}, reshape.node)  # fmt: skip
            return [split, moved], moved.outputs[0]
    transposed = _layer("Permute", f"{keys.name}_keys", keys, (heads, tokens, channels), {"order_type": LAST_TWO}, "")
    return [transposed], transposed.outputs[0]


def keys_without_heads(keys: Blob, uses: DefUse) -> tuple[list[Layer], Blob]:
    """Layers that transpose keys (channels, tokens) to (tokens, channels), and their result."""
    permute = uses.producer(keys)
    if permute is not None and permute.type == "Permute":
        return [], permute.inputs[0]
    channels, tokens = keys.shape
    transposed = _layer("Permute", f"{keys.name}_keys", keys, (tokens, channels), {"order_type": TRANSPOSE_2D}, "")
    return [transposed], transposed.outputs[0]


def _reshape(name: str, x: Blob, shape: Shape, node: str) -> Layer:
    params: dict[str, Param] = {"shape_expr": same_sizes(x.shape, shape)} if None in shape else size_params(shape)
    return _layer("Reshape", name, x, shape, params, node)


def _layer(type_: str, name: str, x: Blob, shape: Shape, params: dict[str, Param], node: str) -> Layer:
    return Layer(type_, name, [x], [Blob(name, shape)], params, node=node)
