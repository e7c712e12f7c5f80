"""Older forms of ops that reduce, reshape, split or pad: inputs become the attributes that they used to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_graphsurgeon as gs

from segc.passes.support.builder import RewriteNotApplicable, text
from segc.passes.support.opset.older_node import OlderNode, Rule, Site, known_rank, older_attributes, same_op

_END = 2**63 - 1  # the end of a Slice that takes the rest


def split_sizes(side: int, parts: int) -> list[int]:
    """The sizes of Split with num_outputs: equal parts, the last one smaller if the side does not divide evenly."""
    size = -(-side // parts)
    return [min(size, max(side - i * size, 0)) for i in range(parts)]


def pads_of_all_axes(pads: Sequence[int], axes: Sequence[int], dims: int) -> list[int]:
    """Pads of `axes` as pads of all axes: first all begins, then all ends."""
    all_pads = [0] * (2 * dims)
    for i, axis in enumerate(axes):
        all_pads[axis % dims] = pads[i]
        all_pads[axis % dims + dims] = pads[i + len(axes)]
    return all_pads


def _axes(site: Site) -> OlderNode:
    """Axes from input to attribute; a reduction without axes may have been an identity."""
    if site.older is None or "axes" not in site.older.attributes:
        return same_op(site)
    attrs, x = dict(site.node.attrs), site.node.inputs[0]
    empty_is_identity = attrs.pop("noop_with_empty_axes", 0)
    axes = site.constant(1, "axes")
    if not axes and empty_is_identity:
        return OlderNode("Identity", {}, [x])
    if axes:
        attrs["axes"] = axes
    return OlderNode(site.node.op, older_attributes(site, attrs), [x])


def _split(site: Site) -> OlderNode:
    """num_outputs becomes sizes; sizes become an attribute below opset 13."""
    node, x = site.node, site.node.inputs[0]
    attrs = dict(node.attrs)
    sizes, parts = site.constant(1, "split sizes"), attrs.pop("num_outputs", None)
    axis = attrs.get("axis", 0)
    if x.shape is not None and not -len(x.shape) <= axis < len(x.shape):
        raise RewriteNotApplicable(f"it has no axis {axis} to split")
    side = None if x.shape is None else x.shape[axis]
    if sizes is None and parts is not None:
        if not isinstance(side, int):
            raise RewriteNotApplicable(f"it splits a side of unknown size into {parts} parts")
        sizes = None if side % parts == 0 else split_sizes(side, parts)
    inputs = [x]
    if sizes is not None and site.opset < 13:
        attrs["split"] = sizes
    elif sizes is not None:
        given = site.input(1)
        inputs.append(given if given is not None else site.build.const("split", sizes))
    return OlderNode("Split", older_attributes(site, attrs), inputs)


def _pad(site: Site) -> OlderNode:
    """Pads of some axes become pads of all axes below opset 18."""
    node, x = site.node, site.node.inputs[0]
    if text(node, "mode") == "wrap" and site.opset < 19:
        raise RewriteNotApplicable(f"mode='wrap' has no form in opset {site.opset}")
    axes = site.constant(3, "axes")
    inputs = list(node.inputs[:3])
    if axes is not None and site.opset < 18:
        pads = site.constant(1, "pads")
        assert pads is not None
        inputs[1] = site.build.const("pads", pads_of_all_axes(pads, axes, known_rank(x)))
    elif axes is not None:
        inputs = list(node.inputs)
    return OlderNode("Pad", older_attributes(site, dict(node.attrs)), inputs)


def _shape(site: Site) -> OlderNode | gs.Tensor:
    """Shape with start or end becomes a Slice of the whole shape below opset 15."""
    attrs = site.node.attrs
    if site.opset >= 15 or ("end" not in attrs and attrs.get("start", 0) == 0):
        return same_op(site)
    whole = site.build.op("Shape", "whole", site.node.inputs[0])
    return site.build.slice("cut", whole, [attrs.get("start", 0)], [attrs.get("end", _END)], [0])


def _reshape(site: Site) -> OlderNode:
    """allowzero is dropped below opset 14 if no size is 0."""
    attrs = dict(site.node.attrs)
    if site.opset < 14 and attrs.get("allowzero", 0):
        sizes = site.constant(1, "sizes with allowzero")
        if sizes is None or 0 in sizes:
            raise RewriteNotApplicable(f"a size of 0 has no form in opset {site.opset}")
        del attrs["allowzero"]
    return OlderNode("Reshape", older_attributes(site, attrs), list(site.node.inputs))


def _reductions() -> Iterator[str]:
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        yield f"Reduce{kind}"


RULES: dict[str, Rule] = {
    **dict.fromkeys([*_reductions(), "Squeeze", "Unsqueeze"], _axes),
    "Split": _split,
    "Pad": _pad,
    "Shape": _shape,
    "Reshape": _reshape,
}
