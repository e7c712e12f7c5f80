"""Decide by trials which tiles an engine's Winograd convolutions use: 6x6, 4x4 or 2x2.

The larger the tiles, the fewer the products and the larger the rounding: beside sums in float32, ncnn's tiles of 6x6
are about six times as far from float64 on whole networks, those of 4x4 two to three times, those of 2x2 about as far.
ncnn has options for the whole net only. A fresh engine runs in each way, each time in a process of its own (inputs.py
says on what). There is no float64 to compare with, but another order of the same float32 sums: ncnn without its matrix
product. Where both ways round independently, their distance is sqrt(1 + 1) times the error of either, and that to an
engine with 1.5 times the error sqrt(1 + 1.5^2) times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segc.isolation.session import IsolatedSession
from segc.parity.difference import largest_difference
from segc.targets.ncnn.net.net import Net

FLAG = "use_winograd63_convolution"
MAX_RELATIVE_ERROR, MIN_AGREEMENT = 1e-3, 0.999  # a third and a half of what the parity gate allows
FLAG43, SUMS = "use_winograd43_convolution", "use_sgemm_convolution"
COST = 1.5  # the error with larger tiles may be so many times the error with tiles of 2x2
SLACK = math.sqrt((1 + COST**2) / 2)  # the same, of distances to other sums
FLOOR = 2.0**-21  # of the largest number, four units in the last place of float32: what is as good as none
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


def choose_tiles(
    net: Net, directory: Path, options: Mapping[str, Any], inputs: Sequence[np.ndarray], threads: int, chosen: str
) -> dict[str, bool]:
    """ncnn's options for the engine in `directory`. chosen: on, measured or off, of `--set winograd`.

    Raises CompileError when the engine fails.
    """
    if not eligible(net):
        return {FLAG: False}
    if chosen == "on":
        return {FLAG: try_winograd63(net, directory, options, inputs, threads)}
    exact = {FLAG: False, FLAG43: False}
    if chosen == "off":
        return exact

    def run(flags: Mapping[str, bool]) -> list[np.ndarray]:
        session = IsolatedSession("ncnn", directory, {**options, **flags}, threads)
        try:
            return [session.run_logits(x) if "logits" in options else session.run(x) for x in inputs]
        finally:
            session.close()

    sums, plain = run({**exact, SUMS: False}), run(exact)
    for flags in ({FLAG: True}, {FLAG: False}):
        if _as_exact(sums, plain, run(flags)):
            return flags
    return exact


def _as_exact(sums: list[np.ndarray], plain: list[np.ndarray], fast: list[np.ndarray]) -> bool:
    """Whether `fast` is hardly further from `sums` than `plain` is. Masks: no less equal."""
    if sums[0].dtype.kind in "ui":
        equal = [min(float((a == b).mean()) for a, b in zip(sums, other, strict=True)) for other in (plain, fast)]
        return equal[1] >= equal[0]
    own, far = (max(largest_difference(a, b)[1] for a, b in zip(sums, other, strict=True)) for other in (plain, fast))
    return far <= max(SLACK * own, FLOOR)


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
