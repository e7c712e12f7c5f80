"""Let a Conv or a pool do the padding in front of it.

    Conv(Pad(x, p, 0), pads = q)                     ->  Conv(x, pads = p + q)
    AveragePool(Pad(x, p, 0), no padding of its own) ->  AveragePool(x, pads = p, count_include_pad = 1)
    AveragePool(Pad(x, p, 0), count_include_pad = 1) ->  AveragePool(x, pads = p + q, count_include_pad = 1)
    MaxPool(Pad(x, p, -inf), pads = q)               ->  MaxPool(x, pads = p + q)

Exact: Conv and AveragePool pad with 0, MaxPool with what never wins.

Must not fire: other modes and values (0 in front of MaxPool wins over negative cells); pads of the batch or channel
axis, negative pads; auto_pad SAME; pools with ceil_mode or dilations, whose last window may lie in the padding alone;
pads as large as the kernel of a pool, which runtimes refuse; an AveragePool that pads without counting.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.merge_pads import is_pad, mode, pads, value
from segc.passes.support.edit import protected, prune, rank

USERS = frozenset({"Conv", "AveragePool", "MaxPool"})


class FusePadConv(Pass):
    """Fuse a Pad into the Conv, AveragePool or MaxPool behind it. Cost: one walk over the nodes."""

    name = "fuse-pad-conv"
    algebra = "Conv(Pad(x, p), pads = q)  ->  Conv(x, pads = p + q), and so for pools"

    def run(self, graph: gs.Graph) -> PassResult:
        """Fuse into each user; the Pad goes when no user is left."""
        result, keep = PassResult(), protected(graph)
        for node in [n for n in graph.nodes if n.op in USERS and n.domain is None]:
            x = node.inputs[0]
            pad = x.inputs[0] if x.inputs else None
            if pad is None or not is_pad(pad):
                continue
            if why := _others(pad, keep) or why_not(node, pad):
                result.skip(node, why)
                continue
            _fuse(node, pad)
            prune(graph, pad, keep)
            result.changes += 1
        return result


def _others(pad: gs.Node, keep: set[int]) -> str | None:
    """Why the Pad would stay."""
    padded = pad.outputs[0]
    if id(padded) in keep:
        return f"'{padded.name}' is an output"
    if all(u.op in USERS and u.domain is None and why_not(u, pad) is None for u in padded.outputs):
        return None
    return f"'{padded.name}' is also used elsewhere" if len(padded.outputs) > 1 else None


def why_not(node: gs.Node, pad: gs.Node) -> str | None:
    """Why `node` cannot do what `pad` does; None when it can."""
    dims, added = rank(pad.inputs[0]), pads(pad)
    if mode(pad) != "constant":
        return f"Pad is {mode(pad)}"
    if added is None or dims is None:
        return "pads that are not constant"
    if min(added) < 0:
        return "a negative pad cuts"
    if any(added[axis] or added[axis + dims] for axis in (0, 1)):
        return "Pad of the batch or channel axis"
    wanted = -math.inf if node.op == "MaxPool" else 0.0
    if value(pad) != wanted:
        return f"Pad fills in {value(pad)}, {node.op} would {wanted:g}"
    if _text(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        return "auto_pad decides the pads"
    return None if node.op == "Conv" else _pool(node, _spatial(added, dims))


def _pool(node: gs.Node, added: list[int]) -> str | None:
    if node.attrs.get("ceil_mode", 0) or any(d != 1 for d in node.attrs.get("dilations", [1])):
        return "a pool with ceil_mode or dilations"
    if len(node.outputs) > 1:
        return "the pool also returns indices"
    own, kernel = list(node.attrs.get("pads", [0] * len(added))), list(node.attrs["kernel_shape"])
    if any(a + b >= k for a, b, k in zip(added, own, kernel * 2, strict=True)):
        return "pads as large as the kernel"
    if node.op == "AveragePool" and any(own) and not node.attrs.get("count_include_pad", 0):
        return "the pool pads without counting"
    return None


def _fuse(node: gs.Node, pad: gs.Node) -> None:
    added = _spatial(pads(pad) or [], rank(pad.inputs[0]) or 0)
    own = list(node.attrs.get("pads", [0] * len(added)))
    node.attrs["pads"] = [a + b for a, b in zip(added, own, strict=True)]
    node.attrs.pop("auto_pad", None)
    if node.op == "AveragePool":
        node.attrs["count_include_pad"] = 1
    node.inputs = [pad.inputs[0], *node.inputs[1:]]


def _spatial(whole: list[int], dims: int) -> list[int]:
    return whole[2:dims] + whole[dims + 2 :]


def _text(given: Any) -> str:
    return given.decode() if isinstance(given, bytes) else str(given)
