"""One picture in every kind of file that a decoder without compression losses reads."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow


def png(array: np.ndarray, mode: str | None = None, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image = Pillow.fromarray(array)
    (image if mode is None else image.convert(mode)).save(content, kind, **options)
    return content.getvalue()


def assembled(size: tuple[int, int], kind: tuple[int, int, int], raw: bytes) -> bytes:
    """A PNG of (height, width), (depth, colour, interlaced) and unfiltered lines: kinds that Pillow does not write."""
    head = struct.pack(">IIBBBBB", size[1], size[0], kind[0], kind[1], 0, 0, kind[2])
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def interlaced(array: np.ndarray) -> bytes:
    """An 8-bit RGB PNG in Adam7."""
    raw = b""
    starts = (0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1)
    steps_of = (8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)
    for (x, y), (dx, dy) in zip(starts, steps_of, strict=True):
        raw += b"".join(b"\0" + row.tobytes() for row in array[y::dy, x::dx] if row.size)
    return assembled(array.shape[:2], (8, 2, 1), raw)


def few_bits(plane: np.ndarray, depth: int) -> bytes:
    """A grey PNG of the upper bits of a plane of 8 bits."""
    bits = np.unpackbits(plane[..., None], axis=2)[..., :depth].reshape(len(plane), -1)
    return assembled(plane.shape, (depth, 0, 0), b"".join(b"\0" + np.packbits(row).tobytes() for row in bits))


def exif(orientation: int) -> Pillow.Exif:
    made = Pillow.Exif()
    made[0x112] = orientation
    return made


def encoded(extension: str, array: np.ndarray) -> bytes:
    good, content = cv2.imencode(extension, array)
    assert good
    return content.tobytes()


def files(photo: np.ndarray) -> dict[str, bytes]:
    """A picture uint8 (H, W, 3) as files of every kind that segc.hpp reads, and in every orientation."""
    deep = (photo.astype(np.uint16) << 8) | 77
    bits = (photo[..., 0] > 99).astype(np.uint8)
    made = {
        "rgb": png(photo), "grey": png(photo[..., 1]), "palette": png(photo, "P"), "bits": png(bits * 255, "1"),
        "alpha": png(np.dstack([photo, photo[..., :1]])), "grey and alpha": png(photo, "LA"),
        "16 bits": encoded(".png", deep), "16 bits of grey": encoded(".png", deep[..., 0]),
        "interlaced": interlaced(photo), "stored": png(photo, compress_level=0), "best": png(photo, optimize=True),
        "bmp": encoded(".bmp", photo), "grey bmp": encoded(".bmp", photo[..., 0]),
        "bmp with alpha": png(np.dstack([photo, photo[..., :1]]), kind="BMP"),
        "ppm": encoded(".ppm", photo), "pgm": encoded(".pgm", photo[..., 2]),
        "ppm with comments": b"P6 # a\n 2\t# b\n1\n255\nabcdef", "one pixel": png(photo[:1, :1]),
    }  # fmt: skip
    made |= {f"{depth} bits of grey": few_bits(photo[..., 0], depth) for depth in (1, 2, 4)}
    content = io.BytesIO()
    Pillow.fromarray(photo).quantize(13).save(content, "PNG", bits=4)
    made["13 colours"] = content.getvalue()
    return made | {f"turned {number}": png(photo, exif=exif(number)) for number in range(1, 9)}
