"""People, standing and walking."""

from __future__ import annotations

import numpy as np

from drawing.canvas import PERSON, Camera, Canvas, Floats, Item, Light, Rng
from drawing.furniture import plate_outline
from drawing.ground import shadow_of
from drawing.texture import pick, rgb

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
