"""Reduce ConvTranspose to symmetric pads, without output_padding, output_shape, auto_pad and groups.

A ConvTranspose writes (i - 1) * stride + (k - 1) * dilation + 1 cells along a side and crops the pads at both ends;
output_padding crops that much less at the end. Zeros before the kernel shift its result to the right, zeros after it
extend the result, so with p cells to crop at the start and q = pad - output_padding at the end

    ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [0 ... 0, w], pads = (q, q))    with q - p zeros,  p < q
    ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [w, 0 ... 0], pads = (p, p))    with p - q zeros,  p > q

Groups become one kernel with blocks of zeros. Exact for finite inputs: only zeros are added. The kernel grows, for
groups by their number. A negative number of cells to crop also becomes zeros.

Must not fire: kernels that are not constant; a number of zeros that is not a multiple of the dilation; output_shape and
auto_pad SAME on sides that are not static.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, text, typed


class LegalizeConvTranspose(Pass):
    """Rewrite each ConvTranspose with groups, asymmetric pads or an explicit output size by zeros in the kernel."""

    name = "legalize-conv-transpose"
    algebra = "ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [w, 0 ... 0], pads = (p, p)), without groups"
    ensures = frozenset({"transposed convolutions legalized"})
    invalidates = FORM_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, "ConvTranspose") if needs_rewrite(n)], lower, PassResult())


def needs_rewrite(node: gs.Node) -> bool:
    """Whether the node has more than kernel, strides, dilations and symmetric pads."""
    pads = list(node.attrs.get("pads", ()))
    half = len(pads) // 2
    sized = any(node.attrs.get("output_padding", ())) or "output_shape" in node.attrs
    same = text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return pads[:half] != pads[half:] or sized or same or node.attrs.get("group", 1) != 1


def zeros(front: int, back: int, dilation: int) -> tuple[int, int, int]:
    """Zeros before and after the kernel, and the pad of both ends, that together crop `front` and `back` cells.

    Raises RewriteNotApplicable if the number of zeros is not a multiple of the dilation.
    """
    pad = max(front, back, 0)
    missing = (pad - front, pad - back)
    if any(cells % dilation for cells in missing):
        raise RewriteNotApplicable(f"{max(missing)} cells are not a multiple of the dilation {dilation}")
    return missing[0] // dilation, missing[1] // dilation, pad


def lower(b: Builder) -> gs.Tensor:
    """Build the node that replaces one ConvTranspose. Raises RewriteNotApplicable."""
    node, x, weight = b.node, b.node.inputs[0], b.node.inputs[1]
    typed(x)
    if not isinstance(weight, gs.Constant):
        raise RewriteNotApplicable(f"the kernel '{weight.name}' is computed at run time")
    values = ungrouped(weight.values, node.attrs.get("group", 1))
    sides = values.ndim - 2
    strides, dilations = (list(node.attrs.get(name, [1] * sides)) for name in ("strides", "dilations"))
    crops = _crops(node, values.shape[2:], strides, dilations)
    kernel_padding = [zeros(front, back, step) for (front, back), step in zip(crops, dilations, strict=True)]
    padded = np.pad(values, [(0, 0), (0, 0), *((before, after) for before, after, _ in kernel_padding)])
    pads = [pad for _, _, pad in kernel_padding]
    attrs = {"kernel_shape": list(padded.shape[2:]), "strides": strides, "dilations": dilations, "pads": pads * 2}
    kernel = b.const("kernel", padded)
    return b.op("ConvTranspose", "wide", x, kernel, *node.inputs[2:], **attrs, group=1)


def ungrouped(values: np.ndarray, group: int) -> np.ndarray:
    """The kernel [in, out / group, ...] as [in, out, ...], with zeros between channels of different groups."""
    in_channels, out_channels = values.shape[0] // group, values.shape[1]
    dense = np.zeros((values.shape[0], out_channels * group, *values.shape[2:]), values.dtype)
    for group_index in range(group):
        rows = slice(group_index * in_channels, (group_index + 1) * in_channels)
        dense[rows, group_index * out_channels : (group_index + 1) * out_channels] = values[rows]
    return dense


def _crops(
    node: gs.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """The cells to crop at the start and at the end of each side. Raises RewriteNotApplicable."""
    sides = len(kernel)
    output_padding = list(node.attrs.get("output_padding", [0] * sides))
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID") and "output_shape" not in node.attrs:
        pads = list(node.attrs.get("pads", [0] * 2 * sides))
        return [(pads[axis], pads[axis + sides] - output_padding[axis]) for axis in range(sides)]
    x = node.inputs[0]
    if not all(isinstance(side, int) for side in x.shape[2:]):
        raise RewriteNotApplicable(f"'{x.name}' has sides that are not static")
    output_shape = node.attrs.get(
        "output_shape", [side * step for side, step in zip(x.shape[2:], strides, strict=True)]
    )
    crops = []
    for axis in range(sides):
        written = (x.shape[2 + axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = written + output_padding[axis] - output_shape[-sides:][axis]
        small, large = total // 2, total - total // 2
        front, back = (large, small) if mode != "SAME_UPPER" else (small, large)
        crops.append((front, back - output_padding[axis]))
    return crops
