"""`segc.run`: write the masks of images as palette PNG files, and overlays."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segc import ranges
from segc.commands.run_files import MAX_PIXELS, SegmentedImage, segment_file, stamp
from segc.errors import Code, FileError, SegcError, UsageError
from segc.files import claims
from segc.files.names import is_folder, resolved
from segc.files.state_file import StateFile
from segc.suggestions import checked_keywords

if TYPE_CHECKING:
    from segc.pictures.large import LargePicture
    from segc.runtime.engine import Engine
    from segc.runtime.images import ImageFile
    from segc.runtime.windows import Part, Windows
    from segc.streams.inputs import Video
    from segc.streams.segment import SegmentedVideo

_log = logging.getLogger(__name__)

DEFAULT_OUT = "segc-out"
OPACITY = 0.5  # of the overlay's colours


@dataclass(frozen=True)
class RunResult:
    """The segmented images, and the errors of the others. hybrid: 'hybrid (...)' if two runtimes share the model.

    windows: those that images were segmented in, in words, if there were any. videos: streams, also those that ended
    early, whose errors are in `errors` too.
    """

    bundle: Path
    out: Path
    target: str
    hybrid: str | None
    images: tuple[SegmentedImage, ...]
    errors: tuple[tuple[Path, SegcError], ...]
    windows: str | None = None
    videos: tuple[SegmentedVideo, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        errors = [{"image": str(path), **error.to_json()} for path, error in self.errors]
        images = [image.to_json() for image in self.images]
        shown: dict[str, Any] = {} if self.windows is None else {"windows": self.windows}
        if self.videos:
            shown["videos"] = [video.to_json() for video in self.videos]
        return {"bundle": str(self.bundle), "hybrid": self.hybrid, **shown, "images": images, "errors": errors}


Progress = Callable[[int, int, Any], None]  # the last: a SegmentedImage or SegmentedVideo, or None
Within = Callable[[Path, int, int | None], None]
Tile = tuple[int, int] | Literal["model"]
SAVES = ("mask", "overlay", "both", "npz", "rle", "polygons")


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
    tile: Tile | None = None,
    stride: tuple[int, int] | None = None,
    save: str | None = None,
    every: int = 1,
    late: str = "drop",
    progress: Progress = lambda *_: None,
    within: Within = lambda *_: None,
) -> RunResult:
    """Segment images, folders, videos and streams: NAME_mask.png and NAME_overlay.png in `out`, as `segc run` does.

    overlay: write overlays too, their colours with `opacity` from 0 to 1. direct: resize small logits to the image in
    one step, where segc makes the mask. threads: of the runtime, 0 leaves the number to it. progress: called after each
    image with its number, the number of all, and the result, None for an image that cannot be used. max_pixels: images
    of more are not decoded. public_key: a key of minisign, as a file or in base64, that must have signed the bundle.
    state: file that remembers finished images, so that a run which was stopped goes on. scheduler: address of a Dask
    scheduler, whose workers read images and bundle, and write masks, under the same paths.
    tile: segment images at their own resolution in windows of this (height, width), or of the bundle's own size for
    'model'; TIFF files are then read and written by windows, as are those above `max_pixels` if the bundle slides.
    stride: from one window to the next, by default the bundle's, or 2/3 of the size. within: called within a picture
    or video, with its path, the steps or frames done, and of how many, None if nobody knows.
    save: what is written: 'mask', 'overlay', 'both', 'npz', 'rle' (COCO) or 'polygons' (GeoJSON); by default what
    `overlay` says. every: of videos each Nth frame. late: 'drop' frames of live streams to keep up, or 'wait'.
    An image that cannot be used does not stop the others: its error is in the result. Raises SegcError when none can be
    started. `segc.load` gives an Engine for arrays instead of files.
    """
    from segc.commands import run_videos as videos
    from segc.runtime.images import find_images
    from segc.streams.inputs import sorted_out

    ranges.OPACITY.require("--opacity", opacity)
    ranges.PIXELS.require("--max-pixels", max_pixels)
    ranges.EVERY.require("--every", every)
    given, streams = sorted_out([images] if isinstance(images, str | Path) else list(images))
    found, folder = find_images(given), Path(out)
    _require_apart(folder, given, found)
    save = _saved(save, overlay)
    task = Task(
        str(bundle), folder, save in ("overlay", "both"), opacity, direct, max_pixels, threads,
        None if public_key is None else str(public_key), python, tile, stride, save,
    )  # fmt: skip
    task.require_consistent()
    how = videos.how(task, streams, every, late, scheduler)
    _require_streams_apart(folder, streams)
    engine = task.load()
    made, windows = engine.manifest, task.windows(engine)
    _make_folder(folder)
    kept = _Finished(None if state is None else Path(state), task, found)
    outcomes: dict[Path, SegmentedImage | SegcError] = dict(kept.images)
    every_one = len(found) + len(streams)
    if outcomes:
        progress(len(outcomes), every_one, None)
    left = [image for image in found if image.path not in outcomes]
    for number, (image, result) in enumerate(_outcomes(task, engine, left, scheduler, within), len(outcomes) + 1):
        outcomes[image.path] = result
        if isinstance(result, SegcError):
            _log.warning("%s is not segmented: %s", image.path, result.what)
            progress(number, every_one, None)
        else:
            kept.add(image, result)
            progress(number, every_one, result)
    streamed = videos.segment_all(engine, streams, how, kept.file, len(found), progress, within)
    ordered = [(image.path, outcomes[image.path]) for image in found]
    return RunResult(
        Path(bundle), folder, made.target.name, made.hybrid,
        (*(one for _, one in ordered if not isinstance(one, SegcError)), *streamed.images),
        (*((path, one) for path, one in ordered if isinstance(one, SegcError)), *streamed.errors),
        windows.words if windows is not None and any(task.has_windows(image) for image in found) else None,
        streamed.videos,
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
    tile: Tile | None = None
    stride: tuple[int, int] | None = None
    save: str = "both"

    def require_consistent(self) -> None:
        """Refuse options that do not go together. Raises UsageError."""
        if self.save not in SAVES:
            raise UsageError(
                f"--save '{self.save}' is not known", code=Code.UNKNOWN_CHOICE, because=f"known are {', '.join(SAVES)}"
            )
        if self.tile is None and self.stride is not None:
            raise UsageError(
                "--stride needs --tile", code=Code.CONFLICTING_OPTIONS, so="add --tile HxW, or --tile model"
            )
        if self.tile is not None and self.direct:
            raise UsageError(
                "--tile and --direct exclude each other", code=Code.CONFLICTING_OPTIONS,
                because="windows are segmented at the size of the mask",
            )  # fmt: skip

    def windows(self, engine: Engine) -> Windows | None:
        """The windows of images that are segmented so; None where none is. Raises UsageError."""
        from segc.runtime.windows import windows_of

        if self.tile is None and engine.manifest.inference.mode != "slide":
            return None
        try:
            return windows_of(engine.manifest, self.tile, self.stride)
        except UsageError:
            if self.tile is None:
                return None  # images that are too large are refused then
            raise

    def is_large(self, image: ImageFile) -> bool:
        """Whether it is a TIFF file that is read by windows, if the bundle has windows."""
        from segc.runtime.image_header import size_of_tiff

        size = size_of_tiff(image.path)
        return size is not None and (self.tile is not None or size[0] * size[1] > self.max_pixels)

    def has_windows(self, image: ImageFile) -> bool:
        """Whether it is segmented in windows, if the bundle has windows."""
        return self.tile is not None or self.is_large(image)

    def large(self, image: ImageFile, windows: Windows) -> LargePicture:
        """What becomes of a TIFF file that is read by windows."""
        from segc.pictures.large import LargePicture

        if self.save not in ("mask", "both"):
            raise UsageError(
                f"--save {self.save} is not written by windows", code=Code.CONFLICTING_OPTIONS,
                so="choose --save mask or --save both",
            )  # fmt: skip
        mask, overlay = (self.out / f"{image.stem}_{kind}.tif" for kind in ("mask", "overlay"))
        shown = overlay if self.overlay else None
        return LargePicture(image.path, mask, shown, self.opacity, windows, _digest(self.bundle))

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
                    max_pixels=self.max_pixels, save=self.save,
                    windows=None if self.tile is None else self.windows(engine),
                )  # fmt: skip
        except SegcError as error:
            return error

    def head(self) -> dict[str, Any]:
        """What a state file belongs to: the bundle's content, and what becomes of the images."""
        how: dict[str, Any] = {"overlay": self.overlay, "opacity": self.opacity, "direct": self.direct}
        if self.save != ("both" if self.overlay else "mask"):
            how["save"] = self.save
        if self.tile is not None:
            how |= {
                "tile": self.tile if self.tile == "model" else list(self.tile),
                "stride": None if self.stride is None else list(self.stride),
            }
        return {"format": 1, "bundle": _digest(self.bundle), "out": str(self.out), **how}


