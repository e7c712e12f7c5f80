"""Expand Attention (opset 23) into two matrix products and a Softmax.

    Attention(q, k, v, mask)  ->  Softmax(q * scale @ transpose(k) + mask) @ v

with scale = 1 / sqrt(size of a head) unless the node gives one. Inputs of three axes are split into heads first and
merged after. A constant boolean mask becomes a constant of 0 and -inf, and so do is_causal and a window of keys. The
scale is applied once to q, not as its square root to both factors, which rounds differently in the last bits.

Must not fire: past or present keys and values, or the scores as an output; fewer heads of keys than of queries;
softcap, or a softmax_precision; a boolean mask that is computed at run time or hides all of a row (Attention returns
zeros there, Softmax NaN); where a size that becomes a constant is not static. A float mask is assumed to hide no whole
row.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, only_output, rewrite, standard, typed
from segc.passes.support.edit import optional


class LegalizeAttention(Pass):
    """Expand Attention for opsets below 23 and for runtimes without it."""

    name = "legalize-attention"
    algebra = "Attention(q, k, v, mask)  ->  Softmax(q * scale @ transpose(k) + mask) @ v"
    ensures = frozenset({"no Attention"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "Attention"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Attention. Raises RewriteNotApplicable."""
    node = b.node
    _require_plain(node)
    q, k, v = (
        _split_heads(b, role, tensor, node.attrs.get(f"{'q' if role == 'q' else 'kv'}_num_heads"))
        for role, tensor in zip("qkv", node.inputs[:3], strict=True)
    )
    if q.shape[1] != k.shape[1] or not isinstance(q.shape[1], int):
        raise RewriteNotApplicable(f"it has {q.shape[1]} heads of queries and {k.shape[1]} of keys")
    if (scale := node.attrs.get("scale")) is None:
        scale = 1 / math.sqrt(_static(q, 3))
    scaled = b.op("Mul", "scaled", q, b.const("scale", scale, q.dtype))
    scores: gs.Tensor = b.op("MatMul", "scores", scaled, b.transpose("turned", k, [0, 1, 3, 2]))
    for role, mask in _masks(b, q, k):
        scores = b.op("Add", f"{role}_scores", scores, mask)
    attended = b.op("MatMul", "mixed", b.op("Softmax", "weights", scores, axis=-1), v)
    if len(node.inputs[0].shape) == 4:
        return attended
    rows = b.transpose("rows", attended, [0, 2, 1, 3])
    return b.reshape("joined", rows, [(node.inputs[0], 0), (node.inputs[0], 1), _static(v, 1) * _static(v, 3)])


def _require_plain(node: gs.Node) -> None:
    """Raise RewriteNotApplicable for variants that this pass does not expand."""
    typed(*node.inputs[:3])
    only_output(node)
    if any(optional(node, at) is not None for at in (4, 5, 6)):
        raise RewriteNotApplicable("it has past keys and values, or their length")
    if node.attrs.get("softcap", 0):
        raise RewriteNotApplicable(f"its softcap is {node.attrs['softcap']:g}")
    if "softmax_precision" in node.attrs:
        raise RewriteNotApplicable("it has a softmax_precision")
    if {len(t.shape) for t in node.inputs[:3]} not in ({3}, {4}):
        raise RewriteNotApplicable(f"its inputs have {' and '.join(str(len(t.shape)) for t in node.inputs[:3])} axes")


def _static(tensor: gs.Tensor, axis: int) -> int:
    size = tensor.shape[axis]
    if not isinstance(size, int):
        raise RewriteNotApplicable(f"axis {axis} of '{tensor.name}' is not static")
    return size


def _split_heads(b: Builder, role: str, x: gs.Tensor, heads: int | None) -> gs.Tensor:
    """`x` as [N, heads, L, D]."""
    if len(x.shape) == 4:
        return x
    if heads is None:
        raise RewriteNotApplicable("its number of heads is unknown")
    split = b.reshape(f"{role}_heads", x, [(x, 0), (x, 1), heads, _static(x, 2) // heads])
    return b.transpose(f"{role}_first", split, [0, 2, 1, 3])


def _masks(b: Builder, q: gs.Tensor, k: gs.Tensor) -> list[tuple[str, gs.Tensor]]:
    """The masks to add to the scores, each with its role in tensor names."""
    mask = optional(b.node, 3)
    allowed = np.ones((1, 1), np.bool_)
    attended: list[tuple[str, gs.Tensor]] = []
    if mask is not None and mask.dtype == np.bool_:
        if not isinstance(mask, gs.Constant):
            raise RewriteNotApplicable(f"the boolean mask '{mask.name}' is computed at run time")
        allowed = mask.values
    elif mask is not None:
        attended.append(("masked", mask))
    if b.node.attrs.get("is_causal", 0):
        allowed = allowed & np.tri(_static(q, 2), _static(k, 2), dtype=np.bool_)
    allowed = allowed & _window(b.node, q, k)
    if not allowed.any(axis=-1).all():
        raise RewriteNotApplicable("its mask hides all of a row")
    if not allowed.all():
        attended.append(("allowed", b.const("allowed", np.where(allowed, 0, -np.inf), q.dtype)))
    return attended


def _window(node: gs.Node, q: gs.Tensor, k: gs.Tensor) -> np.ndarray:
    """Which keys the attention's window shows to each query: bool (queries, keys), or (1, 1) without a window."""
    left, right = (node.attrs.get(f"{side}_window_size", -1) for side in ("left", "right"))
    if left < 0 and right < 0:
        return np.ones((1, 1), np.bool_)
    ahead = np.arange(_static(k, 2)) - np.arange(_static(q, 2))[:, None]
    shown: np.ndarray = ((left < 0) | (ahead >= -left)) & ((right < 0) | (ahead <= right))
    return shown
