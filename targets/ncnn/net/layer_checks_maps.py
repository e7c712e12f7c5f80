"""Layer checks of the layers on maps (c, h, w): convolution, pooling, resizing, sampling, shuffling."""

from __future__ import annotations

import numpy as np

from segc.targets.ncnn.net.layer_checks import input_shapes, layer_check, map_axes, require_weights
from segc.targets.ncnn.net.net import Dim, Layer, Shape, require, shape_text


def _window_params(layer: Layer) -> list[tuple[int, int, int, int]]:
    """(kernel, dilation, stride, sum of both pads) of the rows, then of the columns."""
    axes = []
    for side, low, high in (("h", "pad_top", "pad_bottom"), ("w", "pad_left", "pad_right")):
        kernel, dilation, stride = (layer.int_param(f"{what}_{side}", 1) for what in ("kernel", "dilation", "stride"))
        require(min(kernel, dilation, stride) >= 1, f"{layer.type} with kernel {kernel} and stride {stride}")
        require(min(layer.int_param(low, 0), layer.int_param(high, 0)) >= 0, f"{layer.type} with negative pads")
        axes.append((kernel, dilation, stride, layer.int_param(low, 0) + layer.int_param(high, 0)))
    return axes


def window_count(side: Dim, kernel: int, dilation: int, stride: int, pads: int) -> Dim:
    """How many windows fit along a side; None for an unknown side."""
    return None if side is None else (side + pads - dilation * (kernel - 1) - 1) // stride + 1


