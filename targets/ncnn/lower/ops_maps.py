"""Lower ops on maps (1, C, H, W): convolution, pooling, resizing, sampling, shuffling."""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import (
    int_attr,
    int_list_attr,
    require_map,
)
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.net_builder import NetBuilder, float32_values
from segc.targets.ncnn.lower.ops_movement import permute
from segc.targets.ncnn.lower.registry import lower_op
from segc.targets.ncnn.lower.size_expressions import RuntimeDim, Size, SizeInputs, sizes_of
from segc.targets.ncnn.net.net import (
    Blob,
    Dim,
    Refused,
    Shape,
    Weight,
    compatible,
    known_sizes,
    require,
)

ODD_PAD_BEFORE = {"SAME_UPPER": 0, "SAME_LOWER": 1}  # whether an odd cell of padding goes before the map
RESIZE_MODES = {"nearest": 1, "linear": 2, "cubic": 3}  # ncnn's resize_type
SAMPLE_MODES = {"linear": 1, "bilinear": 1, "nearest": 2, "cubic": 3, "bicubic": 3}  # ncnn's sample_type
PADDING_MODES = {"zeros": 1, "border": 2, "reflection": 3}


def window(node: gs.Node, kernel: list[int], sizes: Shape) -> dict[str, int]:
    """Kernel, stride and pads as layer parameters. sizes: the input's height and width."""
    require(len(kernel) == 2, f"its kernel has {len(kernel)} axes, ncnn takes 2")
    strides, dilations = int_list_attr(node, "strides", (1, 1)), int_list_attr(node, "dilations", (1, 1))
    top, left, bottom, right = pads(node, kernel, strides, dilations, sizes)
    return {
        "kernel_h": kernel[0], "kernel_w": kernel[1], "stride_h": strides[0], "stride_w": strides[1],
        "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right,
    }  # fmt: skip


