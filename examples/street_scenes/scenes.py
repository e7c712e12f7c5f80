"""Procedural street scenes with exact class masks: numpy and OpenCV only, the same bytes for the same seed.

World frame: x to the right, y up, z away from the camera, in metres, ground at y = 0. The camera looks along z, so with
focal length f (pixels), eye height e and vanishing point (cx, horizon)

    column = cx + f * x / z          row = horizon + f * (e - y) / z

The vanishing point lies anywhere in the frame, which stands for a turned and tilted camera. Ground and facades invert
this per pixel, so their textures, windows and lane markings are in true perspective. Objects are painted from far to
near; every stroke writes colour, class and depth, so the mask is exact by construction and fog follows the depth.

A scene is planned first (`plan`: a list of `Item`, each with its depth, its shadow on the ground and how to draw it)
and painted afterwards (`render`). All randomness comes from one `numpy.random.Generator`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
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


# ---------------------------------------------------------------------------------------------------- colour and noise


def rgb(red: float, green: float, blue: float) -> Floats:
    """float32 (3,), BGR in 0..1, of an RGB triple in 0..255."""
    return np.array([blue, green, red], np.float32) / 255


def pick(rng: Rng, colours: Sequence[Paint], jitter: float = 0.08) -> Floats:
    """A colour of the list, made a little lighter, darker or more tinted: float32 (3,) BGR."""
    base = rgb(*colours[int(rng.integers(len(colours)))])
    return np.clip(base * rng.uniform(1 - 2 * jitter, 1 + 2 * jitter) + rng.normal(0, jitter / 3, 3), 0.01, 1).astype(
        np.float32
    )


def tileable_noise(side: int, octaves: Sequence[int], seed: int) -> Floats:
    """float32 (side, side), wraps around, mean 0, mostly within -1..1; one term for each grid size in `octaves`."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side), np.float32)
    for cells in octaves:
        grid = np.pad(rng.normal(size=(cells, cells)), 2, mode="wrap").astype(np.float32)
        scale = side // cells
        big = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += big[2 * scale : 2 * scale + side, 2 * scale : 2 * scale + side] / cells**0.5
    unit: Floats = (total / (2 * total.std())).astype(np.float32)
    return unit


SMOOTH = tileable_noise(512, (4, 8, 16, 32), seed=1)  # clouds, stains, clumps of leaves
ROUGH = tileable_noise(512, (16, 32, 64, 128, 256, 512), seed=2)  # asphalt, plaster, leaves


def sample(texture: Floats, x: Floats, y: Floats, scale: float) -> Floats:
    """Texture values at world coordinates; `scale` texels a metre; x and y broadcast."""
    side = texture.shape[0]  # a power of two, so that masking wraps
    value: Floats = texture[(y * scale).astype(np.int32) & (side - 1), (x * scale).astype(np.int32) & (side - 1)]
    return value


def shaded(colour: Floats, tone: Floats) -> Floats:
    """Brightness `tone` (h, w) times one colour (3,) or a picture (h, w, 3)."""
    product: Floats = colour * tone[..., None]
    return product


def between(value: Floats, low: float, high: float | Floats) -> NDArray[np.bool_]:
    """Elementwise low <= value < high."""
    return (value >= low) & (value < high)


# --------------------------------------------------------------------------------------------------------- sky, light


def daylight(rng: Rng) -> Light:
    """A time of day: clear noon, low golden sun, overcast, or dusk."""
    kind = rng.choice(4, p=(0.4, 0.2, 0.28, 0.12))
    angle = rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(*((0.4, 1.2), (1.2, 2.8), (0.5, 1.0), (1.0, 2.0))[kind])
    zenith = (
        pick(rng, [(70, 130, 215), (100, 160, 230), (140, 185, 235), (60, 110, 190)]),
        pick(rng, [(110, 140, 190), (150, 165, 200), (190, 190, 205)]),
        pick(rng, [(190, 195, 205), (215, 218, 222), (160, 168, 178), (238, 240, 242)]),
        pick(rng, [(45, 55, 95), (70, 75, 110), (95, 95, 120)]),
    )[kind]
    haze = (
        pick(rng, [(200, 220, 240), (225, 235, 245), (180, 205, 235)]),
        pick(rng, [(250, 215, 165), (245, 195, 150), (240, 225, 200)]),
        pick(rng, [(210, 212, 216), (228, 230, 232), (245, 246, 248)]),
        pick(rng, [(205, 150, 130), (150, 140, 150), (220, 175, 140)]),
    )[kind]
    return Light(
        travel=(reach * float(np.cos(angle)), reach * float(np.sin(angle))),
        strength=float(rng.uniform(*((0.6, 1.0), (0.6, 1.0), (0.0, 0.15), (0.0, 0.2))[kind])),
        tint=(rgb(255, 252, 245), rgb(275, 238, 200), rgb(235, 238, 245), rgb(170, 160, 175))[kind],
        zenith=zenith,
        haze=haze,
        fog=float(rng.uniform(0.0005, 0.003) if rng.random() < 0.75 else rng.uniform(0.004, 0.02)),
    )


