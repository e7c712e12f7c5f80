"""mmcv's and mmseg's test-time transforms on one image, with the same calls of NumPy and OpenCV, so bit for bit.

An image is (H, W) or (H, W, C), of the type that the loader gave or the step before made. Nothing is done in place.
One deviation: mmcv fails when keep_ratio rounds a side to 0, here it is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segc.bundle import preprocessing as steps
from segc.errors import Code, MissingPackageError, ShapeError, UsageError
from segc.runtime.own_transforms import Own, run_own

Array = npt.NDArray[Any]

_INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}  # fmt: skip
_BORDER = {
    "constant": cv2.BORDER_CONSTANT, "edge": cv2.BORDER_REPLICATE, "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}  # fmt: skip


def apply(image: Array, chain: Sequence[steps.Step], own: Own | None = None) -> Array:
    """The image after all steps. own: functions of the steps that are Python classes.

    Raises ShapeError or UsageError where a step cannot take it.
    """
    for step in chain:
        try:
            image = run_own(image, step, own) if isinstance(step, steps.OwnStep) else _DONE[type(step)](image, step)
        except cv2.error as error:
            raise ShapeError(
                f"the step '{step.step}' cannot take an image of shape {image.shape} and type {image.dtype}",
                code=Code.INPUT_SHAPE, because=str(error.err), so="give an image like those the model was trained on",
            ) from error  # fmt: skip
    return image


def resized_size(size: tuple[int, ...], scale: tuple[int, int], keep_ratio: bool) -> tuple[int, int]:
    """The (height, width) that mmcv's Resize gives an image of `size` (height, width). scale: (width, height)."""
    if not keep_ratio:
        return scale[1], scale[0]
    factor = min(max(scale) / max(size), min(scale) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def _resize(image: Array, step: steps.ResizeStep) -> Array:
    height, width = image.shape[:2]
    if step.scale is not None:
        scale = step.scale
    else:
        assert step.factor is not None
        scale = int(width * step.factor[0] + 0.5), int(height * step.factor[1] + 0.5)
    size = resized_size((height, width), scale, step.keep_ratio)
    return _to_size(image, size, step.interpolation, step.backend)


def _to_size(image: Array, size: tuple[int, int], interpolation: str, backend: str = "cv2") -> Array:
    if backend == "cv2":
        return np.asarray(cv2.resize(image, size[::-1], interpolation=_INTERPOLATION[interpolation]))
    try:
        from PIL import Image as Pillow
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "resizing as this model does needs Pillow", code=Code.OPTIONAL_PACKAGE, so="pip install pillow"
        ) from error
    if image.dtype != np.uint8:
        raise UsageError(f"Pillow resizes images of 8 bits only, the image is {image.dtype}", code=Code.INPUT_TYPE)
    kind = Pillow.Resampling[interpolation.upper()]
    return np.array(Pillow.fromarray(image).resize(size[::-1], kind))


