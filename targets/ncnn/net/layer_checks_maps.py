"""Contracts of the layers that work on maps (c, h, w): convolution, pooling, resizing, sampling, shuffling."""

from __future__ import annotations

from segc.targets.ncnn.net.layer_checks import arity, contract, spatial, weighs
from segc.targets.ncnn.net.net import Dim, Layer, Shape, require, text


def _sides(layer: Layer) -> list[tuple[int, int, int, int]]:
    """Kernel, dilation, stride and both pads together, of rows and of columns."""
    found = []
    for side, low, high in (("h", "pad_top", "pad_bottom"), ("w", "pad_left", "pad_right")):
        kernel, dilation, stride = (layer.whole(f"{what}_{side}", 1) for what in ("kernel", "dilation", "stride"))
        require(min(kernel, dilation, stride) >= 1, f"{layer.type} with kernel {kernel} and stride {stride}")
        require(min(layer.whole(low, 0), layer.whole(high, 0)) >= 0, f"{layer.type} with negative pads")
        found.append((kernel, dilation, stride, layer.whole(low, 0) + layer.whole(high, 0)))
    return found


def windows(side: Dim, kernel: int, dilation: int, stride: int, pads: int) -> Dim:
    """How many windows fit on a side."""
    return None if side is None else (side + pads - dilation * (kernel - 1) - 1) // stride + 1


@contract("Convolution", "ConvolutionDepthWise")
def _convolution(layer: Layer) -> list[Shape]:
    dynamic = layer.whole("dynamic_weight", 0)
    biased = layer.whole("bias_term", 0)
    shapes = arity(layer, 1 + dynamic * (1 + biased))
    channels, height, width = spatial(layer, shapes[0])
    made, group = layer.whole("num_output", 0), layer.whole("group", 1)
    rows, cols = _sides(layer)
    require(isinstance(channels, int), f"{layer.type} of an unknown number of channels")
    assert channels is not None
    require(channels % group == 0 and made % group == 0, f"{channels} channels to {made} in {group} groups")
    if dynamic:
        wanted = (made, channels // group, rows[0], cols[0])
        require(shapes[1] == wanted, f"weights {text(shapes[1])}, {text(wanted)} wanted")
        weighs(layer)
    else:
        count = made * (channels // group) * rows[0] * cols[0]
        require(
            layer.whole("weight_data_size", 0) == count, f"{layer.whole('weight_data_size', 0)} weights, not {count}"
        )
        weighs(layer, count, *[made] * biased)
    return [(made, windows(height, *rows), windows(width, *cols))]


@contract("Deconvolution", "DeconvolutionDepthWise")
def _deconvolution(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    channels, height, width = spatial(layer, shape)
    made, group = layer.whole("num_output", 0), layer.whole("group", 1)
    require(isinstance(channels, int), f"{layer.type} of an unknown number of channels")
    assert channels is not None
    require(channels % group == 0 and made % group == 0, f"{channels} channels to {made} in {group} groups")
    sides = _sides(layer)
    count = channels * (made // group) * sides[0][0] * sides[1][0]
    require(layer.whole("weight_data_size", 0) == count, f"{layer.whole('weight_data_size', 0)} weights, not {count}")
    weighs(layer, count, *[made] * layer.whole("bias_term", 0))
    more = [layer.whole("output_pad_bottom", 0), layer.whole("output_pad_right", 0)]
    sizes = [
        None if side is None else (side - 1) * stride + dilation * (kernel - 1) + 1 - pads + extra
        for side, (kernel, dilation, stride, pads), extra in zip((height, width), sides, more, strict=True)
    ]
    return [(made, *sizes)]


@contract("Pooling")
def _pooling(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    channels, height, width = spatial(layer, shape)
    if layer.whole("adaptive_pooling", 0):
        bins = [layer.whole("out_h", 0), layer.whole("out_w", 0)]
        require(min(bins) >= 1, f"adaptive Pooling to {bins}")
        return [(channels, *bins)]
    rows, cols = _sides(layer)
    names = (("pad_top", "pad_bottom"), ("pad_left", "pad_right"))
    up = layer.whole("pad_mode", 0) == 0
    require(up or layer.whole("pad_mode", 0) == 1, "Pooling is written with pad modes 0 and 1 only")
    require(not up or layer.whole("pooling_type", 0) == 0, "averages that round up divide otherwise in ncnn")
    for (kernel, _, stride, _), (low, high) in zip((rows, cols), names, strict=True):
        require(layer.whole(low, 0) < kernel, f"Pooling pads {layer.whole(low, 0)} for a kernel of {kernel}")
        # rounding up, ncnn keeps windows that begin in the padding, unlike ONNX; here none can
        fits = not up or layer.whole(high, 0) + stride <= kernel
        require(fits, f"Pooling rounds up, and a window of {kernel} may begin in its padding")
    if up:
        rows, cols = ((k, d, s, pads + s - 1) for k, d, s, pads in (rows, cols))
    return [(channels, windows(height, *rows), windows(width, *cols))]


@contract("Interp")
def _interp(layer: Layer) -> list[Shape]:
    shape = layer.inputs[0].shape
    channels, height, width = spatial(layer, shape)
    if "size_expr" in layer.params:
        return [(channels, None, None)]
    arity(layer, 1)
    if "height_scale" in layer.params:
        scales = [layer.params["height_scale"], layer.params["width_scale"]]
        sizes = [
            None if side is None else int(side * float(scale))  # type: ignore[arg-type]
            for side, scale in zip((height, width), scales, strict=True)
        ]
        return [(channels, *sizes)]
    made = [layer.whole("output_height", 0), layer.whole("output_width", 0)]
    require(min(made) >= 1, f"Interp to {made}")
    return [(channels, *made)]


@contract("GridSample")
def _grid_sample(layer: Layer) -> list[Shape]:
    shape, grid = arity(layer, 2)
    channels, _, _ = spatial(layer, shape)
    planar = layer.whole("permute_fusion", 0) == 1
    pair = grid[0] if planar else grid[-1]
    require(len(grid) == 3 and pair == 2, f"GridSample at {text(grid)}")
    return [(channels, *(grid[1:] if planar else grid[:2]))]


@contract("PixelShuffle")
def _pixel_shuffle(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    channels, height, width = spatial(layer, shape)
    factor = layer.whole("upscale_factor", 1)
    require(channels is not None and channels % factor**2 == 0, f"PixelShuffle by {factor} of {text(shape)}")
    assert channels is not None
    sides = [None if side is None else side * factor for side in (height, width)]
    return [(channels // factor**2, *sides)]


@contract("Reorg")
def _reorg(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    channels, height, width = spatial(layer, shape)
    step = layer.whole("stride", 1)
    whole = all(side is None or side % step == 0 for side in (height, width))
    require(whole and channels is not None, f"Reorg by {step} of {text(shape)}")
    assert channels is not None
    return [(channels * step**2, *[None if side is None else side // step for side in (height, width)])]
