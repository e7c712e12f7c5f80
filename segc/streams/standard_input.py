"""Standard input: images one after the other, or one video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from segc.errors import Code, FileError
from segc.runtime import image_header

_HEAD = 32
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = 1 << 16


class Readable(Protocol):
    """What PyAV reads a video from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, none at the end."""


class Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = self._exactly(_HEAD)
        self.is_empty = not self._held
        self.is_image = image_header.is_image(self._held)

    def read(self, size: int = -1, /) -> bytes:
        """The bytes as if nobody had looked."""
        if size < 0:
            held, self._held = self._held, b""
            return held + self._stream.read()
        taken, self._held = self._held[:size], self._held[size:]
        return taken or self._stream.read(size)

    def _exactly(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size and (more := self._stream.read(size - len(parts))):
            parts += more
        return parts


def images(stream: Readable, most: int) -> Iterator[bytes]:
    """The files of images that follow each other: PNG and JPEG, or one of any other kind.

    Raises FileError for a file of more than `most` bytes. What is cut off is given as it is: decoding refuses it.
    """
    reader = _Reader(stream, most)
    while reader.fill(len(_PNG)):
        if reader.held.startswith(_PNG):
            end = _png_end(reader)
        elif reader.held.startswith(b"\xff\xd8\xff"):
            end = _jpeg_end(reader)
        else:
            reader.fill(None)
            end = len(reader.held)
        yield reader.take(end)


class _Reader:
    """The bytes that were read and not given yet."""

    def __init__(self, stream: Readable, most: int) -> None:
        self._stream, self._most = stream, most
        self.held = bytearray()

    def fill(self, size: int | None) -> bool:
        """Hold `size` bytes, None for all there are; whether there are so many (for None and for few: any)."""
        while size is None or len(self.held) < size:
            more = self._stream.read(_CHUNK)
            if not more:
                break
            self.held += more
            if len(self.held) > self._most + _CHUNK:
                raise FileError(
                    "an image on standard input is too large", code=Code.IMAGE_TOO_LARGE,
                    because=f"it has more than {self._most:,} bytes",
                    so="raise --max-pixels where there is memory for it",
                )  # fmt: skip
        return bool(self.held)

    def has(self, size: int) -> bool:
        """Whether so many bytes are there; they are read if need be."""
        self.fill(size)
        return len(self.held) >= size

    def take(self, size: int) -> bytes:
        """The first bytes, which are given away."""
        taken = bytes(self.held[:size])
        del self.held[:size]
        return taken


def _png_end(reader: _Reader) -> int:
    """Where the last chunk ends; the end of the stream if it is missing."""
    at = len(_PNG)
    while reader.has(at + 8):
        length, kind = int.from_bytes(reader.held[at : at + 4], "big"), bytes(reader.held[at + 4 : at + 8])
        at += 12 + length
        if not reader.has(at):
            break
        if kind == b"IEND":
            return at
    return len(reader.held)


def _jpeg_end(reader: _Reader) -> int:
    """Where the end marker ends. Segments are skipped by their length: thumbnails in them have end markers too."""
    at = 2
    while reader.has(at + 2):
        if reader.held[at] != 0xFF:  # within a scan
            found = reader.held.find(b"\xff", at)
            at = len(reader.held) if found < 0 else found
            continue
        marker = reader.held[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
        elif reader.has(at + 4):
            at += 2 + int.from_bytes(reader.held[at + 2 : at + 4], "big")
        else:
            break
    return len(reader.held)