def _digest(bundle: str) -> str:
    """Of a bundle's content."""
    return hashlib.sha256((Path(bundle) / "segc.json").read_bytes()).hexdigest()


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _loaded(task: Task, _: str) -> Engine:
    """On a worker: loaded once for all images of a run."""
    return task.load()


def _outcomes(
    task: Task, engine: Engine, images: Sequence[ImageFile], scheduler: str | None, within: Within
) -> Iterator[tuple[ImageFile, SegmentedImage | SegcError]]:
    """On the workers of a cluster, or here: several images at a time and in order, then large ones part by part."""
    windows = task.windows(engine)
    large = [image for image in images if windows is not None and task.is_large(image)]
    at_once = [image for image in images if image not in large]
    if scheduler is not None and at_once:
        from segc import cluster

        yield from cluster.spread(at_once, scheduler, partial(on_worker, task), _killed)
    elif at_once:
        from segc.runtime.stream import in_order

        yield from zip(at_once, in_order(partial(task.outcome, engine), at_once), strict=True)
    for image in large:
        assert windows is not None
        yield image, _large_outcome(task, engine, image, windows, scheduler, within)


def _large_outcome(
    task: Task, engine: Engine, image: ImageFile, windows: Windows, scheduler: str | None, within: Within
) -> SegmentedImage | SegcError:
    """A picture that is segmented part by part, here or on the workers of a cluster."""
    from segc import cluster
    from segc.runtime.image_errors import errors_of_images

    try:
        picture = task.large(image, windows)
        with errors_of_images(image.path):
            left = picture.unfinished(engine.manifest)
            total = len(picture.parts(engine.manifest))
            if scheduler is None:
                done: Iterable[object] = picture.work(engine, left)
            else:
                work = partial(on_worker_of_parts, task, picture)
                done = _raised(cluster.spread(left, scheduler, work, partial(_killed_at, picture), chunk=1))
            within(image.path, total - len(left), total)
            for number, _ in enumerate(done, total - len(left) + 1):
                within(image.path, number, total)
            size, shares = picture.finish(engine, lambda rows, of: None)
    except SegcError as error:
        return error
    _log.info("segmented %s, mask in %s", image.path, picture.mask)
    return SegmentedImage(image.path, picture.mask, picture.overlay, size, shares)


