"""What the tests of the fast lowerings of segc.ResizeArgMax share."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.graph import ir
from segc.passes.base import Pass
from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from tests.helpers.checks import HEAD20, graph_of, text_of

torch = pytest.importorskip("torch")

STEPS: dict[str, Pass] = {
    "tiled": LowerResizeArgMaxTiled(),
    "tiled, small": LowerResizeArgMaxTiled(strip_kb=4, columns=8),
    "tiled, classes last": LowerResizeArgMaxTiled(strip_kb=4, columns=8, classes_last=True),
    "cells": LowerResizeArgMaxCells(),
    "cells, small": LowerResizeArgMaxCells(part_kb=4),
}
MODES = ("half_pixel", "pytorch_half_pixel", "align_corners")


def tail(n: int, c: int, h: int, w: int, out: tuple[int, int], mode: str = "half_pixel", end: str = "mask") -> str:
    """logits -> mask as the pipeline has it before the lowering; end: mask (uint8), index (int64) or kept (4-D)."""
    y = {"mask": "uint8[N,H,W] y", "index": "int64[N,H,W] y", "kept": "int64[N,1,H,W] y"}[end]
    y = y.replace("N", str(n)).replace("H", str(out[0])).replace("W", str(out[1]))
    after = {"mask": "k", "index": "k", "kept": "y"}[end]
    more = {"mask": "i = Squeeze (k, a)  y = Cast <to = 2> (i)", "index": "y = Squeeze (k, a)", "kept": ""}[end]
    return f"""{HEAD20} g (float[{n},{c},{h},{w}] x) => ({y})
        <int64[2] size = {{{out[0]}, {out[1]}}}, int64[1] a = {{1}}> {{
        {after} = segc.ResizeArgMax <coordinate_transformation_mode = "{mode}"> (x, size)  {more} }}"""


def lowered(step: Pass, text: str) -> gs.Graph:
    graph = graph_of(text)
    assert step.run(graph).changes == 1
    ir.cleanup(graph)
    assert text_of(graph)
    return graph


def expected(x: np.ndarray, size: tuple[int, int], mode: str) -> tuple[np.ndarray, np.ndarray]:
    """torch's resized logits and their argmax."""
    align = mode == "align_corners"
    large = torch.nn.functional.interpolate(torch.from_numpy(x), size=size, mode="bilinear", align_corners=align)
    return large.numpy(), large.numpy().argmax(1)


def assert_masks(got: np.ndarray, x: np.ndarray, size: tuple[int, int], mode: str) -> None:
    """Equal to torch's but for ties within 4 units in the last place of the largest logit."""
    large, want = expected(x, size, mode)
    assert got.shape == want.shape
    unit = np.spacing(np.abs(x).max())
    for n, y, at in np.argwhere(got != want):
        assert large[n, want[n, y, at], y, at] - large[n, got[n, y, at], y, at] <= 4 * unit
    assert (got != want).mean() <= 1e-3