def pads(
    node: gs.Node, kernel: list[int], strides: list[int], dilations: list[int], sizes: Shape
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in cells. Raises Refused: auto_pad needs a size that is unknown."""
    auto = text(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        top, left, bottom, right = int_list_attr(node, "pads", (0, 0, 0, 0))
        return top, left, bottom, right
    if auto == "VALID":
        return 0, 0, 0, 0
    require(None not in sizes, f"auto_pad {auto} of a map whose size is known at run time only")
    ends = []
    for side, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        assert side is not None
        needed = max(0, (-(-side // stride) - 1) * stride + dilation * (k - 1) + 1 - side)
        before = (needed + ODD_PAD_BEFORE[auto]) // 2
        ends.append((before, needed - before))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


@lower_op("Conv")
def conv(builder: NetBuilder, node: gs.Node) -> None:
    """Convolution, or ConvolutionDepthWise with groups; the weights may be computed at run time."""
    x, w = node.inputs[:2]
    if len(x.shape or ()) == 3:
        return conv_1d(builder, node)
    blob, shape = builder.blob(x), dims(w.shape)
    if blob.rank == 4:
        return conv_of_batch(builder, node, blob)
    require_map(blob.shape, f"'{x.name}'")
    require(None not in shape, f"the weights '{w.name}' have a size that is known at run time only")
    group = int_attr(node, "group", 1)
    dilations = int_list_attr(node, "dilations", (1, 1))
    params: dict[str, Any] = {
        "num_output": shape[0],
        **window(node, [s for s in shape[2:] if s is not None], blob.shape[1:]),
        "dilation_h": dilations[0],
        "dilation_w": dilations[1],
    }
    bias = optional(node, 2)
    if group != 1:
        params["group"] = group
    builder.bind(node.outputs[0], convolve(builder, "conv", blob, w, bias, params))
    return None


def conv_of_batch(builder: NetBuilder, node: gs.Node, x: Blob) -> None:
    """A 1x1 Conv of several maps (N, C, H, W), where N is no batch of images: Conv of one map (C, N, H * W)."""
    w, bias = node.inputs[1], optional(node, 2)
    plain = {"strides": {1}, "dilations": {1}, "pads": {0}}
    one_cell = dims(w.shape)[2:] == (1, 1) and int_attr(node, "group", 1) == 1 and isinstance(w, gs.Constant)
    pointwise = one_cell and all(set(int_list_attr(node, name, tuple(want))) == want for name, want in plain.items())
    require(pointwise, f"a convolution other than 1x1 of {x.shape[0]} maps, ncnn takes one map")
    count, channels, height, width = known_sizes(x.shape, f"'{node.inputs[0].name}'")
    maps = builder.reshape(x, (count, channels, height * width), f"{node.inputs[0].name}_maps")
    rows = permute(builder, "rows", maps, [1, 0, 2])
    params = {"num_output": dims(w.shape)[0], "kernel_h": 1, "kernel_w": 1}
    builder.bind(node.outputs[0], permute(builder, "maps", convolve(builder, "conv", rows, w, bias, params), [1, 0, 2]))


def conv_1d(builder: NetBuilder, node: gs.Node) -> None:
    """A 1-D Conv of (1, C, L): the Conv of a map of height 1."""
    x, w = node.inputs[:2]
    line, shape = builder.blob(x), dims(w.shape)
    channels, length = line.shape
    require(None not in (*shape, channels, length), f"'{x.name}' has a size that is known at run time only")
    before, after = int_list_attr(node, "pads", (0, 0))
    require(text(node, "auto_pad", "NOTSET") == "NOTSET", "auto_pad of a 1-D convolution")
    params: dict[str, Any] = {
        "num_output": shape[0], "kernel_h": 1, "kernel_w": shape[2], "stride_h": 1,
        "stride_w": int_list_attr(node, "strides", (1,))[0], "dilation_h": 1,
        "dilation_w": int_list_attr(node, "dilations", (1,))[0],
        "pad_top": 0, "pad_bottom": 0, "pad_left": before, "pad_right": after,
    }  # fmt: skip
    if (group := int_attr(node, "group", 1)) != 1:
        params["group"] = group
    require(isinstance(w, gs.Constant), f"the weights '{w.name}' of a 1-D convolution are computed at run time")
    as_map = builder.reshape(line, (channels, 1, length), x.name)
    builder.bind(node.outputs[0], convolve(builder, "conv", as_map, w, optional(node, 2), params))


def convolve(
    builder: NetBuilder, role: str, x: Blob, w: gs.Tensor, bias: gs.Tensor | None, params: dict[str, Any]
) -> Blob:
    """A convolution layer: constant weights go to the .bin file, others become a second input."""
    type_ = "ConvolutionDepthWise" if "group" in params else "Convolution"
    params = {**params, "bias_term": int(bias is not None)}
    if isinstance(w, gs.Constant) and (bias is None or isinstance(bias, gs.Constant)):
        values = float32_values(w)
        weights = [Weight(values, tagged=True), *([] if bias is None else [Weight(float32_values(bias))])]
        return builder.add_layer(type_, role, [x], weights=weights, weight_data_size=values.size, **params)
    inputs = [
        x,
        builder.as_shape(w, dims(w.shape)),
        *([] if bias is None else [builder.as_shape(bias, dims(bias.shape))]),
    ]
    return builder.add_layer(type_, role, inputs, dynamic_weight=1, **params)


@lower_op("ConvTranspose")
def conv_transpose(builder: NetBuilder, node: gs.Node) -> None:
    """Deconvolution; ncnn stores its weights with the output channels first."""
    x, w = node.inputs[:2]
    blob, bias = builder.blob(x), optional(node, 2)
    require_map(blob.shape, f"'{x.name}'")
    if not isinstance(w, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        raise Refused(f"the weights '{w.name}' are computed at run time")
    require(text(node, "auto_pad", "NOTSET") == "NOTSET", f"auto_pad is {text(node, 'auto_pad')}")
    require("output_shape" not in node.attrs, "output_shape is given")
    values, group = float32_values(w), int_attr(node, "group", 1)
    channels, per_group, *kernel = values.shape
    ncnn_weights = values.reshape(group, channels // group, per_group, *kernel).transpose(0, 2, 1, 3, 4)
    output_pads, dilations = int_list_attr(node, "output_padding", (0, 0)), int_list_attr(node, "dilations", (1, 1))
    params: dict[str, Any] = window(node, list(kernel), blob.shape[1:])
    if group != 1:
        params["group"] = group
    y = builder.add_layer(
        "DeconvolutionDepthWise" if group != 1 else "Deconvolution",
        "deconv",
        [blob],
        weights=[Weight(ncnn_weights, tagged=True), *([] if bias is None else [Weight(float32_values(bias))])],
        num_output=per_group * group, weight_data_size=values.size, bias_term=int(bias is not None),
        dilation_h=dilations[0], dilation_w=dilations[1],
        output_pad_bottom=output_pads[0], output_pad_right=output_pads[1], **params,
    )  # fmt: skip
    builder.bind(node.outputs[0], y)


@lower_op("MaxPool", "AveragePool")
def pool(builder: NetBuilder, node: gs.Node) -> None:
    """Pooling. The pads after the map follow from the size of the result, which covers ceil_mode."""
    x, y = node.inputs[0], node.outputs[0]
    blob = builder.blob(x)
    require_map(blob.shape, f"'{x.name}'")
    for other in node.outputs[1:]:
        require(other.is_empty(), "its indices are used")
    require(
        set(int_list_attr(node, "dilations", (1, 1))) == {1}, f"dilations are {int_list_attr(node, 'dilations', ())}"
    )
    average = node.op == "AveragePool"
    params: dict[str, Any] = window(node, int_list_attr(node, "kernel_shape", ()), blob.shape[1:])
    pads_count = average and int_attr(node, "count_include_pad", 0) == 1
    for side, size, out_size, low, high in (
        ("h", blob.shape[1], dims(y.shape)[2], "pad_top", "pad_bottom"),
        ("w", blob.shape[2], dims(y.shape)[3], "pad_left", "pad_right"),
    ):
        if size is None or out_size is None:
            if int_attr(node, "ceil_mode", 0):
                require(not average, "ceil_mode of an average over a map whose size is known at run time only")
                params["pad_mode"] = 0
            continue
        needed = (out_size - 1) * params[f"stride_{side}"] + params[f"kernel_{side}"] - size - params[low]
        inside = not pads_count or needed <= params[high]
        require(inside, "count_include_pad, where ceil_mode makes windows reach beyond the padding")
        params[high] = max(0, needed)
    if average:
        params["avgpool_count_include_pad"] = int(pads_count)
    builder.bind(
        y, builder.add_layer("Pooling", "pool", [blob], pooling_type=int(average), **{"pad_mode": 1, **params})
    )


@lower_op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(builder: NetBuilder, node: gs.Node) -> None:
    """Adaptive pooling to one cell; ncnn's global pooling would drop the axes."""
    blob = builder.blob(node.inputs[0])
    require_map(blob.shape, f"'{node.inputs[0].name}'")
    builder.bind(node.outputs[0], adaptive(builder, blob, [1, 1], average=node.op == "GlobalAveragePool"))


@lower_op("segc::AdaptiveAvgPool2d")
def adaptive_avg_pool(builder: NetBuilder, node: gs.Node) -> None:
    """Pooling with adaptive_pooling, whose bins are PyTorch's."""
    blob = builder.blob(node.inputs[0])
    require_map(blob.shape, f"'{node.inputs[0].name}'")
    output_size = int_list_attr(node, "output_size", ())
    sides = [side if bins == -1 else bins for bins, side in zip(output_size, blob.shape[1:], strict=True)]
    builder.bind(node.outputs[0], adaptive(builder, blob, sides, average=True))


def adaptive(builder: NetBuilder, blob: Blob, sides: list[Dim], *, average: bool) -> Blob:
    """Adaptive Pooling to this height and width."""
    sizes: dict[str, Any] = {
        name: side for name, side in zip(("out_h", "out_w"), sides, strict=True) if side is not None
    }
    require(len(sizes) == 2, "adaptive pooling that keeps a side known at run time only")
    return builder.add_layer("Pooling", "pool", [blob], pooling_type=int(average), adaptive_pooling=1, **sizes)


@lower_op("DepthToSpace")
def depth_to_space(builder: NetBuilder, node: gs.Node) -> None:
    """PixelShuffle."""
    mode = {"CRD": 0, "DCR": 1}[text(node, "mode", "DCR")]
    blob = builder.blob(node.inputs[0])
    require_map(blob.shape, f"'{node.inputs[0].name}'")
    size = int_attr(node, "blocksize", 1)
    builder.bind(node.outputs[0], builder.add_layer("PixelShuffle", "shuffled", [blob], upscale_factor=size, mode=mode))


@lower_op("SpaceToDepth")
def space_to_depth(builder: NetBuilder, node: gs.Node) -> None:
    """Reorg."""
    blob = builder.blob(node.inputs[0])
    require_map(blob.shape, f"'{node.inputs[0].name}'")
    builder.bind(
        node.outputs[0], builder.add_layer("Reorg", "reorged", [blob], stride=int_attr(node, "blocksize", 1), mode=1)
    )


@lower_op("GridSample")
def grid_sample(builder: NetBuilder, node: gs.Node) -> None:
    """GridSample of a map; grid: (1, h, w, 2)."""
    x, grid = node.inputs
    blob = builder.blob(x)
    require_map(blob.shape, f"'{x.name}'")
    inputs = [blob, builder.align_axes(grid, grid.shape, (1, 2, 3))]
    params: dict[str, Any] = {
        "sample_type": SAMPLE_MODES[text(node, "mode", "linear")],
        "padding_mode": PADDING_MODES[text(node, "padding_mode", "zeros")],
        "align_corner": int_attr(node, "align_corners", 0),
    }
    builder.bind(node.outputs[0], builder.add_layer("GridSample", "sampled", inputs, **params))


@lower_op("Resize")
def resize(builder: NetBuilder, node: gs.Node) -> None:
    """Interp, by the sizes or the scales of the node."""
    x, y = node.inputs[0], node.outputs[0]
    blob = builder.blob(x)
    require_map(blob.shape, f"'{x.name}'")
    require(int_attr(node, "antialias", 0) == 0, "antialias is 1")
    require(int_attr(node, "exclude_outside", 0) == 0, "exclude_outside is 1")
    require(text(node, "keep_aspect_ratio_policy", "stretch") == "stretch", "it keeps the aspect ratio")
    before, after = dims(x.shape), dims(y.shape)
    require(compatible(before[:2], after[:2]), "it resizes more than height and width")
    scales = _constant_scales(node)
    resize_type, align_corner = _interpolation(node, before[2:], after[2:], scales)
    params: dict[str, Any] = {"resize_type": resize_type, "align_corner": align_corner}
    inputs = [blob]
    # sizes and scales give the same coordinates where the scaled sides are whole numbers
    if scales is not None and _scaled(before[2:], scales) != after[2:]:
        params.update(height_scale=scales[0], width_scale=scales[1])
    elif None not in after:
        params.update(output_height=after[2], output_width=after[3])
    else:
        size_inputs = SizeInputs(x)
        params["size_expr"] = size_inputs.expression(_requested_sides(node)[::-1])
        inputs += [builder.blob(tensor) for tensor in size_inputs.tensors[1:]]
    builder.bind(y, builder.add_layer("Interp", "resized", inputs, **params))


def _requested_sides(node: gs.Node) -> list[Size]:
    """Height and width that a Resize by sizes asks for."""
    require(len(node.inputs) > 3, "neither sizes nor scales are given")
    sizes = sizes_of(node.inputs[3])
    axes = [axis % 4 for axis in int_list_attr(node, "axes", range(4))]
    by_axis = dict(zip(axes, sizes, strict=True))
    return [by_axis.get(axis, RuntimeDim(node.inputs[0], axis)) for axis in (2, 3)]


def _constant_scales(node: gs.Node) -> tuple[float, float] | None:
    """The scales of height and width; None for a Resize by sizes. Raises Refused for scales computed at run time."""
    if optional(node, 3) is not None:
        return None
    scales = optional(node, 2)
    if not isinstance(scales, gs.Constant):
        raise Refused("its scales are computed at run time")
    values = [float(v) for v in scales.values]
    axes = [axis % 4 for axis in int_list_attr(node, "axes", range(4))]
    by_axis = dict(zip(axes, values, strict=True))
    return by_axis.get(2, 1.0), by_axis.get(3, 1.0)


def _scaled(sides: Shape, scales: tuple[float, float]) -> Shape:
    """The scaled sides where they are known whole numbers, (-1, -1) otherwise."""
    products = [None if side is None else side * scale for side, scale in zip(sides, scales, strict=True)]
    if any(p is None or p != int(p) for p in products):
        return (-1, -1)
    return tuple(int(p) for p in products if p is not None)


def _interpolation(node: gs.Node, before: Shape, after: Shape, scales: tuple[float, float] | None) -> tuple[int, int]:
    """ncnn's (resize_type, align_corner); before, after: (h, w). Raises Refused for coordinates that ncnn lacks."""
    mode = text(node, "mode", "nearest")
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        _require_floor_nearest(node, coordinates, before, after, scales)
        return RESIZE_MODES[mode], 0
    if mode == "cubic":
        a = float(node.attrs.get("cubic_coeff_a", -0.75))
        require(a == -0.75, f"cubic_coeff_a is {a}, ncnn's is -0.75")
    if coordinates == "align_corners":
        return RESIZE_MODES[mode], 1
    # pytorch_half_pixel differs from half_pixel only where a side shrinks to 1 cell, which a run-time size may do
    shrinks_to_one = any(new in (1, None) and old != 1 for old, new in zip(before, after, strict=True))
    if coordinates == "pytorch_half_pixel" and not shrinks_to_one:
        coordinates = "half_pixel"
    one_cell = before == (1, 1)  # its value is the same at all coordinates
    require(coordinates == "half_pixel" or one_cell, f"coordinate_transformation_mode {coordinates} with mode {mode}")
    return RESIZE_MODES[mode], 0


def _require_floor_nearest(
    node: gs.Node, coordinates: str, before: Shape, after: Shape, scales: tuple[float, float] | None
) -> None:
    """Raise Refused unless the node picks the cells that ncnn picks, which floors asymmetric coordinates.

    With integer factors half_pixel coordinates with round_prefer_floor pick the same cells.
    """
    rounding = text(node, "nearest_mode", "round_prefer_floor")
    if (coordinates, rounding) == ("asymmetric", "floor") or before == (1, 1):
        return
    integer_factors = (
        all(scale == int(scale) for scale in scales)
        if scales is not None
        else all(old is not None and new is not None and new % old == 0 for old, new in zip(before, after, strict=True))
    )
    half_pixel = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding == "round_prefer_floor"
    require(half_pixel and integer_factors, f"nearest with coordinates {coordinates} and nearest_mode {rounding}")
