"""What everything in a scene is painted with: classes, camera, light, canvas and the items to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "sky", "person", "car")
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (153, 153, 153), (220, 220, 0),
    (107, 142, 35), (70, 130, 180), (220, 20, 60), (0, 0, 142),
)  # fmt: skip
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, PERSON, CAR = range(len(CLASSES))

# Disjoint, so that a score on VALIDATION_SEEDS is a score on unseen scenes.
TRAIN_SEEDS = range(1_000_000)
VALIDATION_SEEDS = range(1_000_000, 1_100_000)
DEMO_SEEDS = range(2_000_000, 2_100_000)

NEAR = 1.2  # metres; nothing closer is drawn
FAR = 400.0  # metres; the ground ends here
POST_PIXELS = 4.5  # thinner posts vanish in a map of 1/8 of the size, on which the network decides

Floats = NDArray[np.floating[Any]]  # float32 throughout, which numpy's type stubs cannot follow
Mask = NDArray[np.uint8]
Rng = np.random.Generator
Point = tuple[float, float, float]
Paint = tuple[int, int, int]  # RGB in 0..255


@dataclass(frozen=True, slots=True)
class Scene:
    """image: uint8 (H, W, 3), BGR as cv2 reads it. mask: uint8 (H, W), an index into CLASSES."""

    image: Mask
    mask: Mask


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera; `focal`, `horizon` (row) and `centre` (column) in pixels, `eye` in metres."""

    height: int
    width: int
    focal: float
    horizon: float
    centre: float
    eye: float

    def project(self, points: Sequence[Point] | Floats) -> Floats:
        """float32 (N, 2) columns and rows of (N, 3) world points; points behind NEAR are pulled to it."""
        x, y, z = np.asarray(points, np.float32).T
        z = np.maximum(z, NEAR)
        return np.stack([self.centre + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z], 1)


@dataclass(frozen=True, slots=True)
class Light:
    """Light of one scene. `travel`: metres (x, z) that a shadow extends per metre of height."""

    travel: tuple[float, float]
    strength: float  # 0 overcast, 1 hard sun
    tint: Floats  # BGR factor of lit surfaces
    zenith: Floats
    haze: Floats  # BGR of the horizon and of the fog
    fog: float  # extinction per metre

    def on(self, normal: tuple[float, float]) -> float:
        """Brightness factor of an upright face with this ground-plane normal (x, z)."""
        facing = -(normal[0] * self.travel[0] + normal[1] * self.travel[1]) / (np.hypot(*self.travel) + 1e-6)
        return float(1 + self.strength * (0.25 + 0.3 * facing if facing > 0 else 0.45 * facing - 0.1))


@dataclass(slots=True)
class Canvas:
    """Painted so far: colour float32 (H, W, 3) BGR in 0..1, mask uint8 (H, W), depth float32 (H, W) in metres."""

    colour: Floats
    mask: Mask
    depth: Floats

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
        """Rows and columns of a pixel box clipped to the canvas, or None when nothing of it is visible."""
        height, width = self.mask.shape
        x0, x1 = int(np.clip(np.floor(left), 0, width)), int(np.clip(np.ceil(right), 0, width))
        y0, y1 = int(np.clip(np.floor(top), 0, height)), int(np.clip(np.ceil(bottom), 0, height))
        return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None

    def blend(self, at: tuple[slice, slice], where: NDArray[np.bool_], colour: Floats, label: int, depth: float,
              alpha: Floats | None = None) -> None:  # fmt: skip
        """Paint `colour` (h, w, 3) where `where` (h, w); `alpha` (h, w) lets what is behind show, not its class."""
        weight = where.astype(np.float32) if alpha is None else where * alpha
        under = self.colour[at]
        self.colour[at] = under + (colour - under) * weight[..., None]
        self.mask[at][where] = label
        self.depth[at][where] = depth

    def polygon(self, points: Floats, colour: Floats, label: int, depth: float) -> None:
        """Fill a polygon, (N, 2) columns and rows, with one colour."""
        corners = [np.round(np.clip(points, -4e3, 4e3) * 16).astype(np.int32)]  # 4 fractional bits
        cv2.fillPoly(self.colour, corners, colour.tolist(), shift=4)
        cv2.fillPoly(self.mask, corners, label, shift=4)
        cv2.fillPoly(self.depth, corners, depth, shift=4)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the scene: where it comes in the painting order, what paints it, its shadow (N, 2) of (x, z)."""

    depth: float
    draw: Callable[[Canvas], None]
    shadow: Floats | None = None
