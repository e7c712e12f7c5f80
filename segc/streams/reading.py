"""Frames of a video, an address, a camera or standard input, upright and in BGR, one at a time."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from segc.errors import Code, FileError, MissingPackageError
from segc.packages import install
from segc.runtime.images import Image
from segc.streams.inputs import Video
from segc.streams.standard_input import Readable

_SECONDS = 15.0  # that an address may take to answer
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture: its number, counted from 0 in the whole stream, uint8 (H, W, 3) BGR, and when it is shown."""

    number: int
    image: Image
    pts: int
    time_base: Fraction

    @property
    def seconds(self) -> float:
        """When it is shown."""
        return float(self.pts * self.time_base)


class Source(Protocol):
    """An open stream."""

    total: int | None  # frames, if it is known
    rate: Fraction | None  # frames a second, on average

    def frames(self, every: int) -> Iterator[Frame]:
        """Every Nth frame, from the first. Raises FileError where the stream is damaged, after the frames before."""


@contextmanager
def opened(video: Video, max_pixels: int, stdin: Readable | None = None) -> Iterator[Source]:
    """Open a stream. stdin: the video of standard input. Raises FileError, MissingPackageError."""
    if video.kind == "camera":
        with _camera(video) as source:
            yield source
        return
    av = package()
    name, options = (stdin, {}) if video.kind == "stdin" else _where(video)
    try:
        container: Any = av.open(name, options=options, timeout=_SECONDS if video.kind == "address" else None)
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(video, _reason(error)) from error
    with container:
        if not container.streams.video:
            raise unreadable(video, "it has no pictures, only " + (_other_streams(container) or "nothing"))
        yield _Decoded(video, container, max_pixels)


def package() -> Any:
    """PyAV. Raises MissingPackageError."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "videos are read and written with PyAV", code=Code.OPTIONAL_PACKAGE, so=install("video")
        ) from error
    av.logging.set_level(av.logging.PANIC)  # errors are raised, and said once
    return av


def _where(video: Video) -> tuple[str, dict[str, str]]:
    """What PyAV opens, and how: a file must not name other files or addresses."""
    if video.kind == "address":
        return video.name, {"rtsp_transport": "tcp"} if video.name.lower().startswith("rtsp") else {}
    path = Path(video.name)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise unreadable(video, "it is no file")
    except (OSError, ValueError) as error:
        raise unreadable(video, getattr(error, "strerror", "") or str(error)) from error
    return f"file:{video.name}", {"protocol_whitelist": "file"}


def unreadable(video: Video, why: str) -> FileError:
    """The error of a stream that gives no frame."""
    what = "standard input" if video.kind == "stdin" else f"the video {video.name}"
    return FileError(f"cannot read {what}", code=Code.VIDEO_UNREADABLE, because=why)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _other_streams(container: Any) -> str:
    return ", ".join(sorted({str(stream.type) for stream in container.streams}))


class _Decoded:
    """A container of PyAV, of which the first video stream is decoded."""

    def __init__(self, video: Video, container: Any, max_pixels: int) -> None:
        self._video, self._container, self._max_pixels = video, container, max_pixels
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate: Fraction | None = self._stream.average_rate or self._stream.guessed_rate
        self.total: int | None = self._stream.frames or self._estimated()
        self._require_pixels(self._stream.codec_context.width, self._stream.codec_context.height)

    def _estimated(self) -> int | None:
        seconds = None
        if self._stream.duration and self._stream.time_base:
            seconds = self._stream.duration * self._stream.time_base
        elif self._container.duration:
            seconds = Fraction(self._container.duration, 1_000_000)
        return None if seconds is None or self.rate is None or seconds <= 0 else max(1, round(seconds * self.rate))

    def _require_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise FileError(
                f"the frames of {self._video.name} are too large", code=Code.IMAGE_TOO_LARGE,
                because=f"they have {width}x{height} pixels, more than the {self._max_pixels} of --max-pixels",
            )  # fmt: skip

    def frames(self, every: int) -> Iterator[Frame]:
        """Every Nth frame. Raises FileError after the last good one."""
        av = package()
        number, packets, damaged, last = 0, 0, 0, -1
        base = self._stream.time_base or _MICROSECOND
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    damaged += bool(frame.is_corrupt)
                    if number % every == 0:
                        self._require_pixels(frame.width, frame.height)
                        pts = frame.pts if frame.pts is not None else self._guessed(number, base)
                        last = max(pts, last + 1)  # a time that goes back cannot be written
                        yield Frame(number, upright(frame), last, base)
                    number += 1
        except (av.error.FFmpegError, OSError) as error:
            raise self._ended_early(number, _reason(error)) from error
        if not number:
            raise unreadable(self._video, "no frame in it can be decoded")
        declared = self._stream.frames
        if packets < declared:
            raise self._ended_early(number, f"{packets} of {declared} frames are in it")
        if damaged:
            raise self._ended_early(number, f"{damaged} frames are damaged")

    def _guessed(self, number: int, base: Fraction) -> int:
        return round(number / ((self.rate or Fraction(25)) * base))

    def _ended_early(self, number: int, why: str) -> FileError:
        if not number:
            return unreadable(self._video, why)
        return FileError(
            f"the video {self._video.name} is damaged or cut off", code=Code.VIDEO_CUT_OFF, because=why,
            so="copy it again; what was made of the frames before is complete",
        )  # fmt: skip


def upright(frame: Any) -> Image:
    """The picture as players show it: turned by quarter turns where the stream says so."""
    image: Image = frame.to_ndarray(format="bgr24")
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


@contextmanager
def _camera(video: Video) -> Iterator[Source]:
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        device = cv2.VideoCapture(int(video.name))
    finally:
        cv2.utils.logging.setLogLevel(before)
    try:
        if not device.isOpened():
            raise unreadable(video, "no camera of this number answers")
        yield _Camera(video, device)
    finally:
        device.release()


class _Camera:
    """A camera that OpenCV opened; a frame is shown when it was taken."""

    total: int | None = None

    def __init__(self, video: Video, device: Any) -> None:
        self._video, self._device = video, device
        self.rate: Fraction | None = None

    def frames(self, every: int) -> Iterator[Frame]:
        """Every Nth frame until the camera goes. Raises FileError if it gives none."""
        number, last, start = 0, -1, time.monotonic()
        while True:
            good, image = self._device.read()
            if not good:
                break
            if number % every == 0:
                last = max(round((time.monotonic() - start) * 1_000_000), last + 1)
                yield Frame(number, image, last, _MICROSECOND)
            number += 1
        if not number:
            raise unreadable(self._video, "the camera gives no frame")