def sky(camera: Camera, light: Light, rng: Rng) -> Canvas:
    """A canvas that is all sky: gradient, clouds, a glow around the sun."""
    height, width = camera.height, camera.width
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None]
    rise = np.clip((camera.horizon - rows) / max(camera.horizon, 0.4 * height), 0, 1) ** rng.uniform(0.5, 1.1)
    colour = light.haze + (light.zenith - light.haze) * rise[..., None]
    colour = np.broadcast_to(colour, (height, width, 3)).astype(np.float32)
    if rng.random() < 0.75:
        stretch = 160 / height  # clouds keep their size relative to the frame
        shift = rng.uniform(0, 512, 2).tolist()
        cloud = sample(SMOOTH, columns * stretch + shift[0], rows * stretch * rng.uniform(1.5, 4) + shift[1], 1)
        amount = np.clip((cloud + rng.uniform(-0.5, 0.5)) * rng.uniform(0.8, 2), 0, 0.95)[..., None]
        bright = np.clip(light.haze * rng.uniform(0.85, 1.2) + 0.05, 0, 1)
        colour = colour + (bright - colour) * amount
    if rng.random() < 0.3:
        sun = rng.uniform((0, 0), (width, max(camera.horizon, 1)))
        distance = np.hypot(columns - sun[0], rows - sun[1]) / height
        colour = colour + np.exp(-((distance / rng.uniform(0.15, 0.5)) ** 2))[..., None] * rng.uniform(0.1, 0.5)
    return Canvas(np.ascontiguousarray(colour, np.float32), np.full((height, width), SKY, np.uint8),
                  np.full((height, width), FAR, np.float32))  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- ground


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies on the ground. A street runs along z, or along x where `across`; `half` = 0 means no road at all."""

    across: bool
    centre: float  # of the road: x, or z where `across`
    half: float  # half of the road's width
    walks: tuple[float, float]  # widths of the sidewalks on the negative and the positive side
    curve: float  # 1/m; a street along z bends by curve * z**2
    crossing: tuple[float, float]  # z range of a side street; empty where equal
    grass: tuple[bool, bool]  # what lies beyond the sidewalks, else paving
    verge: float  # width of grass between kerb and sidewalk

    def lateral(self, x: Floats, z: Floats) -> Floats:
        """Signed distance from the road's centre line."""
        return z - self.centre + 0 * x if self.across else x - self.centre - self.curve * z**2

    def edge(self, side: int) -> float:
        """Lateral position where buildings may start; side is -1 or 1."""
        return side * (self.half + self.walks[(side + 1) // 2])

    def bend(self, z: float) -> float:
        """Position x of the centre line of a street along z."""
        return self.centre + self.curve * z**2


ASPHALTS = [(70, 70, 74), (95, 95, 98), (120, 118, 116), (55, 56, 62), (140, 138, 134), (90, 84, 86)]
SLABS = [(170, 165, 158), (195, 188, 176), (140, 136, 132), (165, 140, 122), (150, 100, 85), (205, 203, 200),
         (110, 108, 108), (185, 160, 130)]  # fmt: skip
KERBS = [(190, 188, 184), (150, 148, 145), (215, 212, 205)]
LAWNS = [(90, 120, 50), (70, 105, 45), (120, 130, 70), (60, 90, 40)]


def ground_materials(layout: Layout, x: Floats, z: Floats) -> tuple[Mask, Floats]:
    """Class (h, w) and lateral distance (h, w) of ground points; grass counts as vegetation."""
    lateral = layout.lateral(x, z)
    material = np.full(lateral.shape, SIDEWALK, np.uint8)
    for side, grass in zip((-1, 1), layout.grass, strict=True):
        if grass:
            material[lateral * side > abs(layout.edge(side))] = VEGETATION
    if layout.verge:
        material[between(np.abs(lateral), layout.half + 0.25, layout.half + 0.25 + layout.verge)] = VEGETATION
    road = np.abs(lateral) < layout.half
    if not layout.across and layout.crossing[0] < layout.crossing[1]:
        road |= between(z + 0 * x, *layout.crossing)
    material[road] = ROAD
    return material, lateral


def paving(rng: Rng, x: Floats, z: Floats, base: Floats) -> Floats:
    """Slabs, bricks or asphalt: float32 (h, w, 3)."""
    length, width = rng.uniform(0.25, 1.2), rng.uniform(0.25, 1.0)
    row = np.floor(z / width)
    slab = np.floor(x / length + 0.5 * (row % 2)) if rng.random() < 0.6 else np.floor(x / length)
    tone = sample(ROUGH, slab, row, 37) * rng.uniform(0.02, 0.07)
    tone = tone + sample(ROUGH, x, z, 30) * rng.uniform(0.04, 0.12) + sample(SMOOTH, x, z, 12) * rng.uniform(0.03, 0.12)
    if rng.random() < 0.7:
        fine = np.clip(1.2 - z / 14, 0, 1)  # joints vanish where they fall below a pixel
        joint = (np.mod(z / width, 1) < 0.08) | (np.mod(x / length + 0.5 * (row % 2), 1) < 0.06)
        tone = tone - joint * fine * np.float32(rng.uniform(0.05, 0.2))
    return shaded(base, 1 + tone)


def asphalt(rng: Rng, x: Floats, z: Floats, base: Floats) -> Floats:
    """Grain, stains, wheel tracks and patches: float32 (h, w, 3)."""
    tone = sample(ROUGH, x, z, 45) * rng.uniform(0.05, 0.16) + sample(SMOOTH, x, z, 9) * rng.uniform(0.04, 0.14)
    tone = tone - np.cos(x * rng.uniform(2.5, 4)) * rng.uniform(0, 0.05)
    cracks = np.abs(sample(SMOOTH, x, z, 20)) < (0.012 if rng.random() < 0.5 else 0)
    tone = tone - cracks * np.float32(0.2)
    patch = sample(ROUGH, np.floor(x / 3.1), np.floor(z / 5.3), 53)
    tone = tone - (patch > 0.7) * np.float32(rng.uniform(0, 0.2))
    return shaded(base, 1 + tone)


def markings(rng: Rng, layout: Layout, lateral: Floats, along: Floats) -> NDArray[np.bool_]:
    """Where the road is painted: centre and edge lines, lanes, a zebra crossing."""
    paint = np.zeros(lateral.shape, bool)
    period = rng.uniform(4, 9)
    dashed = np.mod(along, period) < period * rng.uniform(0.4, 0.7)
    if rng.random() < 0.8:
        paint |= (np.abs(lateral) < rng.uniform(0.06, 0.12)) & (dashed | (rng.random() < 0.3))
    if rng.random() < 0.5:
        paint |= between(np.abs(lateral), layout.half - 0.45, layout.half - 0.25)
    if rng.random() < 0.4 and layout.half > 5:
        paint |= (np.abs(np.abs(lateral) - layout.half / 2) < 0.08) & dashed
    if rng.random() < 0.45:
        start = rng.uniform(5, 22)
        paint |= between(along, start, start + rng.uniform(2.5, 4)) & (np.mod(lateral, 1.1) < 0.55)
    if rng.random() < 0.2:
        start = rng.uniform(5, 14)
        tip = (along - start) / 3
        paint |= between(tip, 0, 1) & (np.abs(lateral - layout.half / 2) < np.where(tip > 0.55, (1 - tip) * 1.1, 0.1))
    return paint


def road_surface(rng: Rng, layout: Layout, material: Mask, lateral: Floats, x: Floats, z: Floats) -> Floats:
    """Asphalt or setts with their paint and a gutter along the kerb: float32 (h, w, 3)."""
    along, across = (x + 0 * z, x) if layout.across else (z + 0 * x, lateral)
    surface = paving if rng.random() < 0.08 else asphalt
    colour = surface(rng, across, z, pick(rng, ASPHALTS))
    painted = markings(rng, layout, lateral, along) & (np.abs(lateral) < layout.half)
    wear = np.clip(rng.uniform(0.5, 1) + 0.4 * sample(SMOOTH, x, z, 25), 0, 1)[..., None]
    stripe = rgb(235, 235, 230) if rng.random() < 0.85 else rgb(235, 190, 60)
    colour = np.where(painted[..., None], colour + (stripe - colour) * wear * rng.uniform(0.5, 0.95), colour)
    gutter = between(np.abs(lateral), layout.half - 0.25, layout.half) & (material == ROAD)
    return shaded(colour, 1 - gutter * np.float32(rng.uniform(0.05, 0.4)))


def sidewalk_surface(rng: Rng, layout: Layout, lateral: Floats, x: Floats, z: Floats) -> Floats:
    """Slabs or asphalt behind a kerb stone: float32 (h, w, 3)."""
    surface = asphalt if rng.random() < 0.12 else paving
    colour = surface(rng, x if layout.across else lateral, z, pick(rng, SLABS))
    kerb = between(np.abs(lateral), layout.half, layout.half + min(0.25, layout.half))
    return np.where(kerb[..., None], pick(rng, KERBS), colour)


def lawn(rng: Rng, x: Floats, z: Floats) -> Floats:
    """Grass: float32 (h, w, 3)."""
    blades = 1 + 0.35 * sample(ROUGH, x, z, 40) + 0.2 * sample(SMOOTH, x, z, 10)
    return shaded(pick(rng, LAWNS), blades)


def ground(canvas: Canvas, camera: Camera, layout: Layout, rng: Rng) -> None:
    """Road, sidewalk and grass from the horizon down to the lower edge."""
    top = int(np.clip(np.floor(camera.horizon) + 1, 0, camera.height - 1))
    rows = np.arange(top, camera.height, dtype=np.float32)[:, None]
    z = np.minimum(camera.focal * camera.eye / np.maximum(rows + 0.5 - camera.horizon, 0.1), FAR)
    x = (np.arange(camera.width, dtype=np.float32)[None] - camera.centre) * z / camera.focal
    material, lateral = ground_materials(layout, x, z)
    colour = road_surface(rng, layout, material, lateral, x, z)
    colour = np.where((material == SIDEWALK)[..., None], sidewalk_surface(rng, layout, lateral, x, z), colour)
    if (material == VEGETATION).any():
        colour = np.where((material == VEGETATION)[..., None], lawn(rng, x, z), colour)
    canvas.colour[top:] = colour
    canvas.mask[top:] = material
    canvas.depth[top:] = z


def cast_shadows(canvas: Canvas, camera: Camera, light: Light, items: Sequence[Item], rng: Rng) -> None:
    """Darken the ground under and behind every item, and blotch it where trees stand outside the frame."""
    shade = np.zeros((camera.height, camera.width), np.float32)
    for item in items:
        if item.shadow is not None:
            flat = np.insert(item.shadow, 1, 0, axis=1)
            corners = np.clip(camera.project(flat), -4e3, 4e3)
            cv2.fillPoly(shade, [np.round(corners * 16).astype(np.int32)], 1.0, shift=4)
    soft = cv2.GaussianBlur(shade, (0, 0), camera.height / rng.uniform(80, 300))
    if rng.random() < 0.3:
        z = canvas.depth
        x = (np.arange(camera.width, dtype=np.float32)[None] - camera.centre) * z / camera.focal
        soft = np.maximum(soft, np.clip(3 * sample(SMOOTH, x, z, rng.uniform(15, 40)) - rng.uniform(-1, 1), 0, 1))
    deep = 0.12 + 0.5 * light.strength
    canvas.colour *= 1 - deep * soft[..., None] * (canvas.mask != SKY)[..., None]


def shadow_of(x: float, z: float, width: float, height: float, light: Light) -> Floats:
    """Ground polygon (N, 2) shaded by an upright thing of this width and height (metres)."""
    foot = np.array([[-1, -0.4], [1, -0.4], [1, 0.4], [-1, 0.4]], np.float32) * width / 2 + (x, z)
    tip = foot + np.array(light.travel, np.float32) * height * (light.strength > 0.2)
    hull = cv2.convexHull(np.concatenate([foot, tip]).astype(np.float32))
    return np.maximum(hull[:, 0], (-1e3, NEAR)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ buildings


@dataclass(frozen=True, slots=True)
class Facade:
    """How a building looks; lengths in metres."""

    height: float
    roof: float  # extra height of a pitched roof, 0 for flat
    wall: Floats
    glass: Floats
    trim: Floats
    roofing: Floats
    shop: Floats | None  # colour of the shop front, None where windows go down to the ground
    storey: float
    pitch: float  # distance between windows
    window: tuple[float, float]  # share of the pitch and of the storey that is glass
    brick: float  # contrast of brick courses
    stain: float
    offset: int  # makes every facade sample other noise


WALLS = [(200, 190, 170), (225, 215, 195), (180, 110, 85), (150, 85, 70), (170, 165, 160), (120, 115, 112),
         (235, 232, 225), (205, 175, 130), (140, 130, 115), (190, 150, 120), (100, 75, 65), (160, 175, 185),
         (225, 200, 150), (210, 160, 140), (85, 85, 90), (60, 70, 65)]  # fmt: skip
SHOPS = [(40, 45, 50), (120, 30, 35), (30, 70, 60), (30, 45, 100), (200, 195, 185), (70, 50, 40), (180, 140, 40)]


def random_facade(rng: Rng, low: float = 5, high: float = 24) -> Facade:
    """A facade between `low` and `high` metres tall."""
    height = float(rng.uniform(low, high))
    modern = rng.random() < 0.2
    shop = pick(rng, SHOPS) if rng.random() < 0.45 else None
    return Facade(
        height=height,
        roof=float(rng.uniform(1.5, 4.5)) if height < 16 and rng.random() < 0.5 else 0.0,
        wall=pick(rng, WALLS, 0.12),
        glass=pick(rng, [(40, 48, 58), (70, 85, 100), (25, 28, 32), (110, 130, 150)], 0.1),
        trim=pick(rng, [(235, 232, 228), (200, 195, 185), (90, 85, 80), (60, 50, 45)]),
        roofing=pick(rng, [(130, 70, 55), (80, 75, 75), (110, 95, 85), (60, 62, 68), (150, 90, 65)]),
        shop=shop,
        storey=float(rng.uniform(2.8, 4.2)),
        pitch=float(rng.uniform(1.6, 4.5)),
        window=(0.92, rng.uniform(0.5, 0.9)) if modern else (rng.uniform(0.3, 0.62), rng.uniform(0.4, 0.68)),
        brick=float(rng.uniform(0.04, 0.14)) if rng.random() < 0.5 else 0.0,
        stain=float(rng.uniform(0.03, 0.15)),
        offset=int(rng.integers(1 << 16)),
    )


def facade_colour(facade: Facade, along: Floats, up: Floats, texel: Floats) -> Floats:
    """float32 (h, w, 3) of wall points `along` x `up` in metres; `texel` is metres per pixel, to fade fine detail."""
    along, up = np.broadcast_arrays(along + facade.offset, up)
    colour = bare_wall(facade, along, up, texel)
    floor, level = np.floor(up / facade.storey), np.mod(up / facade.storey, 1)
    add_windows(colour, facade, along, floor, level)
    colour[between(level, 0.0, 0.05) & (floor > 0)] = facade.trim * 0.9  # ledges
    street_level = floor == 0
    if facade.shop is not None and street_level.any():
        rows = np.flatnonzero(street_level.any(1))
        band = slice(rows[0], rows[-1] + 1)
        front = shop_front(facade, along[band], level[band])
        np.copyto(colour[band], front, where=street_level[band][..., None])
    above = up > facade.height
    if above.any():
        courses = np.mod(up[above], 0.5) < 0.12
        tone = 1 + 0.15 * sample(ROUGH, along[above], up[above], 30) - np.float32(0.1) * courses
        colour[above] = shaded(facade.roofing, tone)
    return colour


def bare_wall(facade: Facade, along: Floats, up: Floats, texel: Floats) -> Floats:
    """Plaster or brick with stains: float32 (h, w, 3)."""
    fine = np.clip(0.25 / texel, 0, 1)
    tone = facade.stain * sample(SMOOTH, along, up, 11) + 0.07 * fine * sample(ROUGH, along, up, 40)
    if facade.brick:
        courses = (np.mod(up, 0.22) < 0.05) | (np.mod(along, 0.44) < 0.04)
        tone = tone - facade.brick * fine * courses
    tone = tone - 0.12 * np.exp(-up / 0.8)  # splash zone above the ground
    return shaded(facade.wall, 1 + tone)


def add_windows(colour: Floats, facade: Facade, along: Floats, floor: Floats, level: Floats) -> None:
    """Paint frames, bars and panes into `colour`; `floor` counts storeys, `level` is the share of a storey, 0..1."""
    bays = along / facade.pitch
    across = np.abs(np.mod(bays, 1) - 0.5) * 2
    inside = np.abs(level - 0.52) * 2
    width, tall = facade.window
    whole = (floor + 0.85) * facade.storey < facade.height  # no window cut by the eaves
    opening = (across < width + 0.12) & (inside < tall + 0.1) & whole
    pane = (across < width) & (inside < tall) & (across >= 0.05) & (inside >= 0.05) & whole
    colour[opening] = facade.trim
    glow = 1 + 0.9 * sample(ROUGH, np.floor(bays[pane]), floor[pane], 41) + 0.4 * level[pane]
    colour[pane] = np.clip(shaded(facade.glass, glow), 0.02, 0.9)


def shop_front(facade: Facade, along: Floats, level: Floats) -> Floats:
    """Ground floor with large panes under a sign board; `level` is the share of the storey, 0..1."""
    assert facade.shop is not None
    unit = np.floor(along / 5.3)
    across = np.mod(along / 5.3, 1)
    pane = between(across, 0.06, 0.9) & between(level, 0.15, 0.76)
    goods = 0.1 + 0.25 * np.clip(sample(ROUGH, along, level * 3, 18), 0, 1)
    inside = goods[..., None] * rgb(255, 225, 185) + 0.5 * facade.glass
    board = facade.shop * (1 + 0.4 * sample(ROUGH, unit, 0 * level, 59))[..., None]
    letters = between(level, 0.84, 0.93) & between(across, 0.3, 0.7) & (sample(ROUGH, along, 0 * level, 60) > 0)
    board = np.where(letters[..., None], 1 - facade.shop * 0.7, board)
    return np.where(pane[..., None], inside, np.where((level > 0.8)[..., None], board, facade.shop * 0.8))


def building_side(
    canvas: Canvas, camera: Camera, light: Light, facade: Facade, x: float, near: float, far: float
) -> None:
    """The wall along the street: plane at `x`, from depth `near` to `far`."""
    ends = sorted(camera.centre + camera.focal * x / d for d in (max(near, NEAR), far))
    top = camera.horizon - camera.focal * (facade.height + facade.roof - camera.eye) / max(near, NEAR)
    at = canvas.window(ends[0], top, ends[1], camera.horizon + camera.focal * camera.eye / max(near, NEAR) + 1)
    if at is None:
        return
    columns = np.arange(at[1].start, at[1].stop, dtype=np.float32)[None] + 0.5 - camera.centre
    z = camera.focal * x / np.where(np.abs(columns) < 0.5, np.float32(np.copysign(0.5, x)), columns)
    rows = np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] + 0.5
    up = camera.eye - (rows - camera.horizon) * z / camera.focal
    where = between(up, 0, facade.height + facade.roof) & between(z, near, far)
    # A pixel of an oblique wall covers z / f upwards but z * z / (f * x) along the street.
    texel = np.maximum(z * z / (camera.focal * abs(x)), z / camera.focal) + 0 * up
    colour = facade_colour(facade, z - near + 0 * up, np.maximum(up, 0), texel) * light.on((-np.sign(x), 0))
    canvas.blend(at, where, colour * light.tint, BUILDING, max(near, NEAR))
    canvas.depth[at][where] = np.broadcast_to(z, where.shape)[where]


def building_front(
    canvas: Canvas, camera: Camera, light: Light, facade: Facade, x0: float, x1: float, z: float
) -> None:
    """The wall that faces the camera: depth `z`, from `x0` to `x1`, with a gable under a pitched roof."""
    scale = camera.focal / z
    top = camera.horizon - scale * (facade.height + facade.roof - camera.eye)
    at = canvas.window(camera.centre + scale * x0, top, camera.centre + scale * x1,
                       camera.horizon + scale * camera.eye + 1)  # fmt: skip
    if at is None:
        return
    x = (np.arange(at[1].start, at[1].stop, dtype=np.float32)[None] + 0.5 - camera.centre) / scale
    up = camera.eye - (np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] + 0.5 - camera.horizon) / scale
    gable = facade.roof * (1 - np.abs(2 * (x - x0) / (x1 - x0) - 1))
    where = between(x, x0, x1) & between(up, 0, facade.height + gable)
    colour = facade_colour(facade, x - x0 + 0 * up, np.maximum(up, 0), np.full(where.shape, 1 / scale, np.float32))
    canvas.blend(at, where, colour * (light.on((0, -1)) * light.tint), BUILDING, z)


def building_shadow(x: float, depth: float, near: float, far: float, facade: Facade, light: Light) -> Floats | None:
    """Ground polygon (N, 2) shaded by a box of the facade's height."""
    if light.strength < 0.2:
        return None
    foot = np.array([(x, near), (x, far), (x + depth, far), (x + depth, near)], np.float32)
    tip = foot + np.array(light.travel, np.float32) * facade.height
    hull = cv2.convexHull(np.concatenate([foot, tip]).astype(np.float32))[:, 0]
    return np.maximum(hull, (-1e3, NEAR)).astype(np.float32)


def building(camera: Camera, light: Light, facade: Facade, x: float, near: float, far: float, depth: float) -> Item:
    """A box beside the street: inner wall at `x`, from `near` to `far`, reaching `depth` (signed) away from it."""

    def draw(canvas: Canvas) -> None:
        building_side(canvas, camera, light, facade, x, near, far)
        if near > NEAR:
            building_front(canvas, camera, light, facade, min(x, x + depth), max(x, x + depth), near)

    # Painted by its far end: whatever stands beside it is on the street's side of the wall, hence in front.
    return Item(far, draw, building_shadow(x, depth, near, far, facade, light))


# ----------------------------------------------------------------------------------------------------------- vegetation

LEAVES = [(70, 105, 45), (50, 85, 40), (95, 120, 55), (85, 110, 75), (120, 125, 50), (45, 65, 40), (135, 110, 55)]
BARK = [(95, 75, 60), (70, 60, 52), (120, 105, 90)]


def foliage(canvas: Canvas, camera: Camera, light: Light, rng: Rng, centre: tuple[float, float, float],
            radii: tuple[float, float], colour: Floats, shape: str) -> None:  # fmt: skip
    """A ragged, lit mass of leaves around `centre` (world); shapes: "round", "cone", "block", "bare" (branches)."""
    (column, row), scale = camera.project([centre])[0], camera.focal / centre[2]
    wide, tall = radii[0] * scale, radii[1] * scale
    at = canvas.window(column - 1.2 * wide, row - 1.2 * tall, column + 1.2 * wide, row + 1.2 * tall)
    if at is None:
        return
    u = (np.arange(at[1].start, at[1].stop, dtype=np.float32)[None] + 0.5 - column) / wide
    v = (np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] + 0.5 - row) / tall
    ox, oy = rng.uniform(0, 512, 2).tolist()
    clump = sample(SMOOTH, u * radii[0] + ox, v * radii[1] + oy, 30)
    leaf = sample(ROUGH, u * radii[0] + ox, v * radii[1] + oy, 45)
    if shape == "cone":
        reach = np.abs(u) / np.maximum((v + 1) / 2, 1e-3) + 4 * np.maximum(v - 0.95, 0)
        reach = np.where(np.abs(v) > 1, 9, reach)
    elif shape == "block":
        reach = np.maximum(np.abs(u) ** 6, np.abs(v) ** 4)
    else:
        reach = np.sqrt(u * u + v * v)
    where = reach + 0.28 * clump + 0.1 * leaf < 1
    side = u if light.travel[0] < 0 else -u
    shade = 1 + light.strength * 0.3 * side - 0.28 * v + 0.5 * clump + 0.45 * leaf
    texture = colour * np.clip(shade, 0.25, 1.9)[..., None] * light.tint
    if shape == "bare":
        twigs = (np.abs(clump) < 0.09) | (np.abs(leaf) < 0.16) | (clump + leaf > 1.1)
        canvas.blend(at, where, texture, VEGETATION, centre[2], alpha=np.where(twigs, 0.85, 0.15).astype(np.float32))
    else:
        thin = np.clip((1 - reach) * 6 + 0.4, 0.4, 1)  # the rim lets some light through
        canvas.blend(at, where, texture, VEGETATION, centre[2], alpha=thin.astype(np.float32))


