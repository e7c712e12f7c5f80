"""Older forms of ops that resample maps: Resize, GridSample, pools and RoiAlign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.support.builder import RewriteNotApplicable, inferred, text
from segc.passes.support.edit import ints, small_constant
from segc.passes.support.opset.older_node import OlderNode, Rule, Site, known_rank, older_attributes, same_op


def _resize(site: Site) -> OlderNode | gs.Tensor:
    """Sizes or scales of some axes become those of all axes below opset 18; roi and scales are required below 13."""
    node, attrs = site.node, dict(site.node.attrs)
    _lower_coordinates(site, attrs)
    scales, sizes = site.input(2), site.input(3)
    computed = False
    if site.opset < 18 and (axes := attrs.pop("axes", None)) is not None:
        scales = None if scales is None else _scales_of_all_axes(site, scales, axes)
        sizes = None if sizes is None else _sizes_of_all_axes(site, sizes, axes)
        computed = sizes is not None and not isinstance(sizes, gs.Constant)
        if text(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
            raise RewriteNotApplicable("it has a roi along some of the axes")
    inputs = [node.inputs[0], *_roi_and_scales(site, scales)] + ([] if sizes is None else [sizes])
    older = OlderNode("Resize", older_attributes(site, attrs), inputs)
    return site.build.op("Resize", "resized", *inputs, **older.attrs) if computed else older


def _lower_coordinates(site: Site, attrs: dict[str, Any]) -> None:
    """half_pixel_symmetric, which opset 19 has introduced, equals half_pixel for a Resize by sizes."""
    if text(site.node, "coordinate_transformation_mode") != "half_pixel_symmetric" or site.opset >= 19:
        return
    if site.input(3) is None:
        raise RewriteNotApplicable(f"half_pixel_symmetric with scales has no form in opset {site.opset}")
    attrs["coordinate_transformation_mode"] = "half_pixel"


def _roi_and_scales(site: Site, scales: gs.Tensor | None) -> list[gs.Tensor]:
    """Inputs 1 and 2: omitted ones are empty constants below opset 13, which cannot omit them."""
    roi = site.input(1)
    if site.opset < 13:
        roi = roi if roi is not None else site.build.const("roi", np.zeros(0, np.float32))
        scales = scales if scales is not None else site.build.const("scales", np.zeros(0, np.float32))
    return [gs.Variable.empty() if t is None else t for t in (roi, scales)]


def _scales_of_all_axes(site: Site, scales: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
    values = small_constant(scales)
    if values is None:
        raise RewriteNotApplicable("its scales are computed at run time")
    all_scales = np.ones(known_rank(site.node.inputs[0]), np.float32)
    all_scales[list(axes)] = values
    return site.build.const("scales", all_scales)


def _sizes_of_all_axes(site: Site, sizes: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
    """Sizes of some axes as sizes of all; for sides that are not static the graph computes them."""
    x = site.node.inputs[0]
    dims, known = known_rank(x), ints(sizes)
    resized = [axis % dims for axis in axes]
    others = {axis: x.shape[axis] for axis in range(dims) if axis not in resized}
    if known is not None and all(isinstance(size, int) for size in others.values()):
        by_axis = {**others, **dict(zip(resized, known, strict=True))}
        return site.build.const("sizes", [by_axis[axis] for axis in range(dims)])
    if resized != list(range(dims - len(resized), dims)):
        raise RewriteNotApplicable(f"it has sizes of axes {list(axes)} of a tensor that is not static")
    outer = site.build.slice("outer", site.build.op("Shape", "shape", x), [0], [dims - len(resized)], [0])
    return site.build.op("Concat", "sizes", outer, sizes, axis=0)


def _grid_sample(site: Site) -> OlderNode:
    """The modes had other names before opset 20."""
    if site.older is None or site.opset >= 20:
        return same_op(site)
    if known_rank(site.node.inputs[0]) != 4:
        raise RewriteNotApplicable(f"GridSample of opset {site.opset} takes maps with two sides only")
    mode = text(site.node, "mode", "linear")
    older_mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return OlderNode("GridSample", {**site.node.attrs, "mode": older_mode}, list(site.node.inputs))


def _pool(site: Site) -> OlderNode:
    """Dilations of 1 are dropped where the older op has none.

    Up to opset 21 a window that ceil_mode adds may lie in the padding alone, later it may not: another size.
    """
    attrs = dict(site.node.attrs)
    lacks_dilations = site.older is not None and "dilations" not in site.older.attributes
    if lacks_dilations and all(step == 1 for step in attrs.get("dilations", ())):
        attrs.pop("dilations", None)
    older = older_attributes(site, attrs)
    known = ir.static_shape(site.node.outputs[0])
    if attrs.get("ceil_mode", 0) and known is not None:
        given, site.node.attrs = site.node.attrs, older  # the older op is asked, which may lack an attribute
        try:
            _, shape = inferred(site.node, site.opset)[0]
        finally:
            site.node.attrs = given
        if shape is not None and list(shape) != list(known):
            raise RewriteNotApplicable(f"its result has the shape {shape} in opset {site.opset}")
    return OlderNode(site.node.op, older, list(site.node.inputs))


def _roi_align(site: Site) -> OlderNode:
    """Before opset 16 RoiAlign had no coordinate mode and meant output_half_pixel."""
    attrs = dict(site.node.attrs)
    if site.opset < 16:
        if text(site.node, "coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
            raise RewriteNotApplicable(f"half_pixel has no form in opset {site.opset}")
        del attrs["coordinate_transformation_mode"]
    return OlderNode("RoiAlign", older_attributes(site, attrs), list(site.node.inputs))


RULES: dict[str, Rule] = {
    **dict.fromkeys(["AveragePool", "LpPool", "MaxPool"], _pool),
    "Resize": _resize,
    "GridSample": _grid_sample,
    "RoiAlign": _roi_align,
}
