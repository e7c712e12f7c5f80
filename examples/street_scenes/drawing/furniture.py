"""Posts, street lamps and traffic signs."""

from __future__ import annotations

import cv2
import numpy as np

from drawing.canvas import POLE, POST_PIXELS, SIGN, Camera, Canvas, Floats, Item, Light, Paint, Rng
from drawing.ground import shadow_of
from drawing.texture import pick, rgb


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
