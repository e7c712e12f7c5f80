"""Scores of a segmentation, computed as mmseg's IoUMetric computes them: ratios and means in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segc.validation.areas import AWAY, EQUAL, LABELLED, NEAR, PREDICTED, Areas

Ratios = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassScore:
    """Of one class, from 0 to 1; None where neither mask nor label has a pixel to divide by."""

    name: str
    iou: float | None
    acc: float | None
    dice: float | None
    fscore: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1, the means over the classes that have a value; None where no class has one."""

    a_acc: float | None
    m_iou: float | None
    m_acc: float | None
    m_dice: float | None
    m_fscore: float | None
    m_precision: float | None
    m_recall: float | None
    classes: tuple[ClassScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "classes": [asdict(one) for one in self.classes]}


@dataclass(frozen=True)
class Column:
    """The scores of one bundle or of PyTorch: of all pixels, of those near boundaries, and of the others.

    name: the bundle as it was given, or "PyTorch". engine: the runtime and the precision.
    """

    name: str
    engine: str
    overall: Scores
    boundary: Scores
    interior: Scores

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {key: getattr(self, key).to_json() for key in ("overall", "boundary", "interior")}
        return {"name": self.name, "engine": self.engine, **parts}


def column(name: str, engine: str, areas: Areas, classes: Sequence[str]) -> Column:
    """The scores of the areas of all images together."""
    parts = (areas.sum(axis=1), areas[:, NEAR], areas[:, AWAY])
    overall, boundary, interior = (scores(part, classes) for part in parts)
    return Column(name, engine, overall, boundary, interior)


def scores(areas: npt.NDArray[np.int64], classes: Sequence[str]) -> Scores:
    """areas: (classes, 3). Up to 2^24 pixels a class every value is mmseg's own; beyond, mmseg's sums are rounded."""
    equal, predicted, labelled = (areas[:, kind].astype(np.float32) for kind in (EQUAL, PREDICTED, LABELLED))
    union = (areas[:, PREDICTED] + areas[:, LABELLED] - areas[:, EQUAL]).astype(np.float32)
    both = (areas[:, PREDICTED] + areas[:, LABELLED]).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: dict[str, Ratios] = {
            "iou": equal / union, "acc": equal / labelled, "dice": np.float32(2) * equal / both,
            "precision": equal / predicted, "recall": equal / labelled,
        }  # fmt: skip
        both_shares = ratios["precision"] + ratios["recall"]
        ratios["fscore"] = np.float32(2) * (ratios["precision"] * ratios["recall"]) / both_shares
        total = np.float32(areas[:, EQUAL].sum()) / np.float32(areas[:, LABELLED].sum())
    means = {f"m_{key}": _mean(values) for key, values in ratios.items()}
    rows = [
        ClassScore(name, **{key: _share(values[at]) for key, values in ratios.items()})
        for at, name in enumerate(classes)
    ]
    return Scores(a_acc=_share(total), classes=tuple(rows), **means)


def percent(share: float | None) -> float:
    """A share as mmseg prints it: per cent, rounded to two digits in float32; NaN for None."""
    return float("nan") if share is None else float(np.round(np.float32(share) * 100, 2))


def _mean(values: Ratios) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _share(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
