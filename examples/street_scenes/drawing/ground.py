"""Roads, sidewalks and lawns in true perspective, and the shadows on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.canvas import FAR, NEAR, ROAD, SIDEWALK, SKY, VEGETATION, Camera, Canvas, Floats, Item, Light, Mask, Rng
from drawing.texture import ROUGH, SMOOTH, between, pick, rgb, sample, shaded


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
