"""The gate on files: a made-up picture goes through the source's own code and through `segment`, and both are compared.

Two things are compared: the tensor that enters the network, on every kind of file that the model's loader may meet, and
the mask that leaves, on one of them. Pixels at which the reference's own margin is within twice the error that rounding
explains, measured on the same tensor, are near ties, which either side may decide.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segc.bundle import preprocessing as steps
from segc.bundle.manifest import Manifest
from segc.bundle.preprocessing import Loader, Preprocessing, usual_loader
from segc.errors import SegcError
from segc.frontend.model import NotComparable, OnFiles, OwnMask
from segc.parity.limits import NEAR_TIE, Limits
from segc.parity.metrics import margins
from segc.parity.sample_inputs import normalised
from segc.runtime.engine import Engine
from segc.runtime.images import as_loaded
from segc.runtime.preprocessing import preprocess, resized

_log = logging.getLogger(__name__)

TENSOR_LIMIT = 1e-5  # of the largest value: float32 rounds a mean and std that were scaled otherwise
_SIZE = (107, 161)  # height and width of a picture that is resized, dividing by nothing
_AREA = 512 * 512  # pixels that the network is run on; larger ones are shrunk, for both sides alike


@dataclass(frozen=True)
class FileCase:
    """One picture. size: (height, width). tensor_error: largest difference to the source's own tensor, of its largest.

    agreement: share of pixels that are equal or near ties; equal: share that is equal. None: not compared. rounding:
    the logit error that rounding explains; None where enough pixels are equal, or where it cannot be measured.
    """

    name: str
    size: tuple[int, int]
    tensor_error: float | None
    agreement: float | None
    equal: float | None
    rounding: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}
        if self.rounding is None:
            del plain["rounding"]
        return {**plain, "size": list(self.size)}


@dataclass(frozen=True)
class FileCheck:
    """cases: comparisons made. failures: one sentence each. notes: what was not compared, and why."""

    cases: tuple[FileCase, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Keep = Callable[[Any, Callable[[], OwnMask]], OwnMask]
Bound = Callable[[np.ndarray], float | None]


@dataclass(frozen=True)
class _Sides:
    """What is compared: `segment` of an engine, and the source's own way."""

    engine: Engine
    own: OnFiles
    limits: Limits
    keep: Keep
    rounding: Bound | None

    @property
    def fixed(self) -> tuple[int, int] | None:
        return fixed_size(self.engine.manifest)


def check(
    engine: Engine,
    own: OnFiles,
    limits: Limits,
    keep: Keep = lambda _, make: make(),
    rounding: Bound | None = None,
) -> FileCheck:
    """Compare `segment` with the source's own way.

    keep(key, make): may return what it kept under the key. rounding: measures the logit error that rounding explains
    for a tensor (1, C, H, W); called where less pixels are equal than the limit says.
    """
    sides = _Sides(engine, own, limits, keep, rounding)
    how, cases, notes = engine.manifest, [], []
    with tempfile.TemporaryDirectory(prefix="segc-pictures-") as folder:
        for number, (name, path, size) in enumerate(pictures(how, Path(folder))):
            try:
                cases.append(_case(sides, name, path, size, masks=number == 0))
            except (SegcError, NotComparable) as error:
                why = error.what if isinstance(error, SegcError) else str(error)
                notes.append(f"`segment` was not compared with the source's own code on {name}: {why}")
            except Exception as error:  # the source's own code may raise anything
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                notes.append(f"`segment` was not compared with the source's own code on {name}, which fails: {said}")
                _log.debug("the source's own code fails on %s", name, exc_info=True)
    nearest = how.output.kind == "mask" and how.output.decode is None and how.output.beside is None
    if nearest and (seen := [case.equal for case in cases if case.equal is not None]):
        notes.append(
            f"`segment` resizes the engine's masks by nearest neighbour: {seen[0]:.2%} of a picture's pixels equal the "
            "source's own mask; with --decode host it resizes the logits, as the source does"
        )
    return FileCheck(tuple(cases), tuple(_failures(cases, limits, nearest)), tuple(notes))


def fixed_size(how: Manifest) -> tuple[int, int] | None:
    """The (height, width) of an engine that takes whole images of one size."""
    _, _, height, width = how.input.shape
    return (height, width) if height and width and how.inference.mode == "whole" else None