def tree(camera: Camera, light: Light, rng: Rng, x: float, z: float, height: float) -> Item:
    """A trunk and a crown; the trunk counts as vegetation."""
    shape = str(rng.choice(["round", "cone", "bare"], p=(0.66, 0.14, 0.2)))
    wide = height * rng.uniform(0.14, 0.22) if shape == "cone" else height * rng.uniform(0.22, 0.42)
    tall = height * (0.44 if shape == "cone" else rng.uniform(0.3, 0.38))
    colour = pick(rng, BARK if shape == "bare" else LEAVES, 0.1)
    bark, stem = pick(rng, BARK), max(0.14, height * rng.uniform(0.018, 0.035))
    seed = int(rng.integers(1 << 32))  # its own stream: drawing order must not change the look

    def draw(canvas: Canvas) -> None:
        own = np.random.default_rng(seed)
        trunk = [
            (x - stem, 0, z),
            (x + stem, 0, z),
            (x + stem * 0.6, height * 0.7, z),
            (x - stem * 0.6, height * 0.7, z),
        ]
        canvas.polygon(camera.project(trunk), bark * light.tint, VEGETATION, z)
        lit = [(x, 0, z), (x + stem, 0, z), (x + stem * 0.6, height * 0.7, z), (x, height * 0.7, z)]
        canvas.polygon(camera.project(lit), bark * light.tint * (1.25 if light.travel[0] < 0 else 0.75), VEGETATION, z)
        crown = (x, height - tall, z)
        foliage(canvas, camera, light, own, crown, (wide, tall), colour, shape)
        if shape == "round":  # a second, smaller mass breaks the outline
            aside = (x + wide * own.uniform(-0.6, 0.6), height - tall * own.uniform(1.1, 1.5), z)
            foliage(canvas, camera, light, own, aside, (wide * 0.7, tall * 0.6), colour * own.uniform(0.8, 1.1), shape)

    return Item(z, draw, shadow_of(x, z, wide * 1.6, height, light))


