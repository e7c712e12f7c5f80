"""Masks, overlays and counts of one image."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segc.errors import FileError, MissingPackageError, ShapeError, UsageError
from segc.runtime.segmentation import Segmentation
from tests.helpers.tiny_bundles import photograph

PALETTE = ((255, 0, 0), (0, 255, 0), (10, 20, 30))
MASK = np.random.default_rng(0).integers(0, 3, (37, 53)).astype(np.uint8)


def made(mask: np.ndarray = MASK) -> Segmentation:
    return Segmentation(mask, ("red", "green", "blue"), PALETTE)


def test_a_saved_mask_holds_the_numbers_and_shows_the_colours(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    made().save(tmp_path / "m.png")
    with pillow.open(tmp_path / "m.png") as image:
        assert image.mode == "P" and image.getpalette()[:9] == [part for colour in PALETTE for part in colour]
        np.testing.assert_array_equal(np.asarray(image), MASK)
    shown = cv2.imread(str(tmp_path / "m.png"))[..., ::-1]
    np.testing.assert_array_equal(shown, np.asarray(PALETTE, np.uint8)[MASK])
    assert (tmp_path / "m.png").read_bytes() == made().png()


def test_two_classes_still_take_a_byte_a_pixel() -> None:
    """Pillow would pack them into one bit, and readers that want indices stumble over that."""
    png = Segmentation((MASK > 0).astype(np.uint8), ("a", "b"), PALETTE[:2]).png()
    assert png[24] == 8 and png[25] == 3  # IHDR: bit depth, indexed colour


def test_more_than_256_classes_are_saved_as_16_bit_grey() -> None:
    pillow = pytest.importorskip("PIL.Image")
    mask = np.arange(600, dtype=np.uint16).reshape(20, 30)
    with pillow.open(io.BytesIO(made(mask).png())) as image:
        np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(made(mask).png(), np.uint8), -1), mask)


def test_masks_are_png_files_in_folders_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.jpg"):
        made().save(tmp_path / "m.jpg")
    with pytest.raises(FileError, match="cannot be written"):
        made().save(tmp_path / "none" / "m.png")


def test_without_pillow_saving_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match="Pillow"):
        made().png()


def test_an_overlay_mixes_image_and_colours() -> None:
    image = photograph(37, 53)
    colours = np.asarray(PALETTE, np.uint8)[MASK][..., ::-1]
    for opacity in (0.0, 0.3, 1.0):
        mixed = made().overlay(image, opacity)
        assert mixed.dtype == np.uint8
        assert np.abs(mixed - (image * (1 - opacity) + colours * opacity)).max() <= 0.51
    np.testing.assert_array_equal(made().overlay(image, 1.0), colours)
    np.testing.assert_array_equal(made().overlay(image[..., 0], 0.0)[..., 2], image[..., 0])
    assert made(MASK.astype(np.uint16) + 300).overlay(image).shape == (37, 53, 3)


def test_an_overlay_needs_the_image_and_an_opacity() -> None:
    with pytest.raises(ShapeError):
        made().overlay(photograph(53, 37))
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError):
            made().overlay(photograph(37, 53), opacity)


def test_counts_add_up_and_name_everything() -> None:
    counts = made().counts()
    assert counts == {name: int(np.sum(i == MASK)) for i, name in enumerate(("red", "green", "blue"))}
    odd = np.zeros((700, 2), np.uint8)
    odd[-1] = 4
    assert made(odd).counts() == {"red": 1398, "green": 0, "blue": 0, "class 3": 0, "class 4": 2}
    twice = Segmentation(np.uint8([[0, 1, 1]]), ("void", "void"), PALETTE[:2])
    assert twice.counts() == {"void": 3}
