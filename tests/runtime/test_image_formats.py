"""What `read_image` makes of the formats and oddities that docs/images.md lists."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from segc.errors import Code, FileError
from segc.runtime import image_header
from segc.runtime.images import read_image
from tests.helpers.tiny_bundles import photograph

PICTURE = cv2.GaussianBlur(photograph(40, 60), (0, 0), 3)
RGB = Pillow.fromarray(PICTURE[..., ::-1])
OTHER = Pillow.fromarray(255 - PICTURE[..., ::-1])
TURNED = Pillow.Exif()
TURNED[0x112] = 6  # the camera was held upright
PAGES: dict[str, Any] = {"save_all": True, "append_images": [OTHER]}

EXACT = {
    "a.png": (RGB, {}), "a.bmp": (RGB, {}), "a.webp": (RGB, {"lossless": True}), "a.tif": (RGB, {}), "a.ppm": (RGB, {}),
    "a.jp2": (RGB, {}), "alpha.png": (RGB.convert("RGBA"), {}), "inks.tif": (RGB.convert("CMYK"), {}),
    "moves.png": (RGB, PAGES), "moves.webp": (RGB, {**PAGES, "lossless": True}), "pages.tif": (RGB, PAGES),
    "turned.png": (RGB, {"exif": TURNED}), "turned.tif": (RGB, {"tiffinfo": {0x112: 6}}),
}  # fmt: skip
NEARLY = {
    "a.jpg": (RGB, {"quality": 95}), "stepwise.jpg": (RGB, {"quality": 95, "progressive": True}),
    "inks.jpg": (RGB.convert("CMYK"), {"quality": 95}), "few.png": (RGB.quantize(64), {}), "moves.gif": (RGB, PAGES),
    "turned.jpg": (RGB, {"exif": TURNED, "quality": 95}),
}  # fmt: skip


def saved(folder: Path, name: str) -> Path:
    image, options = {**EXACT, **NEARLY}[name]
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", [*EXACT, *NEARLY])
def test_formats_give_the_picture_and_their_headers_its_size(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, name)
    want = cv2.rotate(PICTURE, cv2.ROTATE_90_CLOCKWISE) if name.startswith("turned") else PICTURE
    found = read_image(path)
    assert found.shape == want.shape
    difference = np.abs(found.astype(int) - want.astype(int))
    assert difference.max() == 0 if name in EXACT else difference.mean() < 8
    assert image_header.size(path.read_bytes()) == PICTURE.shape[:2]
    assert image_header.missing_end(path.read_bytes()) is None


def test_sixteen_bits_become_eight_and_grey_is_repeated(tmp_path: Path) -> None:
    deep = PICTURE.astype(np.uint16) * 256 + 255
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(tmp_path / name), deep)
        assert np.abs(read_image(tmp_path / name).astype(int) - PICTURE).max() <= 1
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    grey = read_image(tmp_path / "grey.png")
    assert np.ptp(grey, axis=2).max() == 0 and np.abs(grey[..., 0].astype(int) - PICTURE[..., 0]).max() <= 1


def test_floating_point_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "f.tif"), PICTURE.astype(np.float32) / 255)
    with pytest.raises(FileError, match="cannot read the image"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "stepwise.jpg", "a.webp", "a.bmp", "a.tif", "a.jp2", "a.ppm", "moves.png"]
)
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str, share: float) -> None:
    content = saved(tmp_path, name).read_bytes()
    (tmp_path / f"cut-{name}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileError, match="cannot read the image"):
        read_image(tmp_path / f"cut-{name}")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.jp2", "a.ppm", "moves.gif"])
def test_sizes_are_judged_before_anything_is_decoded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, name)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(FileError, match="too large") as caught:
        read_image(path, max_pixels=2399)
    assert caught.value.code == Code.IMAGE_TOO_LARGE and "60x40 pixels" in str(caught.value)


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A PNG that says it has 2^31 x 2^31 pixels, and nothing else."""
    content = bytearray(saved(tmp_path, "a.png").read_bytes())
    content[16:24] = b"\x7f\xff\xff\xff" * 2
    (tmp_path / "bomb.png").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(FileError, match="too large"):
        read_image(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_decoding_takes_three_bytes_a_pixel(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(PICTURE, (2000, 2000)))
    read_image(tmp_path / "large.jpg")  # what is imported and cached on the first use
    tracemalloc.start()
    read_image(tmp_path / "large.jpg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2000 * 2000


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0\xff\xff\xff\xff", b"P6 x", b"RIFF0000WEBPVP8X"],
)
def test_a_header_that_ends_too_soon_says_no_size(content: bytes) -> None:
    assert image_header.size(content) is None
