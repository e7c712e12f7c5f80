"""`segc.run`: write the masks of images as palette PNG files, and overlays."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.errors import Code, FileError, SegcError, UsageError
from segc.files import claims
from segc.files.names import is_folder, resolved
from segc.files.state_file import StateFile
from segc.files.whole import write_all
from segc.suggestions import checked_keywords

if TYPE_CHECKING:
    from segc.runtime.engine import Engine
    from segc.runtime.images import ImageFile

_log = logging.getLogger(__name__)

DEFAULT_OUT = "segc-out"
OPACITY = 0.5  # of the overlay's colours
MAX_PIXELS = 1 << 29  # of an image: 23170 x 23170


@dataclass(frozen=True)
class SegmentedImage:
    """One segmented image. shares: the fraction of pixels of each class that occurs, largest first."""

    image: Path
    mask: Path
    overlay: Path | None
    size: tuple[int, int]
    shares: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it; size is [height, width]."""
        overlay = None if self.overlay is None else str(self.overlay)
        return {
            "image": str(self.image),
            "mask": str(self.mask),
            "overlay": overlay,
            "size": self.size,
            "classes": self.shares,
        }


@dataclass(frozen=True)
class RunResult:
    """The segmented images, and the errors of the others. hybrid: 'hybrid (...)' if two runtimes share the model."""

    bundle: Path
    out: Path
    target: str
    hybrid: str | None
    images: tuple[SegmentedImage, ...]
    errors: tuple[tuple[Path, SegcError], ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        errors = [{"image": str(path), **error.to_json()} for path, error in self.errors]
        images = [image.to_json() for image in self.images]
        return {"bundle": str(self.bundle), "hybrid": self.hybrid, "images": images, "errors": errors}


Progress = Callable[[int, int, SegmentedImage | None], None]


@checked_keywords
def run(
    bundle: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path = DEFAULT_OUT,
    overlay: bool = True,
    direct: bool = False,
    opacity: float = OPACITY,
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
    public_key: str | Path | None = None,
    python: bool = False,
    state: str | Path | None = None,
    scheduler: str | None = None,
    progress: Progress = lambda *_: None,
) -> RunResult:
    """Segment images and folders of images: NAME_mask.png and NAME_overlay.png in `out`, as `segc run` does.

    overlay: write overlays too, their colours with `opacity` from 0 to 1. direct: resize small logits to the image in
    one step, where segc makes the mask. threads: of the runtime, 0 leaves the number to it. progress: called after each
    image with its number, the number of all, and the result, None for an image that cannot be used. max_pixels: images
    of more are not decoded. public_key: a key of minisign, as a file or in base64, that must have signed the bundle.
    state: file that remembers finished images, so that a run which was stopped goes on. scheduler: address of a Dask
    scheduler, whose workers read images and bundle, and write masks, under the same paths.
    An image that cannot be used does not stop the others: its error is in the result. Raises SegcError when none can be
    started. `segc.load` gives an Engine for arrays instead of files.
    """
    from segc.runtime.images import find_images

    ranges.OPACITY.require("--opacity", opacity)
    ranges.PIXELS.require("--max-pixels", max_pixels)
    given = [images] if isinstance(images, str | Path) else list(images)
    found, folder = find_images(given), Path(out)
    _require_apart(folder, given, found)
    task = Task(
        str(bundle), folder, overlay, opacity, direct, max_pixels, threads,
        None if public_key is None else str(public_key), python,
    )  # fmt: skip
    engine = task.load()
    made = engine.manifest
    _make_folder(folder)
    kept = _Finished(None if state is None else Path(state), task, found)
    outcomes: dict[Path, SegmentedImage | SegcError] = dict(kept.images)
    if outcomes:
        progress(len(outcomes), len(found), None)
    left = [image for image in found if image.path not in outcomes]
    for number, (image, result) in enumerate(_outcomes(task, engine, left, scheduler), len(outcomes) + 1):
        outcomes[image.path] = result
        if isinstance(result, SegcError):
            _log.warning("%s is not segmented: %s", image.path, result.what)
            progress(number, len(found), None)
        else:
            kept.add(image, result)
            progress(number, len(found), result)
    ordered = [(image.path, outcomes[image.path]) for image in found]
    return RunResult(
        Path(bundle), folder, made.target.name, made.hybrid,
        tuple(one for _, one in ordered if not isinstance(one, SegcError)),
        tuple((path, one) for path, one in ordered if isinstance(one, SegcError)),
    )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What `run` does with each image; workers on other machines get it by name."""

    bundle: str
    out: Path
    overlay: bool
    opacity: float
    direct: bool
    max_pixels: int
    threads: int
    public_key: str | None
    python: bool

    def load(self) -> Engine:
        """The bundle's engine. Raises what `segc.load` raises."""
        from segc.runtime.engine import load

        return load(self.bundle, threads=self.threads, public_key=self.public_key, python=self.python)

    def outcome(self, engine: Engine, image: ImageFile) -> SegmentedImage | SegcError:
        """Segment an image and write its files; or the error of an image that cannot be used."""
        from segc.runtime.image_errors import errors_of_images

        try:
            with errors_of_images(image.path):
                return segment_file(
                    engine, image, self.out, overlay=self.overlay, opacity=self.opacity, direct=self.direct,
                    max_pixels=self.max_pixels,
                )  # fmt: skip
        except SegcError as error:
            return error

    def head(self) -> dict[str, Any]:
        """What a state file belongs to: the bundle's content, and what becomes of the images."""
        digest = hashlib.sha256((Path(self.bundle) / "segc.json").read_bytes()).hexdigest()
        how = {"overlay": self.overlay, "opacity": self.opacity, "direct": self.direct}
        return {"format": 1, "bundle": digest, "out": str(self.out), **how}


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _loaded(task: Task, _: str) -> Engine:
    """On a worker: loaded once for all images of a run."""
    return task.load()


def _stamp(path: str | Path) -> str:
    """Of a file or a bundle as it is now."""
    path = Path(path)
    try:
        status = (path / "segc.json" if path.is_dir() else path).stat()
    except (OSError, ValueError):
        return f"{path}:missing"
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"


def _outcomes(
    task: Task, engine: Engine, images: Sequence[ImageFile], scheduler: str | None
) -> Iterator[tuple[ImageFile, SegmentedImage | SegcError]]:
    """On the workers of a cluster, or here, several images at a time and in order."""
    if scheduler is not None and images:
        from segc import cluster

        yield from cluster.spread(images, scheduler, partial(on_worker, task), _killed)
        return
    from segc.runtime.stream import in_order

    yield from zip(images, in_order(partial(task.outcome, engine), images), strict=True)


def on_worker(task: Task, images: Sequence[ImageFile]) -> list[tuple[ImageFile, SegmentedImage | SegcError]]:
    """What a worker runs, which may have loaded nothing yet. Only SegcError leaves it."""
    from segc import cluster

    try:
        with _lock:
            engine = _loaded(task, _stamp(task.bundle))
        return [(image, task.outcome(engine, image)) for image in images]
    except SegcError:
        raise
    except Exception as error:
        raise cluster.unexpected(error, str(images[0].path)) from None


def _killed(image: ImageFile, why: str) -> tuple[ImageFile, SegcError]:
    from segc import cluster

    return image, cluster.killer(f"the image {image.path}", why)


class _Finished:
    """The images that a state file says are done, and whose masks are there; none without a file."""

    def __init__(self, path: Path | None, task: Task, found: Sequence[ImageFile]) -> None:
        """Raises FileError when the file cannot be read, or belongs to another run."""
        self._file = None if path is None else StateFile(path, task.head(), "run", "segc run")
        rows = {row.get("key"): row for row in self._file.rows} if self._file is not None else {}
        self.images: dict[Path, SegmentedImage] = {}
        for image in found:
            if (row := rows.get(_stamp(image.path))) is not None and (one := _read(row)) is not None:
                self.images[image.path] = one

    def add(self, image: ImageFile, done: SegmentedImage) -> None:
        """Append a finished image. Raises FileError."""
        if self._file is not None:
            self._file.add({"key": _stamp(image.path), "done": done.to_json()})


def _read(row: Mapping[str, Any]) -> SegmentedImage | None:
    """The finished image of a line; None for a damaged line, or where a file is gone."""
    try:
        done = row["done"]
        height, width = done["size"]
        overlay = None if done["overlay"] is None else Path(done["overlay"])
        shares = {str(name): float(share) for name, share in done["classes"].items()}
        made = SegmentedImage(Path(done["image"]), Path(done["mask"]), overlay, (int(height), int(width)), shares)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return made if all(file.is_file() for file in (made.mask, made.overlay) if file is not None) else None


def segment_file(
    engine: Engine, image: ImageFile, out: Path, *, overlay: bool, opacity: float, direct: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> SegmentedImage:  # fmt: skip
    """Segment one image and write its mask and overlay into `out`. Raises SegcError.

    The file is decoded once. Memory beside what the engine takes: the file and, for 8 bits of colour, 6 bytes a pixel.
    """
    import cv2
    import numpy as np

    pixels = engine.read(image.path, max_pixels=max_pixels)
    result = engine.segment(pixels, direct=direct)
    mask, shown = out / f"{image.stem}_mask.png", out / f"{image.stem}_overlay.png"
    files = {mask: result.png()}
    if overlay:
        own = pixels if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 else None
        files[shown] = cv2.imencode(".png", result.overlay(pixels, opacity, out=own))[1].tobytes()
    write_all(files, durable=False)
    _log.info("segmented %s, mask in %s", image.path, mask)
    counts = sorted(((name, n) for name, n in result.counts().items() if n), key=lambda item: -item[1])
    shares = {name: round(n / result.mask.size, 6) for name, n in counts}
    height, width = result.mask.shape
    return SegmentedImage(image.path, mask, shown if overlay else None, (height, width), shares)


def _require_apart(out: Path, given: Iterable[str | Path], images: list[ImageFile]) -> None:
    """Refuse outputs that would replace an image or lie in a folder of images. Raises UsageError."""
    written = {resolved(out / f"{i.stem}_{kind}.png") for i in images for kind in ("mask", "overlay")}
    if own := sorted(str(i.path) for i in images if resolved(i.path) in written):
        raise UsageError(
            f"the output would replace the image {own[0]}",
            code=Code.OUTPUT_REPLACES_INPUT,
            so="choose another folder with -o",
        )
    if any(is_folder(path) and resolved(path) == resolved(out) for path in map(Path, given)):
        raise UsageError(
            f"{out} is a folder of images and cannot take the output",
            code=Code.OUTPUT_REPLACES_INPUT,
            because="the next run would segment the masks too",
            so="choose another folder with -o",
        )


def _make_folder(out: Path) -> None:
    """Make it where it is not there; what killed processes left in it is deleted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in claims.left_over_in(out, ".png"):
            claims.remove(left)
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot create the folder {out}",
            code=Code.UNWRITABLE,
            because=getattr(error, "strerror", "") or str(error),
        ) from error
