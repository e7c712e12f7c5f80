"""What is made of a stream: mask and overlay videos, NumPy arrays, run-length codes, polygons; a frame at a time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segc.errors import Code, FileError
from segc.files import claims, published
from segc.files.errors import file_errors
from segc.files.interrupts import held
from segc.runtime import exports
from segc.runtime.images import Image
from segc.runtime.segmentation import Segmentation
from segc.streams.reading import Frame, package

# What `--save` makes of a stream: the endings of the files
ENDINGS = {
    "mask": ("mask.mkv",), "overlay": ("overlay.mp4",), "both": ("mask.mkv", "overlay.mp4"), "npz": ("mask.npz",),
    "rle": ("rle.jsonl",), "polygons": ("polygons.jsonl",),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Done:
    """A segmented frame, and its overlay if one is wanted."""

    frame: Frame
    result: Segmentation
    overlay: Image | None


class Sink(Protocol):
    """A file that frames are added to."""

    def add(self, done: Done) -> None:
        """Write a frame. Raises FileError or OSError."""

    def close(self) -> None:
        """Write what is left."""


@contextmanager
def sinks(
    out: Path, stem: str, save: str, rate: Fraction | None
) -> Iterator[tuple[Callable[[Done], None], list[Path]]]:
    """A function that adds a frame to every file of `save`, and the files' names. They appear when the block ends.

    They appear whole: with the frames that were added; an exception leaves none. Raises FileError.
    """
    paths = [out / f"{stem}_{ending}" for ending in ENDINGS[save]]
    with ExitStack() as stack:
        made: list[Sink] = []
        staged = []
        for path in paths:
            with file_errors(f"'{path}'", path):
                beside = stack.enter_context(claims.in_the_making(path, Path.touch))
            staged.append(beside)
            made.append(_SINKS[path.name.removeprefix(f"{stem}_")](beside, rate))

        def add(done: Done) -> None:
            for sink, path in zip(made, paths, strict=True):
                with _errors(path):
                    sink.add(done)

        try:
            yield add, paths
        except BaseException:
            for sink, path in zip(made, paths, strict=True):
                with _errors(path):
                    sink.close()
            raise
        for sink, path in zip(made, paths, strict=True):
            with _errors(path):
                sink.close()
        with held():
            for beside, path in zip(staged, paths, strict=True):
                with file_errors(f"'{path}'", path):
                    beside.replace(path)
                    published.add(path)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    with file_errors(f"'{path}'", path):
        yield


class _Encoded:
    """A video of PyAV, begun with the first frame."""

    def __init__(self, path: Path, rate: Fraction | None, container: str, codec: str) -> None:
        av = package()
        self._container: Any = av.open(str(path), "w", format=container)
        self._codec, self._rate = codec, rate
        self._stream: Any = None
        self._size: tuple[int, ...] = ()

    def _encode(self, pixels: np.ndarray, given: str, encoded: str, frame: Frame, options: dict[str, str]) -> None:
        av = package()
        if self._stream is None:
            self._size = pixels.shape[:2]
            self._stream = self._container.add_stream(self._codec, rate=self._rate or Fraction(25), options=options)
            self._stream.height, self._stream.width = self._size
            self._stream.pix_fmt = encoded
            self._stream.codec_context.time_base = frame.time_base
        if pixels.shape[:2] != self._size:
            raise FileError(
                "the frames change their size", code=Code.VIDEO_CUT_OFF,
                because=f"from {self._size[1]}x{self._size[0]} to {pixels.shape[1]}x{pixels.shape[0]} pixels",
                so="--save rle writes masks of any sizes",
            )  # fmt: skip
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=given)
        picture.pts, picture.time_base = frame.pts, frame.time_base
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


class _MaskVideo(_Encoded):
    """Class numbers as grey values, without loss (FFV1 in Matroska)."""

    def __init__(self, path: Path, rate: Fraction | None) -> None:
        super().__init__(path, rate, "matroska", "ffv1")

    def add(self, done: Done) -> None:
        mask = done.result.mask
        kind = "gray" if mask.dtype == np.uint8 else "gray16le"
        self._encode(mask, kind, kind, done.frame, {})


class _OverlayVideo(_Encoded):
    """H.264 in MP4. Odd sides need colours at full resolution."""

    def __init__(self, path: Path, rate: Fraction | None) -> None:
        super().__init__(path, rate, "mp4", "libx264")

    def add(self, done: Done) -> None:
        assert done.overlay is not None
        odd = any(side % 2 for side in done.overlay.shape[:2])
        self._encode(done.overlay, "bgr24", "yuv444p" if odd else "yuv420p", done.frame, {"preset": "veryfast"})


class _Lines:
    """A line of JSON a frame."""

    def __init__(self, path: Path, of: Callable[[Segmentation], dict[str, Any]]) -> None:
        self._file, self._of = path.open("wb"), of

    def add(self, done: Done) -> None:
        head = {"frame": done.frame.number, "seconds": round(done.frame.seconds, 6)}
        self._file.write(exports.line(head | self._of(done.result)) + b"\n")

    def close(self) -> None:
        self._file.close()


class _Arrays:
    """A NumPy file with a mask a frame, `frame_000000` and on, and `seconds`."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._seconds: list[float] = []

    def add(self, done: Done) -> None:
        self._write(f"frame_{done.frame.number:06}", done.result.mask)
        self._seconds.append(done.frame.seconds)

    def _write(self, name: str, array: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, array)
        self._zip.writestr(f"{name}.npy", content.getvalue())

    def close(self) -> None:
        self._write("seconds", np.asarray(self._seconds))
        self._zip.close()


_SINKS: dict[str, Callable[[Path, Fraction | None], Sink]] = {
    "mask.mkv": _MaskVideo,
    "overlay.mp4": _OverlayVideo,
    "mask.npz": lambda path, _: _Arrays(path),
    "rle.jsonl": lambda path, _: _Lines(path, exports.run_lengths),
    "polygons.jsonl": lambda path, _: _Lines(path, exports.polygons),
}
