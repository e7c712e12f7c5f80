"""Weights that need not travel: drawn from their names on both machines, and what a compile made of them as recipes.

Needs NumPy only; prepare.py writes with it what measure.py reads. All arithmetic is exact or rounded once, so both
machines get the same bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEAST = 4096  # bytes: smaller arrays travel as they are
_MOST_PATCHES = 1 / 256  # of the elements that a recipe may leave to be set one by one


def draw(name: str, shape: tuple[int, ...], deviation: float) -> Array:
    """Uniform numbers with this standard deviation, float32, the same for a name on every machine (splitmix64)."""
    count = int(np.prod(shape, dtype=np.int64))
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state ^= state >> np.uint64(shift)
        state *= np.uint64(factor)
    integers = (state >> np.uint64(40)).astype(np.int32) - 2**23  # 24 bits are exact in float32
    scale = np.float32(deviation * np.sqrt(3.0) / 2**23)
    return (integers.astype(np.float32) * scale).reshape(shape)


class Recipes:
    """Finds how arrays come from drawn weights: permuted, scaled by channel, rounded to float16, a few numbers set."""

    def __init__(self, drawn: Mapping[str, Array]) -> None:
        self.arrays: dict[str, Array] = {}  # what travels, by name
        self.rows: list[dict[str, Any]] = []
        self._known: dict[int, list[tuple[dict[str, Any], Array]]] = {}
        for name, array in drawn.items():
            self._learn({"of": name}, array)

    def add(self, array: Array) -> int:
        """The number of the recipe of `array`; where there is none the array itself travels."""
        row = next(self._found(array), None)
        if row is None:
            row = {"stored": self._store(array)}
        elif array.dtype == np.float32 and "per" in row:
            self._learn({"row": len(self.rows)}, array)
        self.rows.append(row)
        return len(self.rows) - 1

    def _learn(self, origin: dict[str, Any], array: Array) -> None:
        self._known.setdefault(array.size, []).insert(0, (origin, array))

    def _store(self, array: Array) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _found(self, array: Array) -> Iterator[dict[str, Any]]:
        if array.dtype not in (np.float32, np.float16):
            return
        for origin, known in self._known.get(array.size, []):
            for axes in permutations(range(known.ndim)):
                view = known.transpose(axes)
                if view.shape != array.shape:
                    view = view.reshape(array.shape) if axes == tuple(range(known.ndim)) else view
                if view.shape != array.shape:
                    continue
                scaled = self._scaled(view, array)
                if scaled is not None:
                    yield {**origin, "axes": list(axes), "shape": list(array.shape), "type": array.dtype.str, **scaled}

    def _scaled(self, view: Array, array: Array) -> dict[str, Any] | None:
        """How `array` is `view` but for a factor for each index of one axis; None if it is not."""
        if np.array_equal(_start(view, 0).astype(array.dtype), _start(array, 0)):
            return {} if np.array_equal(view.astype(array.dtype), array) else None
        for axis in {0, array.ndim - 1}:
            per = factors(view, array, axis)
            if per is None:
                continue
            wrong = np.flatnonzero(scaled_by(view, per, axis, array.dtype) != array)
            if wrong.size > array.size * _MOST_PATCHES:
                continue
            row: dict[str, Any] = {"axis": axis, "per": self._store(per)}
            if wrong.size:
                row |= {"at": self._store(wrong.astype(np.uint32)), "are": self._store(array.ravel()[wrong])}
            return row
        return None


def scaled_by(view: Array, per: Array, axis: int, kind: np.dtype[Any]) -> Array:
    """`view` times a float64 factor for each index of `axis`, rounded once to float32 and, if asked, then to `kind`."""
    shape = [1] * view.ndim
    shape[axis] = -1
    return (view.astype(np.float64) * per.reshape(shape)).astype(np.float32).astype(kind)


def factors(view: Array, array: Array, axis: int) -> Array | None:
    """The factors, float64: in the middle of what every element allows. None if the elements disagree."""
    if not _alike(_start(view, axis), _start(array, axis), array.dtype):
        return None
    rows = np.moveaxis(view, axis, 0).reshape(view.shape[axis], -1)
    wanted = np.moveaxis(array, axis, 0).reshape(rows.shape)
    low = (np.nextafter(wanted, wanted.dtype.type(-np.inf)).astype(np.float64) + wanted) / 2
    high = (np.nextafter(wanted, wanted.dtype.type(np.inf)).astype(np.float64) + wanted) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.sort(np.stack([low / rows, high / rows]), axis=0)
    usable = (rows != 0) & np.isfinite(bounds).all(0) & (wanted != 0)
    least = np.where(usable, bounds[0], -np.inf).max(1)
    most = np.where(usable, bounds[1], np.inf).min(1)
    none = ~usable.any(1)
    least[none] = most[none] = 0.0
    return np.asarray((least + most) / 2, np.float64)


def _start(array: Array, axis: int) -> Array:
    """The first elements of the first index of `axis`."""
    return np.moveaxis(array, axis, 0)[0].ravel()[:64]


def _alike(row: Array, wanted: Array, kind: np.dtype[Any]) -> bool:
    """Whether one factor may turn `row` into `wanted`."""
    a, b = row.astype(np.float64), wanted.astype(np.float64)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return norm > 0 and abs(float(a @ b)) > norm * (1 - (1e-5 if kind == np.float16 else 1e-9))


def made(row: Mapping[str, Any], rows: list[Array], drawn: Mapping[str, Array], arrays: Mapping[str, Array]) -> Array:
    """What a recipe describes. rows: the arrays of the recipes before it."""
    if "stored" in row:
        return arrays[row["stored"]]
    known = drawn[row["of"]] if "of" in row else rows[row["row"]]
    view = known.transpose(row["axes"])
    view = view if list(view.shape) == row["shape"] else view.reshape(row["shape"])
    kind = np.dtype(row["type"])
    array = scaled_by(view, arrays[row["per"]], row["axis"], kind) if "per" in row else view.astype(kind)
    if "at" in row:
        array = np.ascontiguousarray(array)
        array.ravel()[arrays[row["at"]]] = arrays[row["are"]]
    return array


def cut(plan: bytes, constants: Mapping[int, Array]) -> tuple[bytes, list[list[Any]]]:
    """An engine without the constants that lie in it as they are, in any order of their axes, and where they lay.

    constants: by the number of their recipe. A piece is [offset in the engine, recipe, axes].
    """
    pieces: list[list[Any]] = []
    for number, array in constants.items():
        for axes in permutations(range(array.ndim)):
            raw = np.ascontiguousarray(array.transpose(axes)).tobytes()
            at = plan.find(raw)
            if at >= 0:
                pieces.append([at, number, list(axes), len(raw)])
                break
    rest, end, kept = [], 0, []
    for at, number, order, size in sorted(pieces):
        if at >= end:
            rest.append(plan[end:at])
            kept.append([at, number, order])
            end = at + size
    return b"".join([*rest, plan[end:]]), kept


def joined(rest: bytes, pieces: list[list[Any]], constants: list[Array]) -> bytes:
    """The engine that `cut` took apart."""
    out, used, end = [], 0, 0
    for at, number, axes in pieces:
        out.append(rest[used : used + at - end])
        used += at - end
        raw = np.ascontiguousarray(constants[number].transpose(axes)).tobytes()
        out.append(raw)
        end = at + len(raw)
    return b"".join([*out, rest[used:]])
