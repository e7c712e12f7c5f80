"""Masks of all families from their small logits: the host's kernel and the targets' lowerings against torch."""

from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.passes.masks.strip_final_resize import StripFinalResize
from segc.passes.support import evaluate
from segc.runtime.masks.dispatch import resize_argmax
from segc.support_matrix.families import FAMILIES

torch = pytest.importorskip("torch")
pytest.importorskip("mmseg")
SHAPE = (1, 3, 128, 160)
QUICK = "fastscnn"


@pytest.mark.parametrize(
    "family", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_masks_are_torchs_but_for_ties(family: str) -> None:
    from segc.frontend.source import open_source
    from segc.frontend.trace import trace
    from segc.parity.sample_inputs import natural_input
    from tests.helpers.mask_models import tail_of

    source = open_source(FAMILIES[family], mode="whole")
    info = source.info
    assert source.module is not None
    graph = ir.from_model(trace(source.module, SHAPE, opset=20, dynamic=False).model)
    ir.infer_shapes(graph)
    left = StripFinalResize(info.align_corners).run(graph).changes == 1
    ir.cleanup(graph)
    x = natural_input(SHAPE, info.mean, info.std, info.channel_order)
    small = next(iter(evaluate.outputs(graph, {graph.inputs[0].name: x}).values()))
    size = (SHAPE[2], SHAPE[3]) if left else (small.shape[2], small.shape[3])
    large = small
    if left:
        align = info.align_corners
        large = torch.nn.functional.interpolate(
            torch.from_numpy(small), size=size, mode="bilinear", align_corners=align
        ).numpy()
    made = {"host": resize_argmax(small[0], size, info.align_corners)[None]}
    if left:
        for step in (LowerResizeArgMaxCells(), LowerResizeArgMaxTiled()):
            tail = tail_of(step, small.shape, size, info.align_corners)
            made[step.name] = evaluate.outputs(tail, {"x": small})["y"]
    for way, mask in made.items():
        assert_equal_but_for_ties(mask, large, np.spacing(np.abs(small).max()), way)


def assert_equal_but_for_ties(mask: np.ndarray, large: np.ndarray, unit: np.floating, way: str) -> None:
    """At most 1 pixel of 100,000, and at least one, may differ, by at most 4 units in the last place."""
    want = large.argmax(1)
    off = np.argwhere(mask != want)
    assert len(off) <= max(1, want.size // 100_000), way
    for n, y, at in off:
        assert large[n, want[n, y, at], y, at] - large[n, mask[n, y, at], y, at] <= 4 * unit, way