def hedge(camera: Camera, light: Light, rng: Rng, x: float, z: float, width: float, height: float) -> Item:
    """A bush or a clipped hedge facing the camera."""
    shape = "block" if rng.random() < 0.5 else "round"
    colour = pick(rng, LEAVES, 0.1)
    seed = int(rng.integers(1 << 32))

    def draw(canvas: Canvas) -> None:
        foliage(canvas, camera, light, np.random.default_rng(seed), (x, height * 0.45, z), (width / 2, height * 0.55),
                colour, shape)  # fmt: skip

    return Item(z, draw, shadow_of(x, z, width, height, light))


# --------------------------------------------------------------------------------------------------- street furniture


def post(
    canvas: Canvas, camera: Camera, x: float, z: float, low: float, high: float, width: float, colour: Floats
) -> None:
    """An upright bar with a lit and a dark side, never thinner than POST_PIXELS."""
    half = max(width, POST_PIXELS * z / camera.focal) / 2
    for left, right, tone in ((-half, half, 1.0), (-half, -half * 0.2, 1.3)):
        corners = [(x + left, low, z), (x + right, low, z), (x + right, high, z), (x + left, high, z)]
        canvas.polygon(camera.project(corners), np.clip(colour * tone, 0, 1), POLE, z)


def lamp(camera: Camera, light: Light, rng: Rng, x: float, z: float, towards: int) -> Item:
    """A street lamp whose arm reaches over the road (`towards`: -1 or 1)."""
    height, width = rng.uniform(4.5, 8.5), rng.uniform(0.16, 0.28)
    colour = pick(rng, [(110, 112, 115), (60, 62, 64), (35, 50, 45), (150, 152, 155), (130, 110, 85)]) * light.tint
    arm = rng.uniform(0.6, 2.0) * towards
    globe = rng.random() < 0.35

    def draw(canvas: Canvas) -> None:
        post(canvas, camera, x, z, 0, height, width, colour)
        post(canvas, camera, x, z, 0, 0.9, width * 1.6, colour * 0.9)
        if globe:
            column, row = camera.project([(x, height, z)])[0]
            ball = np.asarray(cv2.ellipse2Poly((0, 0), (64, 64), 0, 0, 360, 20), np.float32) / 64
            canvas.polygon(ball * 0.28 * camera.focal / z + (column, row), rgb(235, 232, 215), POLE, z)
            return
        thick = width * 0.7
        corners = [
            (x, height - thick, z),
            (x + arm, height + 0.1, z),
            (x + arm, height + 0.1 + thick, z),
            (x, height, z),
        ]
        canvas.polygon(camera.project(corners), colour, POLE, z)
        head = [(x + arm * 0.7, height, z), (x + arm * 1.4, height + 0.05, z), (x + arm * 1.4, height + 0.3, z),
                (x + arm * 0.7, height + 0.3, z)]  # fmt: skip
        canvas.polygon(camera.project(head), colour * 0.8, POLE, z)

    return Item(z, draw, shadow_of(x, z, width, height, light))


