"""A picture segmented in windows at its own resolution, a part of it at a time, with mmseg's sliding window.

Every part of the mask has the numbers that the whole would have: at each pixel the same windows are summed in the same
order. So parts may be worked on in any order, again, or on other machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from segc.bundle import preprocessing as steps
from segc.bundle.manifest import Manifest
from segc.errors import Code, UsageError
from segc.runtime.images import as_loaded
from segc.runtime.preprocessing import Floats, padding, preprocess
from segc.runtime.resize import Mask
from segc.runtime.slide import SlidingRows, starts

if TYPE_CHECKING:
    from segc.runtime.engine import Engine

Array = npt.NDArray[Any]
Tile = tuple[int, int] | Literal["model"]

_SUMS_BYTES = 192 << 20  # of summed logits that a part's columns hold, where a window is not larger
_BAND_BYTES = 16 << 20  # of averaged logits that become class numbers at a time
_GRID_ROWS = 8  # rows of windows in a part: what a killed run does again
_LOCAL = (steps.Normalize, steps.Gray, steps.Gamma)  # they treat every pixel alone
_RESIZES = (steps.ResizeStep, steps.ResizeToMultiple, steps.ResizeShortestEdge, steps.PillowResize)


class Picture(Protocol):
    """Pixels that are read where they are asked for, as `Engine.read` would give them for the whole file."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, rows: slice, columns: slice) -> Array:
        """(h, w) or (h, w, channels)."""


@dataclass(frozen=True)
class ArrayPicture:
    """An array in memory as `Picture`."""

    pixels: Array

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, rows: slice, columns: slice) -> Array:
        """A view."""
        return self.pixels[rows, columns]


@dataclass(frozen=True)
class Windows:
    """Windows of `crop` every `stride` pixels, both (height, width). resizes: steps of the model that are left out."""

    crop: tuple[int, int]
    stride: tuple[int, int]
    resizes: tuple[str, ...]

    @property
    def words(self) -> str:
        """For people."""
        shown = f"windows of {_x(self.crop)} pixels every {_x(self.stride)} pixels, at the picture's own resolution"
        return shown + (f", without the model's '{self.resizes[0]}'" if self.resizes else "")


def windows_of(manifest: Manifest, tile: Tile | None = None, stride: tuple[int, int] | None = None) -> Windows:
    """The windows of a bundle. tile: a size, or 'model' (as None) for its own; stride: the bundle's or 2/3 of the size.

    Raises UsageError where the bundle has no logits, needs the whole picture, or does not take such windows.
    """
    inference, given = manifest.inference, None if tile == "model" else tile
    if given is not None:
        _require_accepted(given, manifest)
    high, wide = manifest.input.shape[2], manifest.input.shape[3]
    own = inference.crop or (None if high is None or wide is None else (high, wide))
    if (crop := given or own) is None:
        raise _refused("the bundle names no size of windows", "it takes whole pictures of any size", "give --tile HxW")
    if stride is None:
        same = inference.stride is not None and crop == inference.crop
        stride = inference.stride if same else (max(1, round(crop[0] * 2 / 3)), max(1, round(crop[1] * 2 / 3)))
    assert stride is not None
    if not all(1 <= step <= side for step, side in zip(stride, crop, strict=True)):
        raise _refused(
            f"windows of {_x(crop)} pixels every {_x(stride)} pixels leave gaps", "", "give a --stride up to the size"
        )
    _require_logits(manifest)
    left_out = []
    for step in manifest.preprocessing.chain:
        if isinstance(step, _RESIZES):
            left_out.append(step.step)
        elif not isinstance(step, _LOCAL):
            raise _refused(
                f"the model's step '{step.step}' needs the whole picture",
                "windows see a part of it each", "cut the picture into images and segment those",
            )  # fmt: skip
    return Windows(crop, stride, tuple(left_out))


def _require_logits(manifest: Manifest) -> None:
    output, how = manifest.output, manifest.preprocessing
    if output.kind == "mask" and output.decode is None and output.beside is None:
        raise _refused("the bundle gives masks", "windows that overlap average logits", "compile with --output logits")
    if manifest.input.dtype != "float32":
        raise _refused(
            "the engine takes images of 8 bits", "windows are normalized by segc", "compile without --input uint8"
        )
    if how.pad.kept:
        raise _refused("the model's padding stays in its logits", "", "cut the picture into images and segment those")


def _require_accepted(crop: tuple[int, int], manifest: Manifest) -> None:
    for axis, side in ((2, crop[0]), (3, crop[1])):
        low, high = manifest.input.limits(axis)
        divisor = manifest.input.divisor(axis)
        if side < low or (high is not None and side > high) or side % divisor:
            limits = str(low) if low == high else f"{low} to {high}" if high else f"{low} and more"
            raise _refused(
                f"the engine does not take windows of {_x(crop)} pixels",
                f"along {'height' if axis == 2 else 'width'} it takes {limits}"
                + (f", multiples of {divisor}" if divisor > 1 else ""),
                "give another --tile, or compile the model with --dynamic or for this --shape",
            )