@layer_check("Convolution", "ConvolutionDepthWise")
def _convolution(layer: Layer) -> list[Shape]:
    dynamic = layer.int_param("dynamic_weight", 0)
    biased = layer.int_param("bias_term", 0)
    shapes = input_shapes(layer, 1 + dynamic * (1 + biased))
    channels, height, width = map_axes(layer, shapes[0])
    out_channels, group = layer.int_param("num_output", 0), layer.int_param("group", 1)
    rows, cols = _window_params(layer)
    require(isinstance(channels, int), f"{layer.type} of an unknown number of channels")
    assert channels is not None
    require(
        channels % group == 0 and out_channels % group == 0, f"{channels} channels to {out_channels} in {group} groups"
    )
    if dynamic:
        wanted = (out_channels, channels // group, rows[0], cols[0])
        require(shapes[1] == wanted, f"weights {shape_text(shapes[1])}, not {shape_text(wanted)}")
        require_weights(layer)
    else:
        count = out_channels * (channels // group) * rows[0] * cols[0]
        require(
            layer.int_param("weight_data_size", 0) == count,
            f"{layer.int_param('weight_data_size', 0)} weights, not {count}",
        )
        require_weights(layer, count, *[out_channels] * biased, *_scale_counts(layer, out_channels, group))
    return [(out_channels, window_count(height, *rows), window_count(width, *cols))]


def _scale_counts(layer: Layer, out_channels: int, group: int) -> list[int]:
    """The sizes of the scales of an int8 convolution: of its weights, its input, and its output where that is int8."""
    term = layer.int_param("int8_scale_term", 0)
    if not term:
        return []
    depthwise = layer.type == "ConvolutionDepthWise"
    require(term % 100 == (1 if depthwise else 2), f"int8_scale_term {term} of {layer.type}")
    require(layer.weights[0].values.dtype == np.int8, "an int8 convolution with weights of another type")
    return [group if depthwise else out_channels, 1, *[1] * (term > 100)]


@layer_check("Deconvolution", "DeconvolutionDepthWise")
def _deconvolution(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    channels, height, width = map_axes(layer, shape)
    out_channels, group = layer.int_param("num_output", 0), layer.int_param("group", 1)
    require(isinstance(channels, int), f"{layer.type} of an unknown number of channels")
    assert channels is not None
    require(
        channels % group == 0 and out_channels % group == 0, f"{channels} channels to {out_channels} in {group} groups"
    )
    rows, cols = _window_params(layer)
    count = channels * (out_channels // group) * rows[0] * cols[0]
    require(
        layer.int_param("weight_data_size", 0) == count,
        f"{layer.int_param('weight_data_size', 0)} weights, not {count}",
    )
    require_weights(layer, count, *[out_channels] * layer.int_param("bias_term", 0))
    output_pads = [layer.int_param("output_pad_bottom", 0), layer.int_param("output_pad_right", 0)]
    sizes = [
        None if side is None else (side - 1) * stride + dilation * (kernel - 1) + 1 - pads + extra
        for side, (kernel, dilation, stride, pads), extra in zip(
            (height, width), (rows, cols), output_pads, strict=True
        )
    ]
    return [(out_channels, *sizes)]


@layer_check("Pooling")
def _pooling(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    channels, height, width = map_axes(layer, shape)
    if layer.int_param("adaptive_pooling", 0):
        bins = [layer.int_param("out_h", 0), layer.int_param("out_w", 0)]
        require(min(bins) >= 1, f"adaptive Pooling to {bins}")
        return [(channels, *bins)]
    rows, cols = _window_params(layer)
    names = (("pad_top", "pad_bottom"), ("pad_left", "pad_right"))
    ceil = layer.int_param("pad_mode", 0) == 0
    require(ceil or layer.int_param("pad_mode", 0) == 1, "Pooling is written with pad modes 0 and 1 only")
    is_max = layer.int_param("pooling_type", 0) == 0
    require(not ceil or is_max, "with ceil_mode ncnn divides averages by other window sizes than ONNX")
    for (kernel, _, stride, _), (low, high) in zip((rows, cols), names, strict=True):
        require(layer.int_param(low, 0) < kernel, f"Pooling pads {layer.int_param(low, 0)} for a kernel of {kernel}")
        # with ceil_mode ncnn keeps windows that begin in the padding, unlike ONNX; make sure that none can
        fits = not ceil or layer.int_param(high, 0) + stride <= kernel
        require(fits, f"Pooling with ceil_mode, and a window of {kernel} may begin in its padding")
    if ceil:
        rows, cols = ((k, d, s, pads + s - 1) for k, d, s, pads in (rows, cols))
    return [(channels, window_count(height, *rows), window_count(width, *cols))]


@layer_check("Interp")
def _interp(layer: Layer) -> list[Shape]:
    shape = layer.inputs[0].shape
    channels, height, width = map_axes(layer, shape)
    if "size_expr" in layer.params:
        return [(channels, None, None)]
    input_shapes(layer, 1)
    if "height_scale" in layer.params:
        scales = [layer.params["height_scale"], layer.params["width_scale"]]
        sizes = [
            None if side is None else int(side * float(scale))  # type: ignore[arg-type]
            for side, scale in zip((height, width), scales, strict=True)
        ]
        return [(channels, *sizes)]
    target = [layer.int_param("output_height", 0), layer.int_param("output_width", 0)]
    require(min(target) >= 1, f"Interp to {target}")
    return [(channels, *target)]


@layer_check("GridSample")
def _grid_sample(layer: Layer) -> list[Shape]:
    shape, grid = input_shapes(layer, 2)
    channels, _, _ = map_axes(layer, shape)
    planar = layer.int_param("permute_fusion", 0) == 1  # x and y as two planes, not as pairs
    pair = grid[0] if planar else grid[-1]
    require(len(grid) == 3 and pair == 2, f"GridSample at {shape_text(grid)}")
    return [(channels, *(grid[1:] if planar else grid[:2]))]


@layer_check("PixelShuffle")
def _pixel_shuffle(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    channels, height, width = map_axes(layer, shape)
    factor = layer.int_param("upscale_factor", 1)
    require(channels is not None and channels % factor**2 == 0, f"PixelShuffle by {factor} of {shape_text(shape)}")
    assert channels is not None
    sides = [None if side is None else side * factor for side in (height, width)]
    return [(channels // factor**2, *sides)]


@layer_check("Reorg")
def _reorg(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    channels, height, width = map_axes(layer, shape)
    step = layer.int_param("stride", 1)
    divisible = all(side is None or side % step == 0 for side in (height, width))
    require(divisible and channels is not None, f"Reorg by {step} of {shape_text(shape)}")
    assert channels is not None
    return [(channels * step**2, *[None if side is None else side // step for side in (height, width)])]