def plate_outline(shape: str) -> Floats:
    """float32 (N, 2): outline of a sign in -1..1, y down."""
    if shape in ("circle", "octagon"):
        count, turn = (8, np.pi / 8) if shape == "octagon" else (24, 0)
        angle = np.arange(count) * 2 * np.pi / count + turn
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    corners = {
        "triangle": [(-1, 0.8), (1, 0.8), (0, -0.95)],
        "yield": [(-1, -0.8), (1, -0.8), (0, 0.95)],
        "diamond": [(-1, 0), (0, -1), (1, 0), (0, 1)],
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "board": [(-1.9, -0.8), (1.9, -0.8), (1.9, 0.8), (-1.9, 0.8)],
    }
    return np.array(corners[shape], np.float32)


WHITE, RED, BLUE = (240, 240, 238), (200, 30, 40), (25, 80, 170)
YELLOW, GREEN, BLACK = (240, 200, 30), (20, 115, 75), (30, 30, 32)
# Shape of the plate, colours of rim, field and symbol.
SIGNS: tuple[tuple[str, Paint, Paint, Paint], ...] = (
    ("circle", RED, WHITE, BLACK), ("triangle", RED, WHITE, BLACK), ("yield", RED, WHITE, WHITE),
    ("octagon", WHITE, RED, WHITE), ("square", WHITE, BLUE, WHITE), ("circle", WHITE, BLUE, WHITE),
    ("diamond", WHITE, YELLOW, YELLOW), ("board", WHITE, BLUE, WHITE), ("board", WHITE, GREEN, WHITE),
    ("board", BLACK, YELLOW, BLACK), ("circle", RED, BLUE, RED), ("square", YELLOW, YELLOW, BLACK),
)  # fmt: skip


def traffic_sign(camera: Camera, light: Light, rng: Rng, x: float, z: float) -> Item:
    """A sign on its post: rim, field and a symbol; sometimes a second plate below."""
    picks = [SIGNS[i] for i in rng.integers(len(SIGNS), size=2 if rng.random() < 0.2 else 1)]
    radius = rng.uniform(0.38, 0.62)
    height = rng.uniform(2.2, 3.2)
    width = rng.uniform(0.12, 0.2)
    metal = pick(rng, [(140, 142, 145), (100, 102, 105), (170, 170, 172)]) * light.tint
    fade = light.tint * rng.uniform(0.7, 1.05) * light.on((0, -1))
    glyph = rng.uniform(-0.5, 0.5, (2, 4, 2)).astype(np.float32)

    def draw(canvas: Canvas) -> None:
        post(canvas, camera, x, z, 0, height + radius * 0.6, width, metal)
        for i, (shape, rim, face, symbol) in enumerate(picks):
            size = radius * camera.focal / z
            at = camera.project([(x, height - 2.0 * radius * i, z)])[0]
            outline = plate_outline(shape)
            canvas.polygon(outline * size + at, np.clip(rgb(*rim) * fade, 0, 1), SIGN, z)
            canvas.polygon(outline * size * 0.78 + at, np.clip(rgb(*face) * fade, 0, 1), SIGN, z)
            canvas.polygon(glyph[i] * size * 0.9 + at, np.clip(rgb(*symbol) * fade, 0, 1), SIGN, z)

    return Item(z, draw, shadow_of(x, z, width, height, light))


# --------------------------------------------------------------------------------------------------------------- people

CLOTHES = [(35, 38, 45), (60, 70, 95), (130, 40, 45), (190, 185, 180), (90, 95, 70), (40, 70, 120), (200, 150, 60),
           (225, 225, 228), (110, 75, 55), (70, 40, 70), (30, 90, 90), (210, 90, 70)]  # fmt: skip
SKINS = [(235, 195, 170), (205, 160, 130), (150, 105, 80), (95, 65, 50)]


def limb(start: tuple[float, float], end: tuple[float, float], thick: float, thin: float) -> Floats:
    """float32 (4, 2): a tapering bar between two points of the body frame."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    normal = np.array([a[1] - b[1], b[0] - a[0]], np.float32)
    normal /= np.linalg.norm(normal) + 1e-6
    return np.stack([a + normal * thick, a - normal * thick, b - normal * thin, b + normal * thin])


def body_parts(rng: Rng) -> list[tuple[Floats, Floats]]:
    """Polygons (N, 2) and BGR colours, back to front; body frame: x in -0.5..0.5, y from 0 (feet) to 1 (crown)."""
    top, trousers = pick(rng, CLOTHES, 0.1), pick(rng, CLOTHES[:6] + CLOTHES[8:9], 0.1)
    skin, hair = pick(rng, SKINS), pick(rng, [(35, 28, 25), (90, 60, 40), (170, 140, 95), (120, 118, 116)])
    stride, swing = rng.uniform(0, 0.12), rng.uniform(0, 0.07)
    broad, facing = rng.uniform(0.1, 0.135), rng.choice([-1, 1])
    parts: list[tuple[Floats, Floats]] = []
    for side, tone in ((-1, 0.8), (1, 1.0)):
        foot = side * (0.05 + stride)
        parts.append((limb((side * 0.05, 0.5), (foot, 0.04), 0.062, 0.036), trousers * tone))
        parts.append((limb((foot, 0.02), (foot + 0.07 * facing, 0.015), 0.025, 0.018), rgb(40, 36, 34)))
        parts.append((limb((side * broad, 0.79), (side * (broad + swing), 0.45), 0.042, 0.03), top * tone * 0.92))
        parts.append((limb((side * (broad + swing), 0.46), (side * (broad + swing), 0.42), 0.026, 0.022), skin))
    hem = 0.3 if rng.random() < 0.25 else 0.47
    torso = np.array([(-broad, 0.82), (broad, 0.82), (broad * 0.95, hem), (-broad * 0.95, hem)], np.float32)
    parts.append((torso, top))
    parts.append((torso * (0.35, 1) + np.array((0.3 * broad * facing, 0), np.float32), top * 1.12))
    if rng.random() < 0.3:
        pack = np.array([(-1, 0.8), (1, 0.8), (1, 0.56), (-1, 0.56)], np.float32) * (broad * 0.75, 1)
        parts.append((pack.astype(np.float32), pick(rng, CLOTHES)))
    circle = plate_outline("circle")
    parts.append((limb((0, 0.8), (0, 0.88), 0.035, 0.035), skin * 0.85))
    parts.append((circle * (0.062, 0.075) + np.array((0, 0.915), np.float32), hair))
    if rng.random() < 0.6:
        parts.append((circle * (0.05, 0.06) + np.array((0.012 * facing, 0.9), np.float32), skin))
    return [(polygon.astype(np.float32), colour.astype(np.float32)) for polygon, colour in parts]


def person(camera: Camera, light: Light, rng: Rng, x: float, z: float) -> Item:
    """Someone standing or walking."""
    tall = rng.uniform(1.5, 1.9) if rng.random() < 0.85 else rng.uniform(1.0, 1.4)
    parts = body_parts(rng)
    wide = rng.uniform(0.95, 1.25)
    glow = light.tint * rng.uniform(0.75, 1.1)

    def draw(canvas: Canvas) -> None:
        scale = tall * camera.focal / z
        feet = camera.project([(x, 0, z)])[0]
        for polygon, colour in parts:
            canvas.polygon(polygon * (scale * wide, -scale) + feet, np.clip(colour * glow, 0, 1), PERSON, z)

    return Item(z, draw, shadow_of(x, z, 0.6, tall, light))


# ----------------------------------------------------------------------------------------------------------------- cars

PAINTS = [(225, 226, 228), (35, 36, 40), (150, 152, 156), (95, 98, 104), (150, 25, 30), (30, 60, 120), (60, 75, 60),
          (195, 180, 150), (200, 160, 40), (110, 140, 165), (240, 240, 242), (70, 30, 35)]  # fmt: skip


UNDER = 0.25  # metres of air under a car


@dataclass(frozen=True, slots=True)
class Car:
    """Sizes in metres; `cabin` gives the cabin's start and end as shares of the length, at its base and at the roof."""

    length: float
    width: float
    belt: float  # height of the body
    roof: float
    cabin: tuple[float, float, float, float]
    paint: Floats
    glass: Floats
    tail: bool  # we see its rear lights


