"""Trees and hedges."""

from __future__ import annotations

import numpy as np

from drawing.canvas import VEGETATION, Camera, Canvas, Floats, Item, Light, Rng
from drawing.ground import shadow_of
from drawing.texture import ROUGH, SMOOTH, pick, sample

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
