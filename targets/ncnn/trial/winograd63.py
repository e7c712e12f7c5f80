"""Whether an engine may use WinogradConv's convolution in tiles of 6x6, decided by trying.

It is ncnn's fastest 3x3 convolution and its least exact one: on most models its rounding cannot be told from that of
the others, on a few that amplify rounding it costs whole pixels. So a fresh engine runs with and without it, in
processes of their own (trial.py says on what), and keeps it where the results agree. ncnn's option is one for the whole
net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segc.isolation.session import IsolatedSession
from segc.targets.ncnn.net.net import Net

FLAG = "use_winograd63_convolution"
ERROR, AGREEMENT = 1e-3, 0.999  # a third of what the parity gate allows, and half
FEWEST = 8  # channels from which ncnn considers it


def eligible(net: Net) -> bool:
    """Whether some layer could use it."""
    wanted = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}
    return any(
        layer.type == "Convolution"
        and all(layer.whole(name, 1) == value for name, value in wanted.items())
        and min(layer.whole("num_output", 0), layer.inputs[0].shape[0] or 0) >= FEWEST
        for layer in net.layers
    )


def may_use(
    net: Net, directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int = 0
) -> bool:
    """Try the files in `directory` both ways on each of `inputs`. Raises CompileError when the engine fails."""
    if not eligible(net):
        return False
    found = []
    for used in (False, True):
        session = IsolatedSession("ncnn", directory, {**options, FLAG: used}, threads)
        found.append([session.run(x) for x in inputs])
        session.close()
    return all(agree(exact, fast) for exact, fast in zip(*found, strict=True))


def agree(exact: np.ndarray, fast: np.ndarray) -> bool:
    """Logits (1, C, H, W) or masks (1, H, W): whether a third of the parity limits holds between them."""
    if exact.dtype.kind in "ui":
        return bool((exact == fast).mean() >= AGREEMENT)
    error = float(np.abs(exact - fast).max(initial=0.0))
    scale = float(np.abs(exact).max(initial=0.0))
    if not error <= ERROR * scale:
        return False
    return exact.ndim < 4 or exact.shape[1] == 1 or bool((exact.argmax(1) == fast.argmax(1)).mean() >= AGREEMENT)