def random_car(rng: Rng) -> Car:
    """A hatchback, a saloon or a van."""
    kind = rng.choice(3, p=(0.45, 0.35, 0.2))
    return Car(
        length=float(rng.uniform(*((3.6, 4.2), (4.3, 4.9), (4.8, 6.5))[kind])),
        width=float(rng.uniform(1.7, 1.9) if kind < 2 else rng.uniform(1.9, 2.2)),
        belt=float(rng.uniform(0.85, 1.0) if kind < 2 else rng.uniform(1.1, 1.3)),
        roof=float(rng.uniform(1.4, 1.7) if kind < 2 else rng.uniform(2.0, 2.8)),
        cabin=((0.02, 0.72, 0.12, 0.55), (0.15, 0.75, 0.28, 0.6), (0.0, 0.95, 0.02, 0.85))[kind],
        paint=pick(rng, PAINTS, 0.1),
        glass=pick(rng, [(35, 42, 50), (60, 72, 85), (20, 22, 26), (110, 130, 150)]),
        tail=bool(rng.random() < 0.6),
    )


def car_frame(car: Car, x: float, z: float, sideways: bool) -> Callable[[float, float, float], Point]:
    """Map (along, across, up), across in -1..1, to the world; along starts at the end nearest to the camera or left."""

    def place(along: float, across: float, up: float) -> Point:
        if sideways:
            return x + (along - car.length / 2), up, z + (across + 1) * car.width / 2
        return x + across * car.width / 2, up, z + along

    return place


@dataclass(frozen=True, slots=True)
class CarPainter:
    """Paints polygons given in a car's own frame: (along, across, up), see `car_frame`."""

    canvas: Canvas
    camera: Camera
    place: Callable[[float, float, float], Point]
    depth: float

    def quad(self, corners: Sequence[Point], colour: Floats) -> None:
        """Fill a polygon whose corners are given in order."""
        flat = self.camera.project([self.place(*corner) for corner in corners])
        self.canvas.polygon(flat, np.clip(colour, 0, 1), CAR, self.depth)

    def hull(self, corners: Sequence[Point], colour: Floats) -> None:
        """Fill the outline of a solid."""
        flat = cv2.convexHull(self.camera.project([self.place(*corner) for corner in corners]))[:, 0]
        self.canvas.polygon(np.asarray(flat, np.float32), np.clip(colour, 0, 1), CAR, self.depth)

    def wheels(self, length: float, across: float, squash: float) -> None:
        """Two tyres with rims at `across`, flattened by `squash` (1 seen from the side)."""
        disc = (plate_outline("circle") * (max(squash, 0.12), 1)).astype(np.float32)
        for along in (0.18 * length, 0.82 * length):
            centre = self.place(along, across, 0.33)
            at, size = self.camera.project([centre])[0], 0.33 * self.camera.focal / centre[2]
            self.canvas.polygon(disc * size + at, rgb(22, 22, 24), CAR, centre[2])
            self.canvas.polygon(disc * size * 0.55 + at, rgb(130, 132, 136), CAR, centre[2])


def car_body(canvas: Canvas, camera: Camera, light: Light, car: Car, x: float, z: float, sideways: bool) -> None:
    """A car whose near end (its near flank, where `sideways`) is at depth z."""
    painter = CarPainter(canvas, camera, car_frame(car, x, z, sideways), z)
    paint = np.clip(car.paint * light.tint, 0, 1)
    flank = -1.0 if sideways or x > 0 else 1.0  # the long side that we can see
    squash = 1.0 if sideways else min(1.0, abs(x) / max(z, 1))
    tone = light.on((0, -1) if sideways else (flank, 0))
    for across in (-0.95, 0.95):
        painter.wheels(car.length, across, squash)
    car_shell(painter, car, paint * tone)
    side_panes(painter, car, flank)
    if sideways:
        sill = [(0.0, -1.0, UNDER), (car.length, -1.0, UNDER), (car.length, -1.0, 0.45), (0.0, -1.0, 0.45)]
        painter.quad(sill, paint * tone * 0.7)
    painter.wheels(car.length, flank, squash)
    if sideways:
        painter.quad([(0, -1, 0.65), (0.12, -1, 0.65), (0.12, -1, 0.8), (0, -1, 0.8)], rgb(190, 30, 30))
    else:
        near_face(painter, car, paint * light.on((0, -1)))


def car_shell(painter: CarPainter, car: Car, paint: Floats) -> None:
    """Outlines of the body and of the tapering cabin on it."""
    base0, base1, roof0, roof1 = (share * car.length for share in car.cabin)
    painter.hull([(a, w, u) for a in (0.0, car.length) for w in (-1.0, 1.0) for u in (UNDER, car.belt)], paint)
    base = [(a, w, car.belt) for a in (base0, base1) for w in (-0.95, 0.95)]
    painter.hull(base + [(a, w, car.roof) for a in (roof0, roof1) for w in (-0.78, 0.78)], paint * 1.08)


def side_panes(painter: CarPainter, car: Car, flank: float) -> None:
    """Two panes in the long side that we can see."""
    base0, base1, roof0, roof1 = (share * car.length for share in car.cabin)
    middle, low, high = (base0 + base1) / 2, car.belt + 0.03, car.roof - 0.1
    for low0, low1, high0, high1 in (
        (base0 + 0.2, middle - 0.06, roof0 + 0.08, middle - 0.06),
        (middle + 0.06, base1 - 0.25, middle + 0.06, roof1 - 0.05),
    ):
        bottom = [(low0, flank * 0.95, low), (low1, flank * 0.95, low)]
        painter.quad([*bottom, (high1, flank * 0.8, high), (high0, flank * 0.8, high)], car.glass)


def near_face(painter: CarPainter, car: Car, paint: Floats) -> None:
    """Front or rear of a car: panel, windscreen, bumper, lights, number plate."""
    belt, base, top = car.belt, car.cabin[0] * car.length, car.cabin[2] * car.length

    def upright(half: float, low: float, high: float, colour: Floats, centre: float = 0.0) -> None:
        left, right = centre - half, centre + half
        painter.quad([(0, left, low), (0, right, low), (0, right, high), (0, left, high)], colour)

    def screen(low_half: float, low: float, high_half: float, high: float, colour: Floats) -> None:
        painter.quad(
            [(base, -low_half, low), (base, low_half, low), (top, high_half, high), (top, -high_half, high)], colour
        )

    rim = belt - 0.06
    painter.quad([(0, -1, UNDER), (0, 1, UNDER), (0, 1, rim), (0, 0.9, belt), (0, -0.9, belt), (0, -1, rim)], paint)
    screen(0.95, belt, 0.78, car.roof, paint * 1.05)
    screen(0.85, belt + 0.03, 0.7, car.roof - 0.12, car.glass)
    upright(1.0, UNDER, UNDER + 0.16, paint * 0.45)
    for side in (-1, 1):
        upright(0.165, belt * 0.62, belt * 0.8, rgb(205, 25, 30) if car.tail else rgb(240, 238, 225), side * 0.785)
    upright(0.3, belt * 0.5, belt * 0.62, rgb(230, 228, 205))


def car_item(camera: Camera, light: Light, rng: Rng, x: float, z: float, sideways: bool = False) -> Item:
    """A random car at this place."""
    car = random_car(rng)
    long, wide = (car.length, car.width) if sideways else (car.width, car.length)
    box = np.array(
        [(x - long / 2, z), (x + long / 2, z), (x + long / 2, z + wide), (x - long / 2, z + wide)], np.float32
    )
    tip = box + np.array(light.travel, np.float32) * car.roof * (light.strength > 0.2)
    shadow = np.maximum(cv2.convexHull(np.concatenate([box, tip]).astype(np.float32))[:, 0], (-1e3, NEAR))
    return Item(z, lambda canvas: car_body(canvas, camera, light, car, x, z, sideways), shadow.astype(np.float32))


