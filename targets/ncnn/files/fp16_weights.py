"""Decide by trials how many of the first layers of a float16 engine keep float32 weights.

In some networks, rounding the weights to float16 moves the logits more than all other rounding, most of all in early
layers, whose errors all later layers amplify. So the float16 engine is compared with the float32 one
(trial/inputs.py says on what). Where too many pixels change their class, the first eighth, quarter, half of the layers
keep their weights, which are the small ones of a convolutional network. A network that agrees at once is float16
throughout.
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

MIN_AGREEMENT = 0.997  # stricter than the parity gate's 0.995, which also judges dynamic engines at other sizes
SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2, 3 / 4)


def write_fp16_weights(
    net: Net, directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int = 0
) -> int:
    """Write the weights; returns how many of the first layers with float16 storage keep float32.

    threads: 0 for as many as ncnn chooses. Raises CompileError if the engine fails.
    """
    count = sum(any(weight.tagged for weight in layer.weights) for layer in net.layers)
    write_bin(net, directory / BIN)
    reference = _classes(directory, {**options, **dict.fromkeys(fp16_flags(options), False)}, inputs, threads)

    def agrees(fp32_layers: int) -> bool:
        write_bin(net, directory / BIN, fp32_layers=fp32_layers)
        classes = _classes(directory, options, inputs, threads)
        return all(bool((a == b).mean() >= MIN_AGREEMENT) for a, b in zip(reference, classes, strict=True))

    return smallest_agreeing(count, agrees)


def smallest_agreeing(count: int, agrees: Callable[[int], bool]) -> int:
    """The smallest of `SHARES` of `count` layers for which `agrees` holds; `count` where it holds for none.

    The last call of `agrees` is for the result, so the file it writes is the right one.
    """
    candidates = dict.fromkeys([*(int(count * share) for share in SHARES), count])
    return next((fp32_layers for fp32_layers in candidates if agrees(fp32_layers)), count)


def fp16_flags(options: Mapping[str, Any]) -> list[str]:
    """The names of ncnn's float16 flags among the options."""
    return [name for name in options if name.startswith("use_fp16")]


def _classes(
    directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int
) -> list[np.ndarray]:
    """The class of each pixel, for each input, as the engine in `directory` computes it."""
    session = IsolatedSession("ncnn", directory, options, threads)
    classes = [_to_classes(session.run(x)) for x in inputs]
    session.close()
    return classes


def _to_classes(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind in "ui":
        return y
    return y > 0 if y.ndim < 4 or y.shape[1] == 1 else y.argmax(1)
