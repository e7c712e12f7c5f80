"""Cars, along and across the street."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drawing.canvas import CAR, NEAR, Camera, Canvas, Floats, Item, Light, Point, Rng
from drawing.furniture import plate_outline
from drawing.texture import pick, rgb

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