# ---------------------------------------------------------------------------------------------------------- scene plans


def random_camera(rng: Rng, height: int, width: int) -> Camera:
    """A camera at pedestrian or windscreen height, sometimes higher."""
    return Camera(
        height=height,
        width=width,
        focal=float(width * rng.uniform(0.55, 1.15)),
        horizon=float(height * rng.uniform(0.3, 0.62)),
        centre=float(width * np.clip(rng.normal(0.5, 0.16), 0.08, 0.92)),
        eye=float(rng.uniform(1.2, 2.2) if rng.random() < 0.8 else rng.uniform(2.2, 4.5)),
    )


def random_layout(rng: Rng, kind: str) -> Layout:
    """Ground plan of a "street", a road seen "across", a "plaza" without a road, or a "park"."""
    half = 0.0 if kind == "plaza" else float(rng.uniform(2.8, 7.5))
    near = float(rng.uniform(4, 12))
    crossing = float(rng.uniform(14, 45))
    return Layout(
        across=kind == "across",
        centre=near + half if kind == "across" else float(rng.uniform(-0.75, 0.75) * half + rng.normal(0, 1)),
        half=half,
        walks=(float(rng.uniform(1.2, 5.5)), float(rng.uniform(1.2, 5.5))),
        curve=float(rng.normal(0, 0.0012)) if rng.random() < 0.5 else 0.0,
        crossing=(crossing, crossing + float(rng.uniform(6, 11)))
        if kind == "street" and rng.random() < 0.3
        else (0, 0),
        grass=(True, True) if kind == "park" else (bool(rng.random() < 0.2), bool(rng.random() < 0.2)),
        verge=float(rng.uniform(0.8, 2)) if kind in ("street", "park") and rng.random() < 0.2 else 0.0,
    )


def side_buildings(camera: Camera, light: Light, rng: Rng, layout: Layout, side: int, dense: float) -> list[Item]:
    """Houses along one side of a street along z; gaps are filled with trees or left open."""
    items: list[Item] = []
    low, high = sorted(rng.uniform((4, 8), (10, 28)))
    z = float(rng.uniform(-12, 5))
    while z < 130:
        length = float(rng.uniform(7, 26))
        x = layout.bend(z) + layout.edge(side) + side * (rng.uniform(0.5, 7) if rng.random() < 0.3 else 0.05)
        blocked = z < layout.crossing[1] and z + length > layout.crossing[0]
        beside = abs(x) > 0.6 and np.sign(x) == side  # a bend must not put a house in front of the camera
        if rng.random() < dense and not blocked and beside and z + length > NEAR:
            depth = side * float(rng.uniform(8, 20))
            items.append(building(camera, light, random_facade(rng, low, high), x, z, z + length, depth))
        elif z > 4 and rng.random() < 0.7:
            items.append(tree(camera, light, rng, x + side * rng.uniform(2, 6), z + length / 2, rng.uniform(5, 13)))
            items.append(hedge(camera, light, rng, x + side * 2.5, z + 1, rng.uniform(2, 6), rng.uniform(0.8, 2.2)))
        z += length + (float(rng.uniform(1, 6)) if rng.random() < 0.25 else 0)
    return items


def facing_buildings(camera: Camera, light: Light, rng: Rng, z: float, dense: float) -> list[Item]:
    """A row of houses that faces the camera."""
    items: list[Item] = []
    reach = 1.1 * z * camera.width / camera.focal
    low, high = sorted(rng.uniform((4, 7), (10, 26)))
    x = -reach
    while x < reach:
        width, depth = float(rng.uniform(6, 22)), float(rng.uniform(8, 16))
        step = float(rng.uniform(0, 4)) if rng.random() < 0.4 else 0.0
        if rng.random() < dense:
            facade = random_facade(rng, low, high)
            wall = x if x > 0 else x + width  # the flank that looks at the camera
            items.append(building(camera, light, facade, wall, z + step, z + step + depth, width if x > 0 else -width))
        elif rng.random() < 0.8:
            items.append(tree(camera, light, rng, x + width / 2, z + step + 3, rng.uniform(5, 12)))
        x += width + (float(rng.uniform(1, 8)) if rng.random() < 0.3 else 0)
    return items


def backdrop(camera: Camera, light: Light, rng: Rng) -> list[Item]:
    """What closes the view: a row of far houses, of trees, both, or nothing."""
    items = facing_buildings(camera, light, rng, float(rng.uniform(60, 140)), 0.7) if rng.random() < 0.5 else []
    if rng.random() < 0.6:
        z = float(rng.uniform(45, 140))
        reach = 0.6 * z * camera.width / camera.focal
        step = 7 * z / 60
        for x in np.arange(-reach - 2 * step, reach + 2 * step, step).tolist():
            if rng.random() < 0.75:
                items.append(
                    tree(
                        camera,
                        light,
                        rng,
                        float(x + rng.normal(0, 2)),
                        z + rng.uniform(0, 9),
                        z * rng.uniform(0.07, 0.16),
                    )
                )
    return items