def on_worker_of_parts(task: Task, picture: LargePicture, parts: Sequence[Part]) -> list[SegcError | None]:
    """What a worker runs for parts of one picture: an error of the picture is an answer."""
    from segc import cluster

    try:
        with _lock:
            engine = _loaded(task, stamp(task.bundle))
        try:
            return [None for _ in picture.work(engine, parts)]
        except FileError as error:
            return [error]
    except SegcError:
        raise
    except Exception as error:
        raise cluster.unexpected(error, str(picture.path)) from None


def _raised(answers: Iterable[SegcError | None]) -> Iterator[None]:
    for answer in answers:
        if answer is not None:
            raise answer
        yield None


def _killed_at(picture: LargePicture, part: Part, why: str) -> SegcError:
    from segc import cluster

    return cluster.killer(f"rows {part.top} to {part.bottom} of the picture {picture.path}", why)


def on_worker(task: Task, images: Sequence[ImageFile]) -> list[tuple[ImageFile, SegmentedImage | SegcError]]:
    """What a worker runs, which may have loaded nothing yet. Only SegcError leaves it."""
    from segc import cluster

    try:
        with _lock:
            engine = _loaded(task, stamp(task.bundle))
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
        self.file = None if path is None else StateFile(path, task.head(), "run", "segc run")
        rows = {row.get("key"): row for row in self.file.rows} if self.file is not None else {}
        self.images: dict[Path, SegmentedImage] = {}
        for image in found:
            if (row := rows.get(stamp(image.path))) is not None and (one := _read(row)) is not None:
                self.images[image.path] = one

    def add(self, image: ImageFile, done: SegmentedImage) -> None:
        """Append a finished image. Raises FileError."""
        if self.file is not None:
            self.file.add({"key": stamp(image.path), "done": done.to_json()})


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


def _saved(save: str | None, overlay: bool) -> str:
    """What is written. Raises UsageError."""
    if save is None:
        return "both" if overlay else "mask"
    if not overlay:
        raise UsageError("--no-overlay and --save exclude each other", code=Code.CONFLICTING_OPTIONS)
    return save


def _require_apart(out: Path, given: Iterable[str | Path], images: list[ImageFile]) -> None:
    """Refuse outputs that would replace an image or lie in a folder of images. Raises UsageError."""
    kinds = [f"{kind}.{end}" for kind in ("mask", "overlay") for end in ("png", "tif")]
    written = {resolved(out / f"{i.stem}_{kind}") for i in images for kind in kinds}
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


def _require_streams_apart(out: Path, streams: Iterable[Video]) -> None:
    """Refuse outputs that would replace a video. Raises UsageError."""
    from segc.streams.writing import ENDINGS

    for video in streams:
        written = {resolved(out / f"{video.stem}_{ending}") for endings in ENDINGS.values() for ending in endings}
        if any(other.kind == "file" and resolved(Path(other.name)) in written for other in streams):
            raise UsageError(
                f"the output would replace a video: {video.stem}_... in {out}", code=Code.OUTPUT_REPLACES_INPUT,
                so="choose another folder with -o",
            )  # fmt: skip


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
