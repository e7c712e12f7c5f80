"""What an image file says of itself: its size, before memory for its pixels is asked for, and whether its end is there.

OpenCV decodes; it does not tell sizes beforehand, and gives grey for what is missing of a file that was cut off.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

Size = tuple[int, int]  # height, width
_PNG, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd9"
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # JPEG markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # those that hold the size
_SCAN = 0xDA


def size(content: bytes) -> Size | None:
    """Height and width in pixels, None where the format or the header is not understood."""
    for magic, at, read in _READERS:
        if content[at : at + len(magic)] == magic:
            try:
                return read(content)
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
    return None


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is an image of a format known here."""
    return any(head[at : at + len(magic)] == magic for magic, at, _ in _READERS)


def size_of_tiff(path: Path) -> Size | None:
    """Height and width of a TIFF file, which is not read whole; None for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if not any(content[: len(magic)] == magic for magic, _, read in _READERS if read is _tiff):
                return None
            return size(cast(bytes, content))  # what is asked of bytes here, a mapped file can do too
    except (OSError, ValueError):  # also an empty file, and a name that no file can have
        return None


def missing_end(content: bytes) -> str | None:
    """Why the file must have been cut off, or None: PNG, JPEG and WebP say where they end."""
    if content.startswith(_PNG):
        return None if b"IEND\xaeB`\x82" in content else "its last chunk is missing"
    if content.startswith(b"\xff\xd8\xff"):
        scan = next((at for marker, at in _segments(content) if marker == _SCAN), None)
        cut = scan is None or content.find(_JPEG_END, scan) < 0
        return "its end marker is missing" if cut else None
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP" and len(content) >= 12:
        wanted = int.from_bytes(content[4:8], "little") + 8
        return f"it has {len(content)} of {wanted} bytes" if len(content) < wanted else None
    return None


def _png(content: bytes) -> Size:
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _jpeg(content: bytes) -> Size | None:
    for marker, at in _segments(content):
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return height, width
    return None


def _segments(content: bytes) -> list[tuple[int, int]]:
    """JPEG's markers up to the first scan, and where the length that follows each begins, less 2."""
    found, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        found.append((marker, at))
        if marker == _SCAN:
            break
        at += 2 if marker in _STANDALONE else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return found


def _bmp(content: bytes) -> Size:
    if struct.unpack_from("<I", content, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", content, 18)
        return height, width
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(height), abs(width)


def _pnm(content: bytes) -> Size | None:
    """The first two numbers between white space and comments."""
    numbers: list[int] = []
    for line in content[2:4096].split(b"\n"):
        numbers += [int(word) for word in line.split(b"#")[0].split()[: 2 - len(numbers)]]
        if len(numbers) == 2:
            return numbers[1], numbers[0]
    return None


def _webp(content: bytes) -> Size | None:
    kind = content[12:16]
    if kind == b"VP8X" and len(content) >= 30:
        return 1 + int.from_bytes(content[27:30], "little"), 1 + int.from_bytes(content[24:27], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def _tiff(content: bytes) -> Size | None:
    """Width and length of the first directory, of classic TIFF and of BigTIFF."""
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    at = struct.unpack_from(f"{order}Q", content, 8)[0] if big else struct.unpack_from(f"{order}I", content, 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", content, at)[0]
    first, step, value = (at + 8, 20, 12) if big else (at + 2, 12, 8)
    found: dict[int, int] = {}
    for entry in range(first, first + min(count, 256) * step, step):
        tag, kind = struct.unpack_from(f"{order}HH", content, entry)
        if tag in (256, 257):
            letter = {3: "H", 4: "I", 16: "Q"}[kind] if kind in (3, 4, 16) else "I"
            found[tag] = struct.unpack_from(f"{order}{letter}", content, entry + value)[0]
    return (found[257], found[256]) if len(found) == 2 else None


def _jp2(content: bytes) -> Size | None:
    """The image and tile size marker of the code stream."""
    at = content.find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
    return bottom - top, right - left


def _gif(content: bytes) -> Size:
    width, height = struct.unpack_from("<HH", content, 6)
    return height, width


_READERS: tuple[tuple[bytes, int, Callable[[bytes], Size | None]], ...] = (
    (_PNG, 0, _png), (b"\xff\xd8\xff", 0, _jpeg), (b"BM", 0, _bmp), (b"WEBP", 8, _webp), (b"II*\0", 0, _tiff),
    (b"MM\0*", 0, _tiff), (b"II+\0", 0, _tiff), (b"MM\0+", 0, _tiff), (b"\0\0\0\x0cjP  ", 0, _jp2),
    (b"\xff\x4f\xff\x51", 0, _jp2), (b"GIF8", 0, _gif), *((b"P%d" % kind, 0, _pnm) for kind in range(1, 7)),
)  # fmt: skip