def kerbside(camera: Camera, light: Light, rng: Rng, layout: Layout, side: int) -> list[Item]:
    """Trees, lamps, signs, parked cars and passers-by along one side of a street along z."""
    walk = layout.walks[(side + 1) // 2]

    def at(z: float, out: float) -> float:
        return layout.bend(z) + side * (layout.half + out)

    items: list[Item] = []
    if rng.random() < 0.5:
        gap, height, start = rng.uniform(6, 16), rng.uniform(4, 11), rng.uniform(5, 14)
        for z in np.arange(start, 90, gap).tolist():
            items.append(
                tree(camera, light, rng, at(z, rng.uniform(0.5, 0.9)), float(z), height * rng.uniform(0.8, 1.2))
            )
    if rng.random() < 0.65:
        for z in np.arange(rng.uniform(5, 16), 40, rng.uniform(12, 28)).tolist():
            items.append(lamp(camera, light, rng, at(z, 0.45), float(z), -side))
    for z in rng.uniform(5, 14, rng.integers(0, 4)).tolist():
        items.append(traffic_sign(camera, light, rng, at(z, 0.6), float(z)))
    if rng.random() < 0.4:
        for z in np.arange(rng.uniform(5, 15), 60, rng.uniform(5.8, 7.5)).tolist():
            if rng.random() < 0.8:
                items.append(car_item(camera, light, rng, at(z, -1.15), float(z)))
    for z in rng.uniform(4, 14, rng.integers(0, 5)).tolist():
        items.append(person(camera, light, rng, at(z, rng.uniform(0.4, max(0.6, walk - 0.3))), float(z)))
    return items


def street_items(camera: Camera, light: Light, rng: Rng, layout: Layout, dense: float) -> list[Item]:
    """Everything along a street that runs away from the camera."""
    items: list[Item] = []
    for side in (-1, 1):
        items += side_buildings(camera, light, rng, layout, side, dense)
        items += kerbside(camera, light, rng, layout, side)
    for z in rng.uniform(7, 45, rng.integers(0, 5)).tolist():
        lane = rng.choice([-0.5, 0.5]) * layout.half
        items.append(car_item(camera, light, rng, layout.bend(z) + lane, float(z)))
    if rng.random() < 0.3:
        for z in rng.uniform(6, 14, rng.integers(1, 4)).tolist():
            items.append(person(camera, light, rng, layout.bend(z) + rng.uniform(-1, 1) * layout.half, float(z)))
    return items


def across_items(camera: Camera, light: Light, rng: Rng, layout: Layout, dense: float) -> list[Item]:
    """A road seen from its own sidewalk, with the houses on the other side."""
    front, back = layout.centre - layout.half, layout.centre + layout.half
    reach = 0.6 * camera.width / camera.focal
    items = facing_buildings(camera, light, rng, back + layout.walks[1] + 0.1, dense)

    def spot(z: float) -> float:
        return float(rng.uniform(-reach, reach) * z)

    for z, count in ((front + 1.0, 3), (back - 2.8, 4)):
        for _ in range(rng.integers(0, count)):
            items.append(car_item(camera, light, rng, spot(z), z, sideways=True))
    for low, high, most in ((3.5, front, 4), (back + 0.4, back + layout.walks[1], 6)):
        for z in rng.uniform(low, max(high, low + 0.1), rng.integers(0, most)).tolist():
            items.append(person(camera, light, rng, spot(z), float(z)))
    for z in (front - 0.6, back + 0.6):
        for _ in range(rng.integers(0, 3)):
            items.append(tree(camera, light, rng, spot(z), z, rng.uniform(4, 9)))
            items.append(traffic_sign(camera, light, rng, spot(z), z))
        for _ in range(rng.integers(0, 2)):
            items.append(lamp(camera, light, rng, spot(z), z, int(rng.choice([-1, 1]))))
    return items


def open_items(camera: Camera, light: Light, rng: Rng, layout: Layout, dense: float) -> list[Item]:
    """A plaza: facades all around, people, trees and lamps anywhere."""
    reach = 0.6 * camera.width / camera.focal
    items = facing_buildings(camera, light, rng, float(rng.uniform(16, 45)), dense)
    wide = replace(layout, walks=(float(rng.uniform(5, 14)), float(rng.uniform(5, 14))))
    for side in (-1, 1):
        if rng.random() < 0.6:
            items += side_buildings(camera, light, rng, wide, side, dense)
    makers: tuple[tuple[int, Callable[[float, float], Item]], ...] = (
        (9, lambda x, z: person(camera, light, rng, x, z)),
        (5, lambda x, z: tree(camera, light, rng, x, z, rng.uniform(4, 10))),
        (4, lambda x, z: hedge(camera, light, rng, x, z, rng.uniform(1.5, 6), rng.uniform(0.6, 1.8))),
        (3, lambda x, z: lamp(camera, light, rng, x, z, int(rng.choice([-1, 1])))),
        (3, lambda x, z: traffic_sign(camera, light, rng, x, z)),
        (2, lambda x, z: car_item(camera, light, rng, x, z, bool(rng.random() < 0.5))),
    )
    for most, make in makers:
        for z in rng.uniform(5, 16, rng.integers(0, most)).tolist():
            x = float(rng.uniform(-reach, reach) * z)
            if wide.edge(-1) + 1 < x - wide.bend(z) < wide.edge(1) - 1:  # not inside a house
                items.append(make(x, z))
    return items


def park_items(camera: Camera, light: Light, rng: Rng, layout: Layout) -> list[Item]:
    """A road or a path between lawns, trees and hedges."""
    items = street_items(camera, light, rng, layout, dense=0.12)
    for side in (-1, 1):
        for z in rng.uniform(6, 60, rng.integers(4, 14)).tolist():
            x = layout.bend(z) + layout.edge(side) + side * rng.uniform(1, 15)
            items.append(tree(camera, light, rng, float(x), float(z), rng.uniform(4, 13)))
        for z in rng.uniform(6, 30, rng.integers(0, 6)).tolist():
            x = layout.bend(z) + layout.edge(side) + side * rng.uniform(1, 6)
            items.append(hedge(camera, light, rng, float(x), float(z), rng.uniform(1.5, 7), rng.uniform(0.6, 2.2)))
    return items


@dataclass(frozen=True, slots=True)
class Plan:
    """A scene before painting."""

    camera: Camera
    light: Light
    layout: Layout
    items: list[Item] = field(default_factory=list)


def plan(rng: Rng, height: int, width: int) -> Plan:
    """Choose camera, light, ground plan and everything that stands on it."""
    kind = str(rng.choice(["street", "across", "plaza", "park"], p=(0.56, 0.15, 0.13, 0.16)))
    camera, light, layout = random_camera(rng, height, width), daylight(rng), random_layout(rng, kind)
    dense = float(rng.uniform(0.45, 1.0))
    items = backdrop(camera, light, rng)
    if kind == "street":
        items += street_items(camera, light, rng, layout, dense)
    elif kind == "across":
        items += across_items(camera, light, rng, layout, dense)
    elif kind == "plaza":
        items += open_items(camera, light, rng, layout, dense)
    else:
        items += park_items(camera, light, rng, layout)
    return Plan(camera, light, layout, items)


# --------------------------------------------------------------------------------------------------------------- finish


def tilt(rng: Rng, image: Mask, mask: Mask) -> tuple[Mask, Mask]:
    """Roll the camera by up to 3 degrees, zoomed so that no border shows."""
    height, width = mask.shape
    angle = float(np.clip(rng.normal(0, 1.3), -3, 3))
    zoom = 1 + np.sin(np.radians(abs(angle))) * width / height
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, float(zoom))

    def turned(picture: Mask, flags: int) -> Mask:
        out = cv2.warpAffine(picture, turn, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(out, np.uint8)

    return turned(image, cv2.INTER_LINEAR), turned(mask, cv2.INTER_NEAREST)


def expose(rng: Rng, colour: Floats) -> Floats:
    """White balance, exposure, contrast, saturation and vignette: float32 (H, W, 3) in 0..1."""
    height, width = colour.shape[:2]
    colour = colour * rng.uniform(0.92, 1.08, 3).astype(np.float32) * np.float32(np.exp(rng.normal(-0.08, 0.25)))
    grey = colour.mean(2, keepdims=True)
    colour = grey + (colour - grey) * np.float32(rng.uniform(0.45, 1.35))
    colour = np.clip(colour, 0, 1) ** np.float32(rng.uniform(0.75, 1.4))
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    return colour * (1 - np.float32(rng.uniform(0, 0.25)) * (rows[:, None] ** 2 + columns[None] ** 2) / 2)[..., None]


def develop(rng: Rng, colour: Floats) -> Mask:
    """What lens, sensor and codec do: exposure, blur, noise, JPEG; uint8 (H, W, 3)."""
    height, width = colour.shape[:2]
    colour = expose(rng, colour)
    sigma = max(0.35, rng.uniform(0.4, 1.1) * height / 256)
    colour = np.asarray(cv2.GaussianBlur(colour, (0, 0), sigma), np.float32)
    if rng.random() < 0.1:
        length = 2 + int(height * rng.uniform(0.005, 0.02))
        colour = np.asarray(cv2.blur(colour, (length, 1)), np.float32)
    noise = (
        rng.standard_normal((height, width, 1), np.float32) + rng.standard_normal((height, width, 3), np.float32) / 2
    )
    image = np.clip((colour + noise * np.float32(rng.uniform(0.002, 0.03))) * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(45, 95))
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return image


def paint(canvas: Canvas, items: Sequence[Item]) -> None:
    """Draw every item, the farthest first."""
    for item in sorted(items, key=lambda item: -item.depth):
        item.draw(canvas)


def render(seed: int, height: int = 256, width: int = 512) -> Scene:
    """Paint the scene of this seed.

    height, width: size of the result in pixels, each at least 16. The same arguments give the same bytes.
    Cost: about 50 ms for 256 x 512 on one core.
    """
    if height < 16 or width < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    scene = plan(rng, height, width)
    canvas = sky(scene.camera, scene.light, rng)
    ground(canvas, scene.camera, scene.layout, rng)
    canvas.colour *= np.where(canvas.mask == SKY, 1, 1 + 0.25 * scene.light.strength)[..., None].astype(np.float32)
    cast_shadows(canvas, scene.camera, scene.light, scene.items, rng)
    paint(canvas, scene.items)
    veil = np.where(canvas.mask == SKY, 0, 1 - np.exp(-scene.light.fog * canvas.depth))[..., None].astype(np.float32)
    image = develop(rng, canvas.colour + (scene.light.haze - canvas.colour) * veil)
    return Scene(*tilt(rng, image, canvas.mask))


def colourise(mask: Mask) -> Mask:
    """uint8 (H, W, 3) BGR picture of a mask, in the colours of PALETTE."""
    return np.array(PALETTE, np.uint8)[mask][..., ::-1].copy()


def main() -> None:
    """Write one scene as PNG, with its mask in colour beside it."""
    parser = argparse.ArgumentParser(description="Render a street scene and its class mask.")
    parser.add_argument("out", type=Path, help="PNG to write; the mask goes to NAME-mask.png")
    parser.add_argument("--seed", type=int, default=DEMO_SEEDS.start)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=512)
    args = parser.parse_args()
    scene = render(args.seed, args.height, args.width)
    for path, picture in (
        (args.out, scene.image),
        (args.out.with_stem(args.out.stem + "-mask"), colourise(scene.mask)),
    ):
        if not cv2.imwrite(str(path), picture):
            parser.error(f"cannot write {path}")
        print(path)


if __name__ == "__main__":
    main()
