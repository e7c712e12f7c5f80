"""Facades with windows and shops."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drawing.canvas import BUILDING, NEAR, Camera, Canvas, Floats, Item, Light, Rng
from drawing.texture import ROUGH, SMOOTH, between, pick, rgb, sample, shaded


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