def _to_multiple(image: Array, step: steps.ResizeToMultiple) -> Array:
    height, width = (-(-side // step.divisor) * step.divisor for side in image.shape[:2])
    return _to_size(image, (height, width), step.interpolation)


def _shortest_edge(image: Array, step: steps.ResizeShortestEdge) -> Array:
    height, width = image.shape[:2]
    size = step.scale * 1.0
    scale = size / min(height, width)
    high, wide = (size, scale * width) if height < width else (scale * height, size)
    if max(high, wide) > step.most:
        scale = step.most * 1.0 / max(high, wide)
        high, wide = high * scale, wide * scale
    bounds = int(wide + 0.5), int(high + 0.5)
    # mmseg hands these on to a Resize that keeps the ratio
    return _to_size(image, resized_size((height, width), bounds, True), "bilinear")


def pillow_size(size: tuple[int, ...], step: steps.PillowResize) -> tuple[int, int]:
    """The (height, width) that torchvision or transformers give an image of `size` (height, width)."""
    height, width = size
    if step.scale is not None:
        wide, high = step.scale
        if not step.keep_ratio:
            return high, wide
        factor_high, factor_wide = high / height, wide / width
        factor = factor_wide if abs(1 - factor_wide) < abs(1 - factor_high) else factor_high
        return tuple(max(1, round(factor * side / step.multiple)) * step.multiple for side in size)  # type: ignore[return-value]
    assert step.shortest is not None
    short, exact = step.shortest, float(step.shortest)
    if step.longest is not None and max(size) / min(size) * short > step.longest:
        exact = step.longest * min(size) / max(size)
        short = round(exact)
    long = max(size) if min(size) == short else int(exact * max(size) / min(size))
    made = (short, long) if height <= width else (long, short)
    return tuple(-(-max(1, side) // step.multiple) * step.multiple for side in made)  # type: ignore[return-value]


def _pillow_resize(image: Array, step: steps.PillowResize) -> Array:
    return _to_size(image, pillow_size(image.shape[:2], step), step.interpolation, "pillow")


def _pad(image: Array, step: steps.PadStep) -> Array:
    height, width = image.shape[:2]
    high, wide = (max(height, width),) * 2 if step.square else (height, width)
    if step.divisor is not None:
        high, wide = (-(-side // step.divisor) * step.divisor for side in (high, wide))
    elif step.size is not None:
        wide, high = step.size
    channels = 1 if image.ndim == 2 else image.shape[2]
    values = (step.values * channels if len(step.values) == 1 else step.values)[:channels]
    below, right = max(high - height, 0), max(wide - width, 0)
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, _BORDER[step.mode], value=values)
    return np.asarray(padded)


def _center_crop(image: Array, step: steps.CenterCrop) -> Array:
    height, width = image.shape[:2]
    wide, high = min(step.size[0], width), min(step.size[1], height)
    margins = height - high, width - wide
    top, left = (margin // 2 if step.floor else round(margin / 2.0) for margin in margins)
    return image[top : top + high, left : left + wide]


def _normalize(image: Array, step: steps.Normalize) -> Array:
    made = image.astype(np.float32)
    mean = np.asarray(step.mean, np.float32).reshape(1, -1).astype(np.float64)
    inverse = 1 / np.asarray(step.std, np.float32).reshape(1, -1).astype(np.float64)
    if step.swap:
        made = np.asarray(cv2.cvtColor(made, cv2.COLOR_BGR2RGB))
    made = np.asarray(cv2.subtract(made, mean))
    return np.asarray(cv2.multiply(made, inverse))


def _gray(image: Array, step: steps.Gray) -> Array:
    if image.ndim != 3 or image.shape[2] != len(step.weights):
        raise ShapeError(
            f"the image has shape {image.shape}, the model mixes {len(step.weights)} channels to grey",
            code=Code.INPUT_SHAPE,
        )
    grey: Array = (image * np.array(step.weights).reshape(1, 1, -1)).sum(2, keepdims=True)
    return np.repeat(grey, step.channels, axis=2)


def _clahe(image: Array, step: steps.Clahe) -> Array:
    planes = image[:, :, None] if image.ndim == 2 else image
    equalize = cv2.createCLAHE(step.limit, step.grid)
    made = np.empty_like(planes)
    for channel in range(planes.shape[2]):
        made[:, :, channel] = equalize.apply(np.array(planes[:, :, channel], dtype=np.uint8))
    return made.reshape(image.shape)


def _gamma(image: Array, step: steps.Gamma) -> Array:
    inverse = 1.0 / step.gamma
    table = np.array([(i / 255.0) ** inverse * 255 for i in np.arange(256)]).astype("uint8")
    return np.asarray(cv2.LUT(np.array(image, dtype=np.uint8), table))


def _rerange(image: Array, step: steps.Rerange) -> Array:
    low, high = np.min(image), np.max(image)
    if not low < high:
        raise UsageError(
            "the image has one value only, the model stretches its values to a range", code=Code.INPUT_TYPE
        )
    made: Array = (image - low) / (high - low)
    return made * (step.high - step.low) + step.low


_DONE: dict[type, Callable[[Array, Any], Array]] = {
    steps.ResizeStep: _resize, steps.ResizeToMultiple: _to_multiple, steps.ResizeShortestEdge: _shortest_edge,
    steps.PillowResize: _pillow_resize,
    steps.PadStep: _pad, steps.CenterCrop: _center_crop, steps.Normalize: _normalize, steps.Gray: _gray,
    steps.Clahe: _clahe, steps.Gamma: _gamma, steps.Rerange: _rerange,
}  # fmt: skip
