"""Daylight and the sky."""

from __future__ import annotations

import numpy as np

from drawing.canvas import FAR, SKY, Camera, Canvas, Light, Rng
from drawing.texture import SMOOTH, pick, rgb, sample


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
