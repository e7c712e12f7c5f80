"""Rows for ops on maps (1, C, H, W): convolution, pooling, resizing, shuffling."""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import map_of, whole, wholes
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.lowering import Emission, numbers, row
from segc.targets.ncnn.lower.ops_movement import permute
from segc.targets.ncnn.lower.size_expressions import Leaf, References, Size, sizes_of
from segc.targets.ncnn.net.net import Blob, Dim, Refused, Shape, Weight, agree, known, require

NAMED = {"SAME_UPPER": (0, 1), "SAME_LOWER": (1, 0)}  # where an odd cell of padding goes: before, after


def window(node: gs.Node, kernel: list[int], sizes: Shape) -> dict[str, int]:
    """Kernel, stride, dilation and pads as ncnn names them. sizes: the input's height and width."""
    require(len(kernel) == 2, f"its kernel has {len(kernel)} axes, ncnn takes 2")
    strides, dilations = wholes(node, "strides", (1, 1)), wholes(node, "dilations", (1, 1))
    top, left, bottom, right = pads(node, kernel, strides, dilations, sizes)
    return {
        "kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": strides[0], "stride_w": strides[1],
        "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right,
    }  # fmt: skip


def pads(
    node: gs.Node, kernel: list[int], strides: list[int], dilations: list[int], sizes: Shape
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    auto = text(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        top, left, bottom, right = wholes(node, "pads", (0, 0, 0, 0))
        return top, left, bottom, right
    if auto == "VALID":
        return 0, 0, 0, 0
    require(None not in sizes, f"auto_pad {auto} of a map whose size is known at run time only")
    ends = []
    for side, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        assert side is not None
        needed = max(0, (-(-side // stride) - 1) * stride + dilation * (k - 1) + 1 - side)
        before = (needed + NAMED[auto][0]) // 2
        ends.append((before, needed - before))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


@row("Conv")
def conv(e: Emission, node: gs.Node) -> None:
    """Convolution, ConvolutionDepthWise where there are groups; weights may be computed at run time."""
    x, w = node.inputs[:2]
    if len(x.shape or ()) == 3:
        return conv_1d(e, node)
    blob, shape = e.blob(x), dims(w.shape)
    if blob.rank == 4:
        return conv_of_batch(e, node, blob)
    map_of(blob.shape, f"'{x.name}'")
    require(None not in shape, f"the weights '{w.name}' have a size that is known at run time only")
    made, group = shape[0], whole(node, "group", 1)
    dilations = wholes(node, "dilations", (1, 1))
    params: dict[str, Any] = {
        "num_output": made,
        **window(node, [s for s in shape[2:] if s is not None], blob.shape[1:]),
        "dilation_h": dilations[0],
        "dilation_w": dilations[1],
    }
    bias = optional(node, 2)
    if group != 1:
        params["group"] = group
    e.put(node.outputs[0], convolve(e, "conv", blob, w, bias, params))
    return None


def conv_of_batch(e: Emission, node: gs.Node, x: Blob) -> None:
    """A 1x1 Conv of several maps (N, C, H, W) that form no batch of images: the same over one map of N rows."""
    w, bias = node.inputs[1], optional(node, 2)
    plain = {"strides": {1}, "dilations": {1}, "pads": {0}}
    single = dims(w.shape)[2:] == (1, 1) and all(set(wholes(node, a, tuple(want))) == want for a, want in plain.items())
    fits = single and whole(node, "group", 1) == 1 and isinstance(w, gs.Constant)
    require(fits, f"a convolution other than 1x1 of {x.shape[0]} maps, ncnn takes one")
    count, channels, height, width = known(x.shape, f"'{node.inputs[0].name}'")
    maps = e.reshape(x, (count, channels, height * width), f"{node.inputs[0].name}_maps")
    rows = permute(e, "rows", maps, [1, 0, 2])
    params = {"num_output": dims(w.shape)[0], "kernel_h": 1, "kernel_w": 1}
    e.put(node.outputs[0], permute(e, "maps", convolve(e, "conv", rows, w, bias, params), [1, 0, 2]))


def conv_1d(e: Emission, node: gs.Node) -> None:
    """A Conv over a line (1, C, L): the same over a map of height 1."""
    x, w = node.inputs[:2]
    line, shape = e.blob(x), dims(w.shape)
    channels, length = line.shape
    require(None not in (*shape, channels, length), f"'{x.name}' has a size that is known at run time only")
    before, after = wholes(node, "pads", (0, 0))
    require(text(node, "auto_pad", "NOTSET") == "NOTSET", "auto_pad of a convolution over a line")
    params: dict[str, Any] = {
        "num_output": shape[0], "kernel_h": 1, "kernel_w": shape[2], "stride_h": 1,
        "stride_w": wholes(node, "strides", (1,))[0], "dilation_h": 1,
        "dilation_w": wholes(node, "dilations", (1,))[0],
        "pad_top": 0, "pad_bottom": 0, "pad_left": before, "pad_right": after,
    }  # fmt: skip
    if (group := whole(node, "group", 1)) != 1:
        params["group"] = group
    require(isinstance(w, gs.Constant), f"the weights '{w.name}' of a convolution over a line are computed at run time")
    as_map = e.reshape(line, (channels, 1, length), x.name)
    e.put(node.outputs[0], convolve(e, "conv", as_map, w, optional(node, 2), params))


def convolve(e: Emission, role: str, x: Blob, w: gs.Tensor, bias: gs.Tensor | None, params: dict[str, Any]) -> Blob:
    """The convolution layer with constant weights or with weights as a second input."""
    kind = "ConvolutionDepthWise" if "group" in params else "Convolution"
    params = {**params, "bias_term": int(bias is not None)}
    if isinstance(w, gs.Constant) and (bias is None or isinstance(bias, gs.Constant)):
        values = numbers(w)
        weights = [Weight(values, tagged=True), *([] if bias is None else [Weight(numbers(bias))])]
        return e.layer(kind, role, [x], weights=weights, weight_data_size=values.size, **params)
    inputs = [x, e.shaped(w, dims(w.shape)), *([] if bias is None else [e.shaped(bias, dims(bias.shape))])]
    return e.layer(kind, role, inputs, dynamic_weight=1, **params)


@row("ConvTranspose")
def conv_transpose(e: Emission, node: gs.Node) -> None:
    """Deconvolution; its weights are stored with the output channels first."""
    x, w = node.inputs[:2]
    blob, bias = e.blob(x), optional(node, 2)
    map_of(blob.shape, f"'{x.name}'")
    if not isinstance(w, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        raise Refused(f"the weights '{w.name}' are computed at run time")
    require(text(node, "auto_pad", "NOTSET") == "NOTSET", f"auto_pad is {text(node, 'auto_pad')}")
    require("output_shape" not in node.attrs, "output_shape is given")
    values, group = numbers(w), whole(node, "group", 1)
    channels, per_group, *kernel = values.shape
    parts = values.reshape(group, channels // group, per_group, *kernel).transpose(0, 2, 1, 3, 4)
    extra, dilations = wholes(node, "output_padding", (0, 0)), wholes(node, "dilations", (1, 1))
    params: dict[str, Any] = window(node, list(kernel), blob.shape[1:])
    if group != 1:
        params["group"] = group
    y = e.layer(
        "DeconvolutionDepthWise" if group != 1 else "Deconvolution",
        "deconv",
        [blob],
        weights=[Weight(parts, tagged=True), *([] if bias is None else [Weight(numbers(bias))])],
        num_output=per_group * group, weight_data_size=values.size, bias_term=int(bias is not None),
        dilation_h=dilations[0], dilation_w=dilations[1],
        output_pad_bottom=extra[0], output_pad_right=extra[1], **params,
    )  # fmt: skip
    e.put(node.outputs[0], y)


@row("MaxPool", "AveragePool")
def pool(e: Emission, node: gs.Node) -> None:
    """Pooling; the pads after the map are those that the result's size implies, which covers ceil_mode."""
    x, y = node.inputs[0], node.outputs[0]
    blob = e.blob(x)
    map_of(blob.shape, f"'{x.name}'")
    for other in node.outputs[1:]:
        require(other.is_empty(), "its indices are used")
    require(set(wholes(node, "dilations", (1, 1))) == {1}, f"dilations are {wholes(node, 'dilations', ())}")
    average = node.op == "AveragePool"
    params: dict[str, Any] = window(node, wholes(node, "kernel_shape", ()), blob.shape[1:])
    counted = average and whole(node, "count_include_pad", 0) == 1
    for side, size, made, low, high in (
        ("h", blob.shape[1], dims(y.shape)[2], "pad_top", "pad_bottom"),
        ("w", blob.shape[2], dims(y.shape)[3], "pad_left", "pad_right"),
    ):
        if size is None or made is None:
            if whole(node, "ceil_mode", 0):
                require(not average, "ceil_mode of an average over a map whose size is known at run time only")
                params["pad_mode"] = 0
            continue
        needed = (made - 1) * params[f"stride_{side}"] + params[f"kernel_{side}"] - size - params[low]
        fits = not counted or needed <= params[high]
        require(fits, "count_include_pad with windows that ceil_mode lets out of the padding")
        params[high] = max(0, needed)
    if average:
        params["avgpool_count_include_pad"] = int(counted)
    e.put(y, e.layer("Pooling", "pool", [blob], pooling_type=int(average), **{"pad_mode": 1, **params}))


@row("GlobalAveragePool", "GlobalMaxPool")
def global_pool(e: Emission, node: gs.Node) -> None:
    """Adaptive pooling to one cell; ncnn's own global pooling would drop the axes."""
    blob = e.blob(node.inputs[0])
    map_of(blob.shape, f"'{node.inputs[0].name}'")
    e.put(node.outputs[0], adaptive(e, blob, [1, 1], average=node.op == "GlobalAveragePool"))


@row("segc::AdaptiveAvgPool2d")
def adaptive_avg_pool(e: Emission, node: gs.Node) -> None:
    """ncnn's adaptive pooling has PyTorch's bins."""
    blob = e.blob(node.inputs[0])
    map_of(blob.shape, f"'{node.inputs[0].name}'")
    wanted = wholes(node, "output_size", ())
    sides = [side if bins == -1 else bins for bins, side in zip(wanted, blob.shape[1:], strict=True)]
    e.put(node.outputs[0], adaptive(e, blob, sides, average=True))


def adaptive(e: Emission, blob: Blob, sides: list[Dim], *, average: bool) -> Blob:
    """Adaptive Pooling to these sides."""
    sizes: dict[str, Any] = {
        name: side for name, side in zip(("out_h", "out_w"), sides, strict=True) if side is not None
    }
    require(len(sizes) == 2, "pooling that keeps a side which is known at run time only")
    return e.layer("Pooling", "pool", [blob], pooling_type=int(average), adaptive_pooling=1, **sizes)


@row("DepthToSpace")
def depth_to_space(e: Emission, node: gs.Node) -> None:
    """PixelShuffle."""
    mode = {"CRD": 0, "DCR": 1}[text(node, "mode", "DCR")]
    blob = e.blob(node.inputs[0])
    map_of(blob.shape, f"'{node.inputs[0].name}'")
    size = whole(node, "blocksize", 1)
    e.put(node.outputs[0], e.layer("PixelShuffle", "shuffled", [blob], upscale_factor=size, mode=mode))


@row("SpaceToDepth")
def space_to_depth(e: Emission, node: gs.Node) -> None:
    """Reorg."""
    blob = e.blob(node.inputs[0])
    map_of(blob.shape, f"'{node.inputs[0].name}'")
    e.put(node.outputs[0], e.layer("Reorg", "reorged", [blob], stride=whole(node, "blocksize", 1), mode=1))


@row("GridSample")
def grid_sample(e: Emission, node: gs.Node) -> None:
    """GridSample at places (1, h, w, 2)."""
    x, grid = node.inputs
    blob = e.blob(x)
    map_of(blob.shape, f"'{x.name}'")
    mode = {"linear": 1, "bilinear": 1, "nearest": 2, "cubic": 3, "bicubic": 3}[text(node, "mode", "linear")]
    padding = {"zeros": 1, "border": 2, "reflection": 3}[text(node, "padding_mode", "zeros")]
    places = e.arranged(grid, grid.shape, (1, 2, 3))
    corner = whole(node, "align_corners", 0)
    y = e.layer("GridSample", "sampled", [blob, places], sample_type=mode, padding_mode=padding, align_corner=corner)
    e.put(node.outputs[0], y)


@row("Resize")
def resize(e: Emission, node: gs.Node) -> None:
    """Interp, by the sizes or the scales that ONNX gives."""
    x, y = node.inputs[0], node.outputs[0]
    blob = e.blob(x)
    map_of(blob.shape, f"'{x.name}'")
    require(whole(node, "antialias", 0) == 0, "antialias is 1")
    require(whole(node, "exclude_outside", 0) == 0, "exclude_outside is 1")
    require(text(node, "keep_aspect_ratio_policy", "stretch") == "stretch", "it keeps the aspect ratio")
    given, made = dims(x.shape), dims(y.shape)
    require(agree(given[:2], made[:2]), "it resizes more than height and width")
    scales = _scales(node)
    kind, corner = _kind(node, given[2:], made[2:], scales)
    params: dict[str, Any] = {"resize_type": kind, "align_corner": corner}
    inputs = [blob]
    # sizes and scales give the same coordinates where the scales are whole
    if scales is not None and _sizes_of(given[2:], scales) != made[2:]:
        params.update(height_scale=scales[0], width_scale=scales[1])
    elif None not in made:
        params.update(output_height=made[2], output_width=made[3])
    else:
        references = References(x)
        params["size_expr"] = references.text(_sides(node)[::-1])
        inputs += [e.blob(tensor) for tensor in references.tensors[1:]]
    e.put(y, e.layer("Interp", "resized", inputs, **params))


def _sides(node: gs.Node) -> list[Size]:
    """Height and width that a Resize by sizes asks for."""
    sizes = sizes_of(node.inputs[3])
    axes = [axis % 4 for axis in wholes(node, "axes", range(4))]
    by_axis = dict(zip(axes, sizes, strict=True))
    return [by_axis.get(axis, Leaf(node.inputs[0], axis)) for axis in (2, 3)]


def _scales(node: gs.Node) -> tuple[float, float] | None:
    """The scales of height and width where ONNX resizes by scales."""
    if optional(node, 3) is not None:
        return None
    scales = optional(node, 2)
    if not isinstance(scales, gs.Constant):
        raise Refused("its scales are computed at run time")
    values = [float(v) for v in scales.values]
    axes = [axis % 4 for axis in wholes(node, "axes", range(4))]
    by_axis = dict(zip(axes, values, strict=True))
    return by_axis.get(2, 1.0), by_axis.get(3, 1.0)


def _sizes_of(sides: Shape, scales: tuple[float, float]) -> Shape:
    """The sides that these scales give when they give whole numbers, (-1, -1) otherwise."""
    products = [None if side is None else side * scale for side, scale in zip(sides, scales, strict=True)]
    if any(p is None or p != int(p) for p in products):
        return (-1, -1)
    return tuple(int(p) for p in products if p is not None)


def _kind(node: gs.Node, given: Shape, made: Shape, scales: tuple[float, float] | None) -> tuple[int, int]:
    """ncnn's resize_type and align_corner. Raises Refused for coordinates that ncnn does not have."""
    mode = text(node, "mode", "nearest")
    how = text(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        return _nearest(node, how, given, made, scales)
    if mode == "cubic":
        a = float(node.attrs.get("cubic_coeff_a", -0.75))
        require(a == -0.75, f"cubic_coeff_a is {a}, ncnn's is -0.75")
    kind = {"linear": 2, "cubic": 3}[mode]
    if how == "align_corners":
        return kind, 1
    # the two differ where a side becomes 1; of a size known at run time only ncnn's expression knows no such case
    if how == "pytorch_half_pixel" and not any(m in (1, None) and g != 1 for g, m in zip(given, made, strict=True)):
        how = "half_pixel"
    alone = given == (1, 1)  # one cell is the same everywhere
    require(how == "half_pixel" or alone, f"coordinate_transformation_mode {how} with mode {mode}")
    return kind, 0


def _nearest(node: gs.Node, how: str, given: Shape, made: Shape, scales: tuple[float, float] | None) -> tuple[int, int]:
    """ncnn rounds down from asymmetric coordinates; half_pixel gives the same cells for whole factors."""
    rounding = text(node, "nearest_mode", "round_prefer_floor")
    if (how, rounding) == ("asymmetric", "floor") or given == (1, 1):
        return 1, 0
    whole_factors = (
        all(s == int(s) for s in scales)
        if scales is not None
        else all(g is not None and m is not None and m % g == 0 for g, m in zip(given, made, strict=True))
    )
    same = how in ("half_pixel", "pytorch_half_pixel") and rounding == "round_prefer_floor" and whole_factors
    require(same, f"nearest with coordinates {how} and nearest_mode {rounding}")
    return 1, 0
