"""Spell segc.ResizeArgMax as a chain of comparisons between planes, for compilers that fuse element-wise ops.

p0, p1, ... = Split(Resize(x, size)) into planes of one class
best = p0, index = 0; then for each class c:  index = Where(p_c > best, c, index), best = Max(best, p_c)
segc.ResizeArgMax(x, size)  ->  index

Exactly ArgMax: a later class wins only where it is strictly larger, so the first of equals stays. NaN is the
exception: it never wins here and always in ArgMax. A compiler such as TensorRT fuses Resize and chain into one kernel
and never stores the large logits, which ArgMax needs in memory as a whole (304 MiB for 150 classes at 512x1024). More
classes than `whole` are more than one kernel holds: they are resized in groups of `group`, whose winners are compared
last.

Must not fire: more than `classes` classes (each costs three nodes, and build time), an unknown number of them, opsets
without Resize by axes when sizes are dynamic, and large logits of fewer bytes than `scratch`, which fit a cache. Those
become Resize and ArgMax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.passes.base import Pass, PassResult
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.support.builder import Builder, Cannot, rewrite, typed
from segc.passes.support.edit import ints


@dataclass(frozen=True)
class LowerResizeArgMaxPairwise(Pass):
    """Rewrite segc.ResizeArgMax into comparisons of planes, where that is cheaper than ArgMax.

    whole: classes that one kernel compares. group: classes resized at once, above that. classes: beyond, ArgMax.
    scratch: bytes of large logits from which on planes are compared.
    """

    name: ClassVar[str] = "lower-resize-argmax-pairwise"
    algebra: ClassVar[str] = "segc.ResizeArgMax(x, size)  ->  Greater, Where and Max over the planes of Resize(x, size)"
    gives: ClassVar[frozenset[str]] = frozenset({"no segc.ResizeArgMax"})

    whole: int = 28
    group: int = 25
    classes: int = 256
    scratch: int = 4 * 2**20

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands; what is not worth planes becomes Resize and ArgMax."""
        sites = [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, "ResizeArgMax")]
        result = rewrite(graph, sites, self._spelled, PassResult())
        if result.skips:
            result.changes += LowerResizeArgMax().run(graph).changes
        return result

    def _spelled(self, b: Builder) -> gs.Tensor:
        x, size = b.node.inputs
        typed(x)
        self._require_worth(b, x, size)
        count = int(x.shape[1])
        step = count if count <= self.whole else self.group
        sizes = [min(step, count - at) for at in range(0, count, step)]
        groups = [x] if len(sizes) == 1 else b.split(
            "Split", [f"logits{k}" for k in range(len(sizes))], x, b.const("groups", sizes), axis=1
        )  # fmt: skip
        winner: tuple[gs.Tensor, gs.Tensor] | None = None
        for k, group in enumerate(groups):
            mine = _compared(b, k, _resized(b, k, group, size), k * step)
            winner = mine if winner is None else _better(b, f"group{k}", mine, winner)
        assert winner is not None
        return b.cast("index", winner[1], np.int64)

    def _require_worth(self, b: Builder, x: gs.Tensor, size: gs.Tensor) -> None:
        """Raise Cannot where ArgMax is the better choice."""
        count = x.shape[1]
        if not isinstance(count, int):
            raise Cannot(f"the number of classes is unknown ({count})")
        if not 1 < count <= self.classes:
            raise Cannot(f"{count} classes, at most {self.classes} planes are compared")
        known = ints(size)
        if known is None or ir.static_shape(x) is None:
            if b.opset < 18:
                raise Cannot(f"opset {b.opset} has no Resize of axes of computed size")
            return
        large = int(x.shape[0]) * count * known[0] * known[1] * np.dtype(x.dtype).itemsize
        if large < self.scratch:
            raise Cannot(f"{large} bytes of resized logits fit a cache, planes pay from {self.scratch} on")


def _resized(b: Builder, k: int, x: gs.Tensor, size: gs.Tensor) -> gs.Tensor:
    """One group at full size."""
    attrs = {"mode": "linear", "coordinate_transformation_mode": b.node.attrs["coordinate_transformation_mode"]}
    known, kept = ints(size), ir.static_shape(x)
    if known is not None and kept is not None:
        return b.op("Resize", f"large{k}", x, None, None, b.const(f"sizes{k}", [*kept[:2], *known]), **attrs)
    made = b.op("Resize", f"large{k}", x, None, None, size, axes=[2, 3], **attrs)
    made.shape = [*x.shape[:2], *(known if known is not None else (None, None))]
    return made


def _compared(b: Builder, k: int, large: gs.Tensor, first: int) -> tuple[gs.Tensor, gs.Tensor]:
    """Largest value and its class, float and int32 (N, 1, H, W), over the planes of a group."""
    count = int(large.shape[1])
    one: tuple[gs.Tensor, gs.Tensor]
    if count == 1:
        return large, b.const(f"class{first}", [[[[first]]]], np.int32)
    planes = b.split(
        "Split", [f"plane{first + c}" for c in range(count)], large, b.const(f"ones{k}", [1] * count), axis=1
    )
    for plane in planes:
        plane.shape = [large.shape[0], 1, *large.shape[2:]]
    best: tuple[gs.Tensor, gs.Tensor] | None = None
    for c, plane in enumerate(planes, first):
        one = plane, b.const(f"class{c}", [[[[c]]]], np.int32)
        best = one if best is None else _better(b, str(c), one, best)
    assert best is not None
    return best


def _better(
    b: Builder, role: str, new: tuple[gs.Tensor, gs.Tensor], old: tuple[gs.Tensor, gs.Tensor]
) -> tuple[gs.Tensor, gs.Tensor]:
    """`new` where it is strictly larger, else `old`."""
    larger = b.op("Greater", f"larger{role}", new[0], old[0])
    index = b.op("Where", f"index{role}", larger, new[1], old[1])
    return b.op("Max", f"best{role}", old[0], new[0]), index
