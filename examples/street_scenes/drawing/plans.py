"""What stands where: a scene as a list of items, before anything is painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from drawing.buildings import building, random_facade
from drawing.canvas import NEAR, Camera, Item, Light, Rng
from drawing.cars import car_item
from drawing.furniture import lamp, traffic_sign
from drawing.ground import Layout
from drawing.people import person
from drawing.plants import hedge, tree
from drawing.sky import daylight


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
