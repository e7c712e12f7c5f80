"""Let ConvTranspose do with symmetric pads, without output_padding, output_shape, auto_pad and groups.

A ConvTranspose writes (i - 1) * stride + (k - 1) * dilation + 1 cells along a side and cuts pads off both ends;
output_padding cuts off that much less at the end. Zeros in front of the kernel move what it writes to the right, zeros
behind it make room at the end, so with p cells to cut in front and q = pad - output_padding to cut behind

    ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [0 ... 0, w], pads = (q, q))    with q - p zeros,  p < q
    ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [w, 0 ... 0], pads = (p, p))    with p - q zeros,  p > q

and groups become one kernel with blocks of zeros. Exact: only zeros are added, for inputs that are finite. The kernel
grows, for groups by their number. A negative number of cells to cut in front or behind is zeros as well.

Must not fire: for kernels that are not constant; where the zeros are no multiple of the dilation; for output_shape and
auto_pad SAME on sides that are not static.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, text, typed

UNSAID = ("output_padding", "output_shape", "auto_pad")


class LegalizeConvTranspose(Pass):
    """Rewrite each ConvTranspose that has groups, uneven pads or a size of its own, by zeros in the kernel."""

    name = "legalize-conv-transpose"
    algebra = "ConvTranspose(x, w, pads = (p, q))  ->  ConvTranspose(x, [w, 0 ... 0], pads = (p, p)), without groups"
    ensures = frozenset({"transposed convolutions legalized"})
    invalidates = FORM_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, "ConvTranspose") if unusual(n)], spelled, PassResult())


def unusual(node: gs.Node) -> bool:
    """Whether the node says more than kernel, strides, dilations and symmetric pads."""
    pads = list(node.attrs.get("pads", ()))
    half = len(pads) // 2
    sized = any(node.attrs.get("output_padding", ())) or "output_shape" in node.attrs
    same = text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return pads[:half] != pads[half:] or sized or same or node.attrs.get("group", 1) != 1


def zeros(front: int, back: int, dilation: int) -> tuple[int, int, int]:
    """Zeros before and after the kernel, and the pad at both ends, that cut off `front` and `back` cells.

    Raises Cannot where the dilation has no such number of zeros.
    """
    pad = max(front, back, 0)
    spare = (pad - front, pad - back)
    if any(cells % dilation for cells in spare):
        raise Cannot(f"{max(spare)} cells are no multiple of the dilation {dilation}")
    return spare[0] // dilation, spare[1] // dilation, pad


def spelled(b: Builder) -> gs.Tensor:
    """The new node for one site."""
    node, x, weight = b.node, b.node.inputs[0], b.node.inputs[1]
    typed(x)
    if not isinstance(weight, gs.Constant):
        raise Cannot(f"the kernel '{weight.name}' is computed at run time")
    values = ungrouped(weight.values, node.attrs.get("group", 1))
    sides = values.ndim - 2
    strides, dilations = (list(node.attrs.get(name, [1] * sides)) for name in ("strides", "dilations"))
    cuts = _cuts(node, values.shape[2:], strides, dilations)
    around = [zeros(front, back, step) for (front, back), step in zip(cuts, dilations, strict=True)]
    padded = np.pad(values, [(0, 0), (0, 0), *((before, after) for before, after, _ in around)])
    pads = [pad for _, _, pad in around]
    attrs = {"kernel_shape": list(padded.shape[2:]), "strides": strides, "dilations": dilations, "pads": pads * 2}
    kernel = b.const("kernel", padded)
    return b.op("ConvTranspose", "wide", x, kernel, *node.inputs[2:], **attrs, group=1)


def ungrouped(values: np.ndarray, group: int) -> np.ndarray:
    """The kernel [in, out / group, ...] as one of [in, out, ...] with zeros between channels of different groups."""
    if group == 1:
        return values
    given, made = values.shape[0] // group, values.shape[1]
    whole = np.zeros((values.shape[0], made * group, *values.shape[2:]), values.dtype)
    for at in range(group):
        rows = slice(at * given, (at + 1) * given)
        whole[rows, at * made : (at + 1) * made] = values[rows]
    return whole


def _cuts(
    node: gs.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Cells to cut off in front and behind, along each side."""
    sides = len(kernel)
    more = list(node.attrs.get("output_padding", [0] * sides))
    mode = text(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID") and "output_shape" not in node.attrs:
        pads = list(node.attrs.get("pads", [0] * 2 * sides))
        return [(pads[at], pads[at + sides] - more[at]) for at in range(sides)]
    x = node.inputs[0]
    if not all(isinstance(side, int) for side in x.shape[2:]):
        raise Cannot(f"'{x.name}' has sides that are not static")
    wanted = node.attrs.get("output_shape", [side * step for side, step in zip(x.shape[2:], strides, strict=True)])
    cuts = []
    for at in range(sides):
        written = (x.shape[2 + at] - 1) * strides[at] + (kernel[at] - 1) * dilations[at] + 1
        total = written + more[at] - wanted[-sides:][at]
        small, large = total // 2, total - total // 2
        front, back = (large, small) if mode != "SAME_UPPER" else (small, large)
        cuts.append((front, back - more[at]))
    return cuts
