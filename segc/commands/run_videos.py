"""The streams of `segc.run`: videos, addresses, cameras and standard input."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.errors import Code, SegcError, UsageError
from segc.files.state_file import StateFile
from segc.streams.standard_input import Peeked, images

if TYPE_CHECKING:
    from segc.commands.run import Progress, Task, Within
    from segc.commands.run_files import SegmentedImage
    from segc.runtime.engine import Engine
    from segc.streams.inputs import Video
    from segc.streams.segment import How, SegmentedVideo

_log = logging.getLogger(__name__)
LATE = ("drop", "wait")


@dataclass(frozen=True)
class Streamed:
    """What became of all streams; images are those of standard input."""

    images: tuple[SegmentedImage, ...]
    videos: tuple[SegmentedVideo, ...]
    errors: tuple[tuple[Path, SegcError], ...]


def how(task: Task, streams: Sequence[Video], every: int, late: str, scheduler: str | None) -> How:
    """What becomes of frames. Raises UsageError for options that streams do not go with."""
    from segc.streams.segment import How

    if late not in LATE:
        raise UsageError(
            f"--late '{late}' is not known", code=Code.UNKNOWN_CHOICE, because=f"known are {', '.join(LATE)}"
        )
    if streams and (task.tile is not None or scheduler is not None):
        option = "--scheduler" if task.tile is None else "--tile"
        raise UsageError(
            f"{option} does not go with videos and streams", code=Code.CONFLICTING_OPTIONS,
            because="their frames are segmented here, one after the other, each as a whole",
            so="segment the images and the videos with two commands",
        )  # fmt: skip
    return How(task.out, task.save, task.opacity, task.direct, every, late == "drop", task.max_pixels)


def segment_all(
    engine: Engine, streams: Sequence[Video], how: How, state: StateFile | None, before: int, progress: Progress,
    within: Within,
) -> Streamed:  # fmt: skip
    """Segment streams one after the other. before: images that were done before them."""
    made: list[SegmentedVideo] = []
    segmented: list[SegmentedImage] = []
    errors: list[tuple[Path, SegcError]] = []
    rows = {row.get("key"): row for row in state.rows} if state is not None else {}
    for number, video in enumerate(streams, before + 1):
        key, path = _key(video, how), Path(video.name)
        if (known := _read(rows.get(key))) is not None:
            made.append(known)
            progress(number, before + len(streams), None)
            continue
        stdin = Peeked(sys.stdin.buffer) if video.kind == "stdin" else None
        if stdin is not None and stdin.is_image:
            for image in _images(engine, how, stdin, errors):
                segmented.append(image)
                progress(number, before + len(streams), image)
            continue
        done, error = _video(engine, video, how, partial(within, path), stdin)
        if error is not None:
            _log.warning("%s: %s", video.name, error.what)
            errors.append((path, error))
        if done is not None:
            made.append(done)
            if state is not None and error is None and video.kind == "file":
                state.add({"key": key, "video": done.to_json(), "seconds": done.seconds})
        progress(number, before + len(streams), done)
    return Streamed(tuple(segmented), tuple(made), tuple(errors))


def _video(
    engine: Engine, video: Video, how: How, done: Callable[[int, int | None], None], stdin: Peeked | None
) -> tuple[SegmentedVideo | None, SegcError | None]:
    from segc.runtime.image_errors import errors_of_images
    from segc.streams.segment import segment_video

    try:
        with errors_of_images(Path(video.name)):
            return segment_video(engine, video, how, done, stdin)
    except SegcError as error:
        return None, error


def _images(engine: Engine, how: How, stdin: Peeked, errors: list[tuple[Path, SegcError]]) -> Iterator[SegmentedImage]:
    """Segment the images on standard input as if they were files: stdin, stdin-2, ..."""
    from segc.commands.run_files import write_segmented
    from segc.runtime.image_errors import errors_of_images
    from segc.runtime.images import ImageFile, most_bytes

    for number, content in enumerate(images(stdin, most_bytes(how.max_pixels)), 1):
        image = ImageFile(Path("-"), "stdin" if number == 1 else f"stdin-{number}")
        try:
            with errors_of_images(image.path):
                pixels = engine.decode(content, name=image.stem, max_pixels=how.max_pixels)
                yield write_segmented(
                    engine, pixels, image, how.out, overlay=how.save in ("overlay", "both"), opacity=how.opacity,
                    direct=how.direct, save=how.save,
                )  # fmt: skip
        except SegcError as error:
            errors.append((Path(image.stem), error))


def _key(video: Video, how: How) -> str:
    from segc.commands.run_files import stamp

    return f"{stamp(video.name)}:every {how.every}"


def _read(row: Mapping[str, Any] | None) -> SegmentedVideo | None:
    """The finished video of a line; None for a damaged line, or where a file is gone."""
    from segc.streams.segment import SegmentedVideo

    try:
        done = (row or {})["video"]
        files = tuple(map(Path, done["files"]))
        height, width = done["size"]
        made = SegmentedVideo(
            str(done["video"]), files, int(done["frames"]), int(done["dropped"]), (int(height), int(width)),
            {str(name): float(share) for name, share in done["classes"].items()}, float((row or {})["seconds"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return made if all(path.is_file() for path in files) else None
