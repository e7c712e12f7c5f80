"""The parity gate's inputs and reference outputs, stored in a bundle for machines without the model and torch.

`reference.npz` has `names`, the names of the cases, and for case K: the input `xK`, float32 (N, C, H, W); the classes
`maskK` (N, H, W); and, for engines that return logits, `logitsK` (float16) and `scaleK`, whose product is the reference
logits with an error of at most 2^-12 of the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segc.parity import metrics
from segc.parity.metrics import Array

NAME = "reference.npz"


class Recorder:
    """A reference that records its inputs and outputs. seen: (input, logits) of each call."""

    def __init__(self, reference: Callable[[Array], Array]) -> None:
        self._reference = reference
        self.seen: list[tuple[Array, Array]] = []

    def __call__(self, x: Array) -> Array:
        """Run the reference on `x`, and record the call."""
        y = self._reference(x)
        self.seen.append((x, y))
        return y


def write(
    path: Path, names: Sequence[str], seen: Sequence[tuple[Array, Array]], threshold: float | None, logits: bool
) -> None:
    """Write the recorded cases to `path`. logits: store the logits too, not only the classes."""
    arrays: dict[str, Array] = {"names": np.array(names)}
    for index, (x, y) in enumerate(seen):
        mask = metrics.mask_of(y, threshold)
        arrays[f"x{index}"] = x
        arrays[f"mask{index}"] = mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
        if logits:
            scale = np.float32(np.abs(y[np.isfinite(y)]).max(initial=0.0) or 1.0)
            arrays[f"scale{index}"] = np.array(scale)
            arrays[f"logits{index}"] = (y / scale).astype(np.float16)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def run_cases(path: Path, engine: Callable[[Array], Array], threshold: float | None) -> list[metrics.Case]:
    """Run an engine on the stored inputs, and compare its outputs with the stored ones."""
    cases = []
    with np.load(path) as stored:
        for index, name in enumerate(stored["names"].tolist()):
            mask = stored[f"mask{index}"].astype(np.int64)
            has_logits = f"logits{index}" in stored
            reference = stored[f"logits{index}"].astype(np.float32) * stored[f"scale{index}"] if has_logits else mask
            cases.append(metrics.compare(name, reference, engine(stored[f"x{index}"]), threshold, expected=mask))
    return cases
