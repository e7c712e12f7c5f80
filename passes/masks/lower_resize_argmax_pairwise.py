"""Lower segc.ResizeArgMax to pairwise comparisons of class planes, for compilers that fuse elementwise ops.

p0, p1, ... = Split(Resize(x, size)) into one plane per class
best = p0, index = 0; then for each class c:  index = Where(p_c > best, c, index), best = Max(best, p_c)
segc.ResizeArgMax(x, size)  ->  index

Equal to ArgMax: a later class wins only if it is strictly larger, so the first of equals stays. NaN is the exception:
it never wins here and always wins in ArgMax. A compiler such as TensorRT fuses Resize and comparisons into one kernel
and never stores the resized logits, which ArgMax needs in memory as a whole (304 MiB for 150 classes at 512x1024). One
kernel holds at most `whole` classes; more are resized in groups of `group`, whose winners are compared last.

Must not fire: more than `classes` classes (each costs three nodes and build time); an unknown number of classes; opsets
without Resize by axes if sizes are dynamic; resized logits of fewer bytes than `scratch`, which fit a cache. Those
become Resize and ArgMax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, typed
from segc.passes.support.edit import ints


@dataclass(frozen=True)
class LowerResizeArgMaxPairwise(Pass):
    """Lower segc.ResizeArgMax to comparisons of planes where that is cheaper than ArgMax.

    whole: the most classes that one kernel compares. group: classes resized at once if there are more. classes: the
    most classes that are compared in pairs. scratch: the fewest bytes of resized logits for which comparing pays.
    """

    name: ClassVar[str] = "lower-resize-argmax-pairwise"
    algebra: ClassVar[str] = "segc.ResizeArgMax(x, size)  ->  Greater, Where and Max over the planes of Resize(x, size)"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "argmax folded", "thresholds folded"}
    ensures: ClassVar[frozenset[str]] = frozenset({"no segc.ResizeArgMax"})
    invalidates: ClassVar[frozenset[str]] = frozenset(
        {"argmax folded", "no ArgMax", "identities removed", "lowerings merged"}
    )

    whole: int = 28
    group: int = 25
    classes: int = 256
    scratch: int = 4 * 2**20

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each op in place; where comparing does not pay, lower it to Resize and ArgMax."""
        sites = [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, dialect.RESIZE_ARGMAX)]
        result = rewrite(graph, sites, self._build, PassResult())
        if result.skips:
            result.changes += LowerResizeArgMax().run(graph).changes
        return result

    def _build(self, b: Builder) -> gs.Tensor:
        x, size = b.node.inputs
        typed(x)
        self._require_gain(b, x, size)
        count = int(x.shape[1])
        step = count if count <= self.whole else self.group
        sizes = [min(step, count - at) for at in range(0, count, step)]
        groups = [x] if len(sizes) == 1 else b.split(
            "Split", [f"logits{k}" for k in range(len(sizes))], x, b.const("groups", sizes), axis=1
        )  # fmt: skip
        winner: tuple[gs.Tensor, gs.Tensor] | None = None
        for k, group in enumerate(groups):
            group_best = _best_of_group(b, k, _resized_group(b, k, group, size), k * step)
            winner = group_best if winner is None else _larger_of(b, f"group{k}", group_best, winner)
        assert winner is not None
        return b.cast("index", winner[1], np.int64)

    def _require_gain(self, b: Builder, x: gs.Tensor, size: gs.Tensor) -> None:
        """Raise RewriteNotApplicable if ArgMax is the better choice."""
        count = x.shape[1]
        if not isinstance(count, int):
            raise RewriteNotApplicable(f"the number of classes is unknown ({count})")
        if not 1 < count <= self.classes:
            raise RewriteNotApplicable(f"there are {count} classes; at most {self.classes} are compared in pairs")
        known = ints(size)
        if known is None or ir.static_shape(x) is None:
            if b.opset < 18:
                raise RewriteNotApplicable(f"opset {b.opset} has no Resize along axes of computed size")
            return
        large = int(x.shape[0]) * count * known[0] * known[1] * np.dtype(x.dtype).itemsize
        if large < self.scratch:
            raise RewriteNotApplicable(
                f"{large} bytes of resized logits fit a cache; comparing pays from {self.scratch} bytes on"
            )


def _resized_group(b: Builder, k: int, x: gs.Tensor, size: gs.Tensor) -> gs.Tensor:
    """A group of classes, resized."""
    attrs = {"mode": "linear", "coordinate_transformation_mode": b.node.attrs["coordinate_transformation_mode"]}
    size_values, x_shape = ints(size), ir.static_shape(x)
    if size_values is not None and x_shape is not None:
        return b.op("Resize", f"large{k}", x, None, None, b.const(f"sizes{k}", [*x_shape[:2], *size_values]), **attrs)
    resized = b.op("Resize", f"large{k}", x, None, None, size, axes=[2, 3], **attrs)
    resized.shape = [*x.shape[:2], *(size_values if size_values is not None else (None, None))]
    return resized


def _best_of_group(b: Builder, k: int, large: gs.Tensor, first: int) -> tuple[gs.Tensor, gs.Tensor]:
    """The largest value and its class, float and int32 (N, 1, H, W), among the planes of a group."""
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
        best = one if best is None else _larger_of(b, str(c), one, best)
    assert best is not None
    return best


def _larger_of(
    b: Builder, role: str, new: tuple[gs.Tensor, gs.Tensor], old: tuple[gs.Tensor, gs.Tensor]
) -> tuple[gs.Tensor, gs.Tensor]:
    """`new` where it is strictly larger, else `old`."""
    larger = b.op("Greater", f"larger{role}", new[0], old[0])
    index = b.op("Where", f"index{role}", larger, new[1], old[1])
    return b.op("Max", f"best{role}", old[0], new[0]), index