def _failures(cases: Sequence[FileCase], limits: Limits, nearest: bool) -> Iterator[str]:
    for case in cases:
        if case.tensor_error is not None and not case.tensor_error <= TENSOR_LIMIT:
            yield f"{case.name}: the tensor that enters the network differs by {case.tensor_error:.2e} of its largest"
        if not nearest and case.agreement is not None and not case.agreement >= limits.agreement:
            yield f"{case.name}: {case.agreement:.4%} of the mask's pixels equal, limit {limits.agreement:.2%}"


def _case(sides: _Sides, name: str, path: Path, size: tuple[int, int], *, masks: bool) -> FileCase:
    engine, own, fixed = sides.engine, sides.own, sides.fixed
    image = engine.read(path)
    x, theirs = tensor(engine, image), own.tensor(path, fixed)
    error = None if theirs is None else _difference(theirs, x)
    agreement = equal = explained = None
    if masks and (error is None or error <= TENSOR_LIMIT):
        shrink = 1 if fixed or not own.shrinks else _shrink(engine.manifest, x.shape[2:])
        small = engine.with_manifest(replace(engine.manifest, preprocessing=shrunk(engine.manifest, shrink)))
        key = (name, size, fixed, shrink, engine.manifest.inference)
        wanted = sides.keep(key, lambda: own.mask(path, engine.manifest, fixed, shrink))
        mask, threshold = small.segment(image).mask, engine.manifest.output.threshold
        agreement, equal = _agreement(wanted, mask, threshold)
        if agreement < sides.limits.agreement and wanted.mask.shape == mask.shape:
            explained = _explained(sides, tensor(small, image))
            agreement, _ = _agreement(wanted, mask, threshold, explained)
    return FileCase(name, size, error, agreement, equal, explained)


def _explained(sides: _Sides, x: np.ndarray) -> float | None:
    """The error of a logit that rounding explains on `x`, filled as the engine fills it, or on its first window."""
    if sides.rounding is None:
        return None
    if (crop := sides.engine.manifest.inference.crop) is not None:
        x = x[:, :, : crop[0], : crop[1]]
    try:
        return sides.rounding(sides.engine.filled(x))
    except Exception:  # the source's own code may raise anything
        _log.debug("rounding cannot be measured", exc_info=True)
        return None


def tensor(engine: Engine, image: np.ndarray) -> np.ndarray:
    """What `segment` hands to the network for a decoded image, (1, C, H, W), before padding to the engine's sizes."""
    how, pre = engine.manifest, engine.manifest.preprocessing
    decoded = as_loaded(image, pre.loader or usual_loader(how.input.shape[1]), how.input.shape[1])
    if how.input.dtype == "uint8":
        return normalised(resized(decoded, pre, engine.own)[None], pre.mean, pre.std, pre.channel_order)
    return preprocess(decoded, pre, engine.own)[0]


def _difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    if theirs.shape != ours.shape:
        return math.inf
    return float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(theirs).max())))


def _agreement(
    wanted: OwnMask, mask: np.ndarray, threshold: float | None, explained: float | None = None
) -> tuple[float, float]:
    """The share of pixels that are equal or near ties, and the share that is equal. explained: see `FileCase`."""
    if wanted.mask.shape != mask.shape:
        return 0.0, 0.0
    different = wanted.mask != mask
    wrong = int(different.sum())
    if wanted.logits is not None and explained is not None:
        wrong -= int((margins(wanted.logits[None], different[None], threshold) <= NEAR_TIE * explained).sum())
    return 1.0 - wrong / different.size, 1.0 - float(different.mean())