def _refused(what: str, because: str, so: str) -> UsageError:
    return UsageError(what, code=Code.WINDOWS, because=because, so=so)


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True, order=True)
class Part:
    """A rectangle of the picture; ends are excluded."""

    left: int
    right: int
    top: int
    bottom: int


def parts(picture: tuple[int, int], windows: Windows, manifest: Manifest) -> list[Part]:
    """The picture in parts that fit into memory, column by column; each begins where windows begin."""
    height, width = picture
    bottom, right = padding(picture, manifest.preprocessing.pad)
    tops, lefts = (
        [at for at in starts(side, crop, stride) if at < kept]
        for side, crop, stride, kept in zip(
            (height + bottom, width + right), windows.crop, windows.stride, picture, strict=True
        )
    )
    room = _SUMS_BYTES // (4 * manifest.output.channels * windows.crop[0]) - windows.crop[1]
    columns = _cut(lefts, max(1, room // windows.stride[1]), width)
    rows = _cut(tops, _GRID_ROWS, height)
    return [Part(left, right, top, bottom) for left, right in columns for top, bottom in rows]


def _cut(begins: list[int], each: int, end: int) -> list[tuple[int, int]]:
    cuts = [*begins[::each], end]
    return list(pairwise(cuts))


class WindowedMask:
    """The mask of a picture, part by part. Parts that lie below each other share the windows between them."""

    def __init__(self, engine: Engine, picture: Picture, windows: Windows) -> None:
        self._engine, self._picture, self._windows = engine, picture, windows
        self._input = _Input(engine, picture)
        self._rows: SlidingRows | None = None
        self._last: Part | None = None

    def part(self, part: Part) -> Mask:
        """Class numbers of a part. Raises what reading the picture and the engine raise."""
        follows = self._last is not None and (self._last.left, self._last.right, self._last.bottom) == (
            part.left, part.right, part.top,
        )  # fmt: skip
        channels = self._engine.manifest.output.channels
        if self._rows is None or not follows:
            self._rows = SlidingRows(
                self._engine.window_logits, self._input, self._picture.size, channels, self._windows.crop,
                self._windows.stride, (part.left, part.right),
            )  # fmt: skip
        self._last = None  # should anything below fail, the next part begins anew
        step = max(1, _BAND_BYTES // (4 * channels * (part.right - part.left)))
        bands: list[Array] = [
            self._engine.decide(self._rows.rows(low, min(low + step, part.bottom)))
            for low in range(part.top, part.bottom, step)
        ]
        self._last = part
        mask: Mask = np.concatenate(bands).astype(bands[0].dtype, copy=False)
        return mask

    def whole(self) -> Mask:
        """The mask of a picture that fits into memory."""
        found = list(self.parts())
        dtype = found[0][1].dtype
        mask: Mask = np.empty(self._picture.size, dtype)
        for part, rows in found:
            mask[part.top : part.bottom, part.left : part.right] = rows
        return mask

    def parts(self) -> Iterator[tuple[Part, Mask]]:
        """All parts and their masks."""
        for part in parts(self._picture.size, self._windows, self._engine.manifest):
            yield part, self.part(part)


class _Input:
    """The network's input for a picture, of which the rows of one row of windows are held: `slide.Patches`."""

    def __init__(self, engine: Engine, picture: Picture) -> None:
        manifest = engine.manifest
        how = manifest.preprocessing
        local = tuple(step for step in how.chain if isinstance(step, _LOCAL))
        self._how = replace(how, resize=None, steps=local or None, pad=steps.Pad(value=how.pad.value))
        self._engine, self._picture = engine, picture
        height, width = picture.size
        bottom, right = padding((height, width), how.pad)
        self.shape: tuple[int, ...] = (1, len(how.mean), height + bottom, width + right)
        self._loader, self._channels = engine.loader, manifest.input.shape[1]

    def __getitem__(self, at: tuple[slice, slice, slice, slice], /) -> Floats:
        """One window, normalized and padded."""
        rows, columns = at[2], at[3]
        height, width = self._picture.size
        bottom, right = min(rows.stop, self.shape[2]), min(columns.stop, self.shape[3])
        x = np.full((1, self.shape[1], bottom - rows.start, right - columns.start), self._how.pad.value, np.float32)
        if rows.start < height and columns.start < width:
            pixels = self._picture.read(slice(rows.start, min(bottom, height)), slice(columns.start, min(right, width)))
            loaded = as_loaded(pixels, self._loader, self._channels)
            inside, _ = preprocess(loaded, self._how, self._engine.own)
            x[..., : inside.shape[2], : inside.shape[3]] = inside
        return x
