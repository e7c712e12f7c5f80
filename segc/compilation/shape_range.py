"""The range of sizes of a dynamic engine: its default, and its adjustment to the model."""

from __future__ import annotations

from collections.abc import Callable

from segc.bundle.preprocessing import PadStep, PillowResize, ResizeShortestEdge, ResizeStep
from segc.errors import Code, UsageError
from segc.frontend.model import ModelInfo
from segc.targets.protocol import ShapeRange

Size = tuple[int, int]


def usual(info: ModelInfo, best: Size) -> ShapeRange:
    """The range without --shape-range, as (height, width). best: the size that the model is traced at.

    It reaches from half of `best` to the size that the test pipeline resizes images to. If the pipeline keeps the ratio
    of an image, height and width may both be as long as the longer side. A model with a sliding window takes its crop
    only.
    """
    if info.mode == "slide" and info.slide_crop is not None:
        return ShapeRange(info.slide_crop, info.slide_crop, info.slide_crop)
    most, ratio = best, False
    for step in info.chain:
        if isinstance(step, ResizeStep) and step.scale is not None:
            most, ratio = step.scale[::-1], step.keep_ratio
        elif isinstance(step, ResizeShortestEdge):
            most, ratio = (step.most, step.most), True
        elif isinstance(step, PillowResize):
            most, ratio = _largest(step, best)
        elif isinstance(step, PadStep) and step.size is not None:
            most = max(most[0], step.size[1]), max(most[1], step.size[0])
    most = (max(most),) * 2 if ratio else most
    least = (-(-best[0] // 2), -(-best[1] // 2))
    return ShapeRange(least, best, (max(most[0], best[0]), max(most[1], best[1])))


def _largest(step: PillowResize, best: Size) -> tuple[Size, bool]:
    """The largest (height, width) that the step may give, and whether it keeps the ratio of images."""
    if step.scale is not None:
        return step.scale[::-1], step.keep_ratio
    assert step.shortest is not None
    long = -(-(step.longest or max(*best, step.shortest)) // step.multiple) * step.multiple
    return (long, long), True


def fitted(wanted: ShapeRange, info: ModelInfo) -> ShapeRange:
    """The range limited to sizes that the model takes: multiples of its divisor, not below its minimum.

    Raises UsageError if no size remains.
    """
    step = info.divisor
    least = _each(wanted.least, lambda at, side: -(-max(side, info.minimum[at]) // step) * step)
    most = _each(wanted.most, lambda at, side: side // step * step)
    if any(low > high for low, high in zip(least, most, strict=True)):
        raise UsageError(
            f"the model takes no size from {_shown(wanted.least)} to {_shown(wanted.most)}",
            code=Code.UNSUPPORTED_BY_MODEL,
            because=f"heights and widths are multiples of {step}, and at least {_shown(info.minimum)}",
            so=f"--shape-range {_shown(least)}:{_shown(least)}:{_shown(least)}, or a larger one",
        )
    best = _each(wanted.best, lambda at, side: min(max(-(-side // step) * step, least[at]), most[at]))
    return ShapeRange(least, best, most)


def clamped(size: Size, within: ShapeRange | None) -> Size:
    """The size in the range that is closest to `size`."""
    if within is None:
        return size
    return _each(size, lambda at, side: min(max(side, within.least[at]), within.most[at]))


def _each(size: Size, rule: Callable[[int, int], int]) -> Size:
    return rule(0, size[0]), rule(1, size[1])


def _shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