def _shrink(how: Manifest, size: Sequence[int]) -> int:
    """By how much sizes are divided, so that the network sees `_AREA` pixels at most, but no less than its window."""
    shrink = max(1, math.ceil(math.sqrt(size[0] * size[1] / _AREA)))
    least = how.inference.crop or (how.input.limits(2)[0], how.input.limits(3)[0])
    while shrink > 1 and any(side // shrink < low for side, low in zip(size, least, strict=True)):
        shrink -= 1
    return shrink


def shrunk(how: Manifest, shrink: int) -> Preprocessing:
    """The preprocessing with the sizes of its steps, in pixels, divided."""
    pre = how.preprocessing
    if shrink == 1 or not pre.chain:
        return pre
    return replace(pre, resize=None, steps=tuple(_smaller(step, shrink) for step in pre.chain))


def _smaller(step: steps.Step, shrink: int) -> steps.Step:
    def pair(sides: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if sides is None else (-(-sides[0] // shrink), -(-sides[1] // shrink))

    if isinstance(step, steps.ResizeStep):
        return replace(step, scale=pair(step.scale))
    if isinstance(step, steps.PillowResize):
        short, long = (None if side is None else -(-side // shrink) for side in (step.shortest, step.longest))
        return replace(step, scale=pair(step.scale), shortest=short, longest=long)
    if isinstance(step, steps.PadStep | steps.CenterCrop):
        return replace(step, size=pair(step.size))  # type: ignore[arg-type]
    if isinstance(step, steps.ResizeShortestEdge):
        return replace(step, scale=-(-step.scale // shrink), most=-(-step.most // shrink))
    return step


def pictures(how: Manifest, folder: Path) -> Iterator[tuple[str, Path, tuple[int, int]]]:
    """Pictures of the kinds that the loader may meet, written to `folder`: name, path, (height, width)."""
    channels = how.input.shape[1]
    loader = how.preprocessing.loader or usual_loader(channels) or Loader()
    size = picture_size(how)
    kinds: list[tuple[str, type[np.generic]]] = [("8 bits", np.uint8)]
    if loader.is_raw:
        kinds = [("8 bits", np.uint8), ("16 bits", np.uint16), ("floating point", np.float32)]
        kinds = kinds[:1] if how.preprocessing.table is not None else kinds
        kinds.sort(key=lambda kind: kind[1] is not _type_of(how.preprocessing))  # the one that mean and std fit first
    wanted = loader.channels(channels)
    for name, kind in kinds:
        picture = _picture(how.preprocessing, size, wanted, kind)
        path = folder / f"{name.replace(' ', '-')}{'.png' if kind is np.uint8 and wanted in (1, 3, 4) else '.tif'}"
        if kind is np.uint16 and wanted in (1, 3, 4) and loader.decoder != "tifffile":
            path = path.with_suffix(".png")
        if loader.decoder == "tifffile" or wanted not in (1, 3, 4):
            import tifffile

            tifffile.imwrite(path.with_suffix(".tif"), picture, photometric="minisblack", planarconfig="contig")
            path = path.with_suffix(".tif")
        else:
            cv2.imwrite(str(path), picture)
        yield f"a picture of {name}, {size[0]}x{size[1]}x{wanted}", path, size


def picture_size(how: Manifest) -> tuple[int, int]:
    """A small odd size; where images are not resized one that the engine and the network take."""
    if fixed_size(how) or any(
        isinstance(step, steps.ResizeStep | steps.ResizeShortestEdge | steps.PillowResize)
        for step in how.preprocessing.chain
    ):
        return _SIZE
    if (crop := how.inference.crop) is not None:
        return crop[0] * 4 // 3 | 1, crop[1] * 5 // 4 | 1
    found = []
    for axis, side in ((2, _SIZE[0]), (3, _SIZE[1])):
        (low, high), divisor = how.input.limits(axis), how.input.divisor(axis)
        side = max(side, low)
        side = -(-side // divisor) * divisor if divisor > 1 else side | 1
        found.append(min(side, high) if high is not None else side)
    return found[0], found[1]


def _type_of(how: Preprocessing) -> type[np.generic]:
    """The type of pixels that mean and std were made for."""
    top = max(mean + 2 * std for mean, std in zip(how.mean, how.std, strict=True))
    plain = not any(how.mean)
    return np.uint8 if plain else np.uint16 if top > 600 else np.float32 if top < 8 else np.uint8


def _picture(how: Preprocessing, size: tuple[int, int], channels: int, kind: type[np.generic]) -> np.ndarray:
    """The photograph that comes with segc, with contrasts that the model expects: (H, W) or (H, W, channels)."""
    content = resources.files("segc").joinpath("data/natural.jpg").read_bytes()
    photograph = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(photograph, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)
    planes = np.stack([np.roll(small[..., at % 3], 7 * (at // 3), 0) for at in range(channels)], axis=2)
    if kind is not np.uint8:
        fits = kind is _type_of(how)
        for at in range(channels):
            mean, std = (values[min(at, len(values) - 1)] for values in (how.mean, how.std))
            planes[..., at] = mean + (planes[..., at] - 110) / 55 * abs(std) if fits else planes[..., at] * 257
        if kind is np.float32 and not fits:
            planes /= 65535
    top = 255 if kind is np.uint8 else 65535 if kind is np.uint16 else np.inf
    picture = np.clip(planes, -np.inf if kind is np.float32 else 0, top).astype(kind)
    return np.ascontiguousarray(picture[..., 0] if channels == 1 else picture)
