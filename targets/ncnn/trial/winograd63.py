"""Decide by a trial whether an engine uses ncnn's Winograd convolution with 6x6 output tiles.

It is ncnn's fastest 3x3 convolution and its least exact one. On most models its rounding errors are as small as those
of the other algorithms; on a few that amplify rounding it changes classes. So a fresh engine runs with and without it,
each time in a process of its own (inputs.py says on what), and uses it where the results agree. ncnn has one option for
the whole net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segc.isolation.session import IsolatedSession
from segc.targets.ncnn.net.net import Net

FLAG = "use_winograd63_convolution"
MAX_RELATIVE_ERROR, MIN_AGREEMENT = 1e-3, 0.999  # a third and a half of what the parity gate allows
MIN_CHANNELS = 8  # below, ncnn does not consider it


def eligible(net: Net) -> bool:
    """Whether ncnn would use it for some layer of the net."""
    wanted = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}
    return any(
        layer.type == "Convolution"
        and all(layer.int_param(name, 1) == value for name, value in wanted.items())
        and min(layer.int_param("num_output", 0), layer.inputs[0].shape[0] or 0) >= MIN_CHANNELS
        for layer in net.layers
    )


def try_winograd63(
    net: Net, directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int = 0
) -> bool:
    """Whether the engine in `directory` gives the same results with it, on each of `inputs`.

    threads: 0 for as many as ncnn chooses. Raises CompileError when the engine fails.
    """
    if not eligible(net):
        return False
    results = []
    for enabled in (False, True):
        session = IsolatedSession("ncnn", directory, {**options, FLAG: enabled}, threads)
        results.append([session.run(x) for x in inputs])
        session.close()
    return all(results_agree(exact, fast) for exact, fast in zip(*results, strict=True))


def results_agree(exact: np.ndarray, fast: np.ndarray) -> bool:
    """Whether logits (1, C, H, W) or masks (1, H, W) agree within a part of the parity gate's limits."""
    if exact.dtype.kind in "ui":
        return bool((exact == fast).mean() >= MIN_AGREEMENT)
    error = float(np.abs(exact - fast).max(initial=0.0))
    scale = float(np.abs(exact).max(initial=0.0))
    if not error <= MAX_RELATIVE_ERROR * scale:
        return False
    return exact.ndim < 4 or exact.shape[1] == 1 or bool((exact.argmax(1) == fast.argmax(1)).mean() >= MIN_AGREEMENT)
