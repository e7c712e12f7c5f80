"""Inputs and outputs of PSAMask that mmcv's own CPU kernel computed; tests/data/README.md says how they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data" / "psamask_reference.npz"


@dataclass(frozen=True)
class Case:
    """One call of the kernel. x: float32[N, mask_h * mask_w, H, W]. y: float32[N, H * W, H, W]."""

    name: str
    psa_type: int
    mask_size: tuple[int, int]
    x: np.ndarray
    y: np.ndarray


def recorded() -> Iterator[Case]:
    """All recorded calls, each type with masks smaller and larger than the map."""
    data = np.load(DATA)
    for name in sorted(key.removesuffix("_meta") for key in data.files if key.endswith("_meta")):
        psa_type, _, _, mask_h, mask_w, _ = (int(v) for v in data[f"{name}_meta"])
        x, y = (data[f"{name}_{which}"].astype(np.float32) for which in "xy")
        yield Case(name, psa_type, (mask_h, mask_w), x, y)
