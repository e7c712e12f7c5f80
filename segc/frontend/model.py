"""What the front end knows about a model besides its graph; it becomes the torch-free part of the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from segc.bundle.preprocessing import Loader, ResizeStep, Step

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from segc.bundle.manifest import Manifest

DEFAULT_SHAPE = (512, 512)


@dataclass(frozen=True)
class ModelInfo:
    """Made once by a front end; a step that learns more makes a new one with `dataclasses.replace`.

    Sizes are in pixels, (height, width) unless a comment says otherwise.

    channels: what the head gives; one channel means foreground where sigmoid(logit) > threshold.
    shifted: the logits are probabilities less 0.5, see `of_shifted`. named_by, coloured_by: who gave the class
    names and colours, where a number of them that does not fit is an error.
    batch: of a static engine. fixed: the height and width that an ONNX file prescribes, None where it leaves one open.
    resize_scale: (width, height) as mmseg writes it; None feeds images as they are. steps: in place of it, where the
    test pipeline does more. loader, table, pad_kept: see segc.bundle.preprocessing.
    minimum, divisor: of heights and widths a dynamic engine takes.
    direct: logits, of whatever size, are resized to the image in one step.
    output, values: of several outputs the one that the user named, and what it holds. quantized: the graph computes
    with integers. dequantized: the user asked for floats instead. random_seed: of random numbers that were drawn once.
    weights: "checkpoint", "random" (fixed seed), or "source" (the file itself holds them).
    """

    kind: str
    name: str
    sha256: str
    channels: int = 0
    threshold: float | None = None
    shifted: bool = False
    classes: tuple[str, ...] = ()
    named_by: str = ""
    coloured_by: str = ""
    palette: tuple[tuple[int, int, int], ...] = ()
    channel_order: str = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize_scale: tuple[int, int] | None = None
    keep_ratio: bool = True
    pad_size: tuple[int, int] | None = None
    pad_divisor: int | None = None
    pad_value: float = 0.0
    pad_kept: bool = False
    loader: Loader | None = None
    steps: tuple[Step, ...] | None = None
    table: tuple[tuple[float, ...], ...] | None = None
    align_corners: bool = False
    direct: bool = False
    slide_crop: tuple[int, int] | None = None
    slide_stride: tuple[int, int] | None = None
    mode: str = "whole"
    shape: tuple[int, int] = DEFAULT_SHAPE
    in_channels: int = 3
    batch: int = 1
    fixed: tuple[int | None, int | None] = (None, None)
    minimum: tuple[int, int] = (1, 1)
    divisor: int = 1
    test_cfg: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    values: str | None = None
    quantized: bool = False
    dequantized: bool = False
    random_seed: int | None = None
    weights: str = "source"
    checkpoint: Mapping[str, str] | None = None
    rewrites: tuple[str, ...] = ()

    @property
    def chain(self) -> tuple[Step, ...]:
        """What the source does to a decoded image before normalization, in order."""
        if self.steps is not None or self.resize_scale is None:
            return self.steps or ()
        return (ResizeStep(scale=self.resize_scale, keep_ratio=self.keep_ratio),)


class Notes:
    """Things the user should read, in full sentences: in the order they came up, each once."""

    def __init__(self, *sentences: str) -> None:
        self._sentences: dict[str, None] = dict.fromkeys(sentences)

    def add(self, *sentences: str) -> None:
        """Append the sentences that are not there yet."""
        self._sentences.update(dict.fromkeys(sentences))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)


@dataclass(frozen=True)
class Source:
    """A model to compile: `module` maps (N, C, H, W) to logits in eager PyTorch, or `onnx_model` is given as it is.

    notes: what came up when it was opened, for the user. on_files: the source's own way from a file to a mask.
    """

    info: ModelInfo
    module: nn.Module | None = None
    onnx_model: onnx.ModelProto | None = None
    notes: tuple[str, ...] = ()
    on_files: OnFiles | None = None


@dataclass(frozen=True)
class OwnMask:
    """What the source's own code makes of a file. tensor: what enters the network, None where that is not seen.

    logits: (C, H, W) at the size of the mask (H, W), None where they are not seen.
    """

    tensor: np.ndarray | None
    mask: np.ndarray
    logits: np.ndarray | None


class NotComparable(Exception):  # noqa: N818 - a reason, which becomes a note
    """Why a source's own way from a file to a mask cannot be compared with `segment`."""


class OnFiles(Protocol):
    """A source's own way from a file to a mask, for comparison with `segment`. shrinks: `mask` heeds `shrink`."""

    shrinks: bool

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the network: (1, C, H, W). fixed: (height, width) that images get instead of the source's."""

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """The mask, with the inference mode of `how`. shrink: divides the sizes that the source resizes images to."""


def with_found(info: ModelInfo, threshold: float | None, *, shifted: bool) -> ModelInfo:
    """`info` with what its output turned out to be: a threshold of its own, or probabilities less 0.5."""
    if shifted:
        wanted = 0.5 if info.threshold is None else info.threshold
        return replace(info, threshold=of_shifted(wanted), shifted=True)
    return info if threshold is None or info.threshold is not None else replace(info, threshold=threshold)


def of_shifted(threshold: float) -> float:
    """The threshold for sigmoid(p - 0.5) that decides as `threshold` does for p."""
    return 1 / (1 + math.exp(0.5 - threshold))


def generic_classes(channels: int) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours for a model that brings none: 'class 0' … with the PASCAL VOC colour map (RGB)."""
    count = max(channels, 2)
    return tuple(f"class {i}" for i in range(count)), tuple(_voc_colour(i) for i in range(count))


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """An int or a sequence of two as (height, width)."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


def _voc_colour(index: int) -> tuple[int, int, int]:
    """Spread the bits of the index over the high bits of the three channels, as the VOC devkit does."""
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> 0 & 1) << (7 - bit)
        green |= (index >> 1 & 1) << (7 - bit)
        blue |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return red, green, blue
