"""Folders of images with labels for bundles of tests.helpers.tiny_bundles, whose class is the brightest channel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.helpers.tiny_bundles import photograph


def labelled(folder: Path, count: int = 5, wrong: float = 0.2) -> tuple[Path, Path]:
    """Write images and labels: what the bundle says, but for a share of `wrong` pixels and a corner that is ignored."""
    images, labels = folder / "images", folder / "labels"
    for made in (images, labels):
        made.mkdir(parents=True)
    for at in range(count):
        image = photograph(20 + at, 30, at)
        rng = np.random.default_rng(at)
        label = np.where(rng.random(image.shape[:2]) < wrong, rng.integers(0, 3, image.shape[:2]), predicted(image))
        label[:4, :4] = 255
        cv2.imwrite(str(images / f"{at}.png"), image)
        cv2.imwrite(str(labels / f"{at}.png"), label.astype(np.uint8))
    return images, labels


def predicted(image: np.ndarray) -> np.ndarray:
    """What the tiny bundle finds in a BGR image."""
    return np.asarray(image[..., ::-1].argmax(axis=2))
