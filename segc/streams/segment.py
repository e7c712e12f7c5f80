"""One stream segmented: frames are decoded in a thread, segmented in several, and written in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.errors import Code, FileError
from segc.runtime.stream import in_order
from segc.streams.inputs import Video
from segc.streams.mailbox import Mailbox, read_ahead
from segc.streams.reading import Frame, opened
from segc.streams.standard_input import Readable
from segc.streams.writing import Done, sinks

if TYPE_CHECKING:
    from segc.runtime.engine import Engine


@dataclass(frozen=True)
class SegmentedVideo:
    """A segmented stream: the files that were written, and how many frames.

    frames: that were segmented. dropped: that a live source gave while others were worked on. size: (height, width).
    shares: the fraction of all pixels of each class that occurs, largest first. seconds: of the work.
    """

    video: str
    files: tuple[Path, ...]
    frames: int
    dropped: int
    size: tuple[int, int]
    shares: dict[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it; size is [height, width]."""
        return {
            "video": self.video, "files": [str(path) for path in self.files], "frames": self.frames,
            "dropped": self.dropped, "size": self.size, "classes": self.shares,
            "frames_per_second": round(self.frames / self.seconds, 3) if self.seconds else None,
        }  # fmt: skip


@dataclass(frozen=True)
class How:
    """What becomes of frames. drops: whether frames of live sources may be left out to keep up."""

    out: Path
    save: str
    opacity: float
    direct: bool
    every: int
    drops: bool
    max_pixels: int


@dataclass
class _Counted:
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    pixels: dict[str, int] = field(default_factory=dict)

    def add(self, done: Done) -> None:
        self.frames += 1
        height, width = done.result.mask.shape
        self.size = height, width
        for name, pixels in done.result.counts().items():
            self.pixels[name] = self.pixels.get(name, 0) + pixels

    def shares(self) -> dict[str, float]:
        """Of classes that occur, largest first."""
        whole = sum(self.pixels.values())
        found = sorted(((name, n) for name, n in self.pixels.items() if n), key=lambda item: -item[1])
        return {name: round(n / whole, 6) for name, n in found}


def segment_video(
    engine: Engine,
    video: Video,
    how: How,
    done: Callable[[int, int | None], None] = lambda *_: None,
    stdin: Readable | None = None,
) -> tuple[SegmentedVideo | None, FileError | None]:
    """Segment a stream to its end, or a live one until Ctrl-C. Returns what was made, and why it ended early.

    done(frames, of): called after each frame; `of` is None where nobody knows. stdin: the video of standard input.
    Raises SegcError where nothing is made.
    """
    counted, start = _Counted(), time.perf_counter()
    early: FileError | None = None
    work = partial(_segmented, engine, how)
    with opened(video, how.max_pixels, stdin) as source:
        total = None if source.total is None else -(-source.total // how.every)
        with sinks(how.out, video.stem, how.save, source.rate) as (add, paths):
            with read_ahead(source.frames(how.every), drops=video.is_live and how.drops) as box, _ended(video):
                frames = in_order(work, _until_error(box, errors := list[FileError]()))
                for one in frames:
                    add(one)
                    counted.add(one)
                    done(counted.frames, total)
            early = errors[0] if errors else None
            if not counted.frames:
                raise early or FileError(f"{video.name} gave no frame", code=Code.VIDEO_UNREADABLE)
    seconds = time.perf_counter() - start
    made = SegmentedVideo(
        video.name, tuple(paths), counted.frames, box.dropped, counted.size, counted.shares(), seconds
    )
    return made, early


@contextmanager
def _ended(video: Video) -> Iterator[None]:
    """Let Ctrl-C end a live stream as its end would; what was made of it is written."""
    try:
        yield
    except KeyboardInterrupt:
        if not video.is_live:
            raise


def _until_error(box: Mailbox[Frame], errors: list[FileError]) -> Iterator[Frame]:
    """The frames up to the end or an error of the stream, which goes to `errors`."""
    try:
        yield from box
    except FileError as error:
        errors.append(error)


def _segmented(engine: Engine, how: How, frame: Frame) -> Done:
    result = engine.segment(frame.image, direct=how.direct)
    shown = result.overlay(frame.image, how.opacity) if how.save in ("overlay", "both") else None
    return Done(frame, result, shown)
