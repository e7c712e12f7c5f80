"""Charts as SVG, readable without colour: lines by their dashes, marks by their shapes, bars by their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 520, 280  # of a chart, in CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 12, 44  # its borders, as the template has them
_LEAST = 1e-9  # of a logarithmic axis


@dataclass(frozen=True)
class Tick:
    """A number on an axis. at: x or y in pixels."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point. title: shown where the pointer rests."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Chart:
    """What the template draws. lines: points for `polyline`, with the dashes of each. bands: x, width and words."""

    label: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[tuple[str, str, str], ...]
    marks: tuple[Mark, ...] = ()
    bands: tuple[tuple[float, float, str], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart. share: of the longest, 0 to 1."""

    name: str
    note: str
    value: float
    share: float


def errors(names: Sequence[str], found: Sequence[float], rounding: Sequence[float]) -> Chart:
    """Errors in network order on a logarithmic axis, with what rounding of the input does as a dashed line."""
    finite = [value for value in (*found, *rounding) if math.isfinite(value) and value > _LEAST]
    low = math.floor(math.log10(min(finite, default=1e-7)))
    high = max(math.ceil(math.log10(max(finite, default=1e-6))), low + 1)

    def y(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low) if math.isfinite(value) else 1.0
        return _y(min(1.0, place))

    steps = max(1, len(names) - 1)
    xs = [_x(at / steps) for at in range(len(names))]
    every = max(1, (high - low) // 6)
    return Chart(
        "error of each tensor in network order", "tensors, in network order", "relative error",
        tuple(Tick(_x(at / steps), str(at + 1)) for at in _spread(len(names))),
        tuple(Tick(_y((power - low) / (high - low)), f"1e{power}") for power in range(low, high + 1, every)),
        (("rounding of the input", "6 4", _points(xs, map(y, rounding))), ("error", "", _points(xs, map(y, found)))),
        tuple(
            Mark(x, y(value), f"{name}: {value:.1e}") for x, value, name in zip(xs, found, names, strict=True)
        ),
    )  # fmt: skip


def memory(samples: Sequence[tuple[float, str, float, float]]) -> Chart:
    """(seconds, step, resident MB, peak MB) over the run; a band for each step."""
    end = max((seconds for seconds, *_ in samples), default=1.0) or 1.0
    top = _round_up(max((peak for *_, peak in samples), default=1.0))
    xs = [_x(seconds / end) for seconds, *_ in samples]
    bands = []
    for (start, step, *_), (stop, other, *_) in pairwise(samples):
        if step == other and (stop - start) / end > 0.002:
            bands.append((_x(start / end), _x(stop / end) - _x(start / end), step))
    return Chart(
        "memory of the compiling process", "seconds", "MB",
        tuple(Tick(_x(part / 4), f"{end * part / 4:.1f}") for part in range(5)),
        tuple(Tick(_y(part / 4), f"{top * part / 4:.0f}") for part in range(5)),
        (
            ("peak until then", "6 4", _points(xs, (_y(peak / top) for *_, peak in samples))),
            ("resident", "", _points(xs, (_y(now / top) for _, _, now, _ in samples))),
        ),
        (), tuple(bands),
    )  # fmt: skip


def bars(rows: Sequence[tuple[str, str, float]]) -> tuple[Bar, ...]:
    """(name, note, value), longest first."""
    longest = max((value for *_, value in rows), default=0.0) or 1.0
    ordered = sorted(rows, key=lambda row: -row[2])
    return tuple(Bar(name, note, value, max(0.0, value / longest)) for name, note, value in ordered)


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _points(xs: Sequence[float], ys: object) -> str:
    return " ".join(f"{x},{y}" for x, y in zip(xs, ys, strict=True))  # type: ignore[call-overload]


def _spread(count: int) -> list[int]:
    """At most eight places, evenly spread."""
    return sorted({round(at * (count - 1) / 7) for at in range(8)}) if count > 8 else list(range(count))


def _round_up(value: float) -> float:
    unit = 4.0 * 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return float(math.ceil(value / unit) * unit)
