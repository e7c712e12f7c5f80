"""How many of the first layers keep float32 weights in a float16 engine, decided by trying.

Rounding weights to float16 moves the logits of some networks by more than any rounding of theirs does, and early layers
most: what they get wrong, all later ones amplify. So a float16 engine is compared with the float32 one (trial.py says
on what), and where classes differ too often, the first eighth, quarter, half of its layers keep their weights, which
are the small ones of a convolutional network. A network that agrees at once is float16 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segc.isolation.session import IsolatedSession
from segc.targets.ncnn.files.write import write_bin
from segc.targets.ncnn.net.net import Net
from segc.targets.ncnn.runtime import BIN

AGREEMENT = 0.997  # the parity gate asks for 0.995, also of dynamic engines at more sizes
SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2, 3 / 4)


def write_half(
    net: Net, directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int = 0
) -> int:
    """Write the weights; returns how many of the first layers keep float32. Raises CompileError if the engine fails."""
    count = sum(any(weight.tagged for weight in layer.weights) for layer in net.layers)
    write_bin(net, directory / BIN)
    reference = _classes(directory, {**options, **dict.fromkeys(options_of_half(options), False)}, inputs, threads)

    def agrees(kept: int) -> bool:
        write_bin(net, directory / BIN, kept=kept)
        found = _classes(directory, options, inputs, threads)
        return all(bool((a == b).mean() >= AGREEMENT) for a, b in zip(reference, found, strict=True))

    return fewest(count, agrees)


def fewest(count: int, agrees: Callable[[int], bool]) -> int:
    """The smallest of the shares of `count` layers with which the engine agrees; all of them where none does."""
    tried = dict.fromkeys([*(int(count * share) for share in SHARES), count])
    return next((kept for kept in tried if agrees(kept)), count)


def options_of_half(options: Mapping[str, Any]) -> list[str]:
    """ncnn's flags for float16."""
    return [name for name in options if name.startswith("use_fp16")]


def _classes(
    directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int
) -> list[np.ndarray]:
    """The classes that the engine in `directory` finds in each input."""
    session = IsolatedSession("ncnn", directory, options, threads)
    found = [_class_of(session.run(x)) for x in inputs]
    session.close()
    return found


def _class_of(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind in "ui":
        return y
    return y > 0 if y.ndim < 4 or y.shape[1] == 1 else y.argmax(1)
