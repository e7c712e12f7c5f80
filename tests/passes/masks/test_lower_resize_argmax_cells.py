from __future__ import annotations

import numpy as np
import pytest

from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.support import evaluate
from tests.helpers.mask_lowerings import MODES, STEPS, assert_masks, lowered, tail

pytest.importorskip("torch")


@pytest.mark.parametrize("factors", [(2, 2), (3, 5), (8, 4), (1, 7)])
@pytest.mark.parametrize("mode", MODES)
def test_whole_factors_are_done_by_cells_others_by_bands(factors: tuple[int, int], mode: str) -> None:
    size = (6 * factors[0], 5 * factors[1])
    graph = lowered(LowerResizeArgMaxCells(), tail(1, 4, 6, 5, size, mode))
    by_cells = mode != "align_corners" and factors[0] > 1
    assert any(n.op == "Compress" for n in graph.nodes) == by_cells
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 5)).astype(np.float32)
    assert_masks(evaluate.outputs(graph, {"x": x})["y"], x, size, mode)


@pytest.mark.parametrize("step", ["cells", "cells, small"])
def test_only_cells_whose_corners_differ_are_interpolated(step: str) -> None:
    """Minus infinity wins nowhere, but 0 times it is NaN, which would show in a cell that is interpolated."""
    graph = lowered(STEPS[step], tail(1, 3, 8, 8, (32, 32)))
    x = np.zeros((1, 3, 8, 8), np.float32)
    x[:, 1, :, :4], x[:, 2, :, 4:] = 1, 1
    want = evaluate.outputs(graph, {"x": x})["y"]
    assert set(np.unique(want)) == {1, 2} and (want[0, :, :14] == 1).all() and (want[0, :, 18:] == 2).all()
    x[:, 0, :, :3] = -np.inf
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"][0, :, :8], want[0, :, :8])
