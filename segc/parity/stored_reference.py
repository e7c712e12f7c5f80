"""The parity gate's inputs and reference outputs in a bundle, for machines that have neither the model nor torch.

`reference.npz` holds for case number K: `xK` float32 (N, C, H, W), `maskK` the classes (N, H, W), and for engines that
give logits `logitsK` float16 and `scaleK`, whose product is the logits to 2^-12 of the largest; `names`: the cases'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segc.parity import metrics
from segc.parity.metrics import Array

NAME = "reference.npz"


class Recorder:
    """A reference that remembers what it was asked and what it answered."""

    def __init__(self, reference: Callable[[Array], Array]) -> None:
        self._reference = reference
        self.seen: list[tuple[Array, Array]] = []

    def __call__(self, x: Array) -> Array:
        """The reference's logits for `x`."""
        y = self._reference(x)
        self.seen.append((x, y))
        return y


def write(
    path: Path, names: Sequence[str], seen: Sequence[tuple[Array, Array]], threshold: float | None, logits: bool
) -> None:
    """Write the cases. logits: keep them too, not only their classes."""
    arrays: dict[str, Array] = {"names": np.array(names)}
    for at, (x, y) in enumerate(seen):
        mask = metrics.mask_of(y, threshold)
        arrays[f"x{at}"] = x
        arrays[f"mask{at}"] = mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
        if logits:
            scale = np.float32(np.abs(y[np.isfinite(y)]).max(initial=0.0) or 1.0)
            arrays[f"scale{at}"] = np.array(scale)
            arrays[f"logits{at}"] = (y / scale).astype(np.float16)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def run_cases(path: Path, engine: Callable[[Array], Array], threshold: float | None) -> list[metrics.Case]:
    """Feed the stored inputs to an engine and compare with the stored outputs."""
    cases = []
    with np.load(path) as stored:
        for at, name in enumerate(stored["names"].tolist()):
            mask = stored[f"mask{at}"].astype(np.int64)
            known = f"logits{at}" in stored
            reference = stored[f"logits{at}"].astype(np.float32) * stored[f"scale{at}"] if known else mask
            cases.append(metrics.compare(name, reference, engine(stored[f"x{at}"]), threshold, expected=mask))
    return cases
