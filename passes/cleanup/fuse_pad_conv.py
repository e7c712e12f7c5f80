"""Fuse a Pad into the Conv or pool that reads it.

    Conv(Pad(x, p, 0), pads = q)                     ->  Conv(x, pads = p + q)
    AveragePool(Pad(x, p, 0), no padding of its own) ->  AveragePool(x, pads = p, count_include_pad = 1)
    AveragePool(Pad(x, p, 0), count_include_pad = 1) ->  AveragePool(x, pads = p + q, count_include_pad = 1)
    MaxPool(Pad(x, p, -inf), pads = q)               ->  MaxPool(x, pads = p + q)

Exact: Conv and AveragePool pad with 0, MaxPool with a value that never wins.

Must not fire: other modes and values (0 before a MaxPool wins over negative cells); pads of the batch or channel axis;
negative pads; auto_pad SAME; pools with ceil_mode or dilations, whose last window may lie entirely in the padding; pads
as large as the kernel of a pool, which runtimes refuse; an AveragePool that pads without counting the padding.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import protected, prune, rank
from segc.passes.support.pads import is_pad, pad_mode, pad_value, pads_of

USERS = frozenset({"Conv", "AveragePool", "MaxPool"})


class FusePadConv(Pass):
    """Fuse a Pad into the Conv, AveragePool or MaxPool after it. Cost: one walk over the nodes."""

    name = "fuse-pad-conv"
    algebra = "Conv(Pad(x, p), pads = q)  ->  Conv(x, pads = p + q), and so for pools"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed", "pads merged"}
    invalidates = REVEALED | {"convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Fuse the Pad into each user; it is removed with the last one."""
        result, protected_ids = PassResult(), protected(graph)
        for node in [n for n in graph.nodes if n.op in USERS and n.domain is None]:
            x = node.inputs[0]
            pad = x.inputs[0] if x.inputs else None
            if pad is None or not is_pad(pad):
                continue
            if why := _why_pad_stays(pad, protected_ids) or why_not(node, pad):
                result.skip(node, why)
                continue
            _fuse(node, pad)
            prune(graph, pad, protected_ids)
            result.changes += 1
        return result


def _why_pad_stays(pad: gs.Node, protected_ids: set[int]) -> str | None:
    """Why the Pad would stay in the graph, None if it can be removed."""
    padded = pad.outputs[0]
    if id(padded) in protected_ids:
        return f"'{padded.name}' is an output"
    if all(u.op in USERS and u.domain is None and why_not(u, pad) is None for u in padded.outputs):
        return None
    return f"'{padded.name}' is also used elsewhere" if len(padded.outputs) > 1 else None


def why_not(node: gs.Node, pad: gs.Node) -> str | None:
    """Why `node` cannot take over the padding of `pad`, None if it can."""
    dims, padding = rank(pad.inputs[0]), pads_of(pad)
    if pad_mode(pad) != "constant":
        return f"the mode of the Pad is {pad_mode(pad)}"
    if padding is None or dims is None:
        return "the pads are not constant"
    if min(padding) < 0:
        return "a negative pad crops"
    if any(padding[axis] or padding[axis + dims] for axis in (0, 1)):
        return "the Pad pads the batch or channel axis"
    fill_value = -math.inf if node.op == "MaxPool" else 0.0
    if pad_value(pad) != fill_value:
        return f"the Pad fills in {pad_value(pad)}, {node.op} would fill in {fill_value:g}"
    if _text(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        return "auto_pad determines the pads"
    return None if node.op == "Conv" else _why_pool_cannot(node, _spatial(padding, dims))


def _why_pool_cannot(node: gs.Node, padding: list[int]) -> str | None:
    if node.attrs.get("ceil_mode", 0) or any(d != 1 for d in node.attrs.get("dilations", [1])):
        return "the pool has ceil_mode or dilations"
    if len(node.outputs) > 1:
        return "the pool also returns indices"
    own_pads, kernel = list(node.attrs.get("pads", [0] * len(padding))), list(node.attrs["kernel_shape"])
    if any(a + b >= k for a, b, k in zip(padding, own_pads, kernel * 2, strict=True)):
        return "the pads are as large as the kernel"
    if node.op == "AveragePool" and any(own_pads) and not node.attrs.get("count_include_pad", 0):
        return "the pool pads without counting the padding"
    return None


def _fuse(node: gs.Node, pad: gs.Node) -> None:
    padding = _spatial(pads_of(pad) or [], rank(pad.inputs[0]) or 0)
    own_pads = list(node.attrs.get("pads", [0] * len(padding)))
    node.attrs["pads"] = [a + b for a, b in zip(padding, own_pads, strict=True)]
    node.attrs.pop("auto_pad", None)
    if node.op == "AveragePool":
        node.attrs["count_include_pad"] = 1
    node.inputs = [pad.inputs[0], *node.inputs[1:]]


def _spatial(pads_: list[int], dims: int) -> list[int]:
    return pads_[2:dims] + pads_[dims + 2 :]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
