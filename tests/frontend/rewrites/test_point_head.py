"""PointRend's choice of points for symbolic sizes against mmseg's own: the same bits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.rewrites.point_head import points_of_symbolic_maps
from segc.frontend.trace import trace
from segc.graph import ir
from tests.helpers.run_graph import run


class Chosen(torch.nn.Module):
    """Logits (N, C, H, W) to logits that are doubled at the chosen points and hold their coordinates there."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(subdivision_num_points=points)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        from mmseg.models.decode_heads.point_head import PointHead, calculate_uncertainty

        batch, channels, height, width = logits.shape
        indices, points = PointHead.get_points_test(self, logits, calculate_uncertainty, self.config)
        values = points.sum(dim=2).unsqueeze(1).expand(-1, channels, -1)
        flat = logits.reshape(batch, channels, height * width)
        flat = flat.scatter(2, indices.unsqueeze(1).expand(-1, channels, -1), values)
        return flat.reshape(batch, channels, height, width)


@pytest.mark.parametrize("points", [5, 10_000])
@pytest.mark.parametrize("size", [(6, 10), (7, 3), (1, 1), (113, 127)])
def test_indices_and_coordinates_are_the_bits_of_mmseg(size: tuple[int, int], points: int) -> None:
    import_mmseg()
    from mmseg.models.decode_heads.point_head import PointHead, calculate_uncertainty

    logits = torch.randn(2, 4, *size)
    config = SimpleNamespace(subdivision_num_points=points)
    original = PointHead.get_points_test
    wanted = original(None, logits, calculate_uncertainty, config)
    ours = points_of_symbolic_maps(original)(None, logits, calculate_uncertainty, config)
    assert all(torch.equal(a, b) for a, b in zip(ours, wanted, strict=True))


def test_one_trace_chooses_the_points_of_every_size() -> None:
    import_mmseg()
    module = Chosen(points=40)
    traced = trace(module, (1, 4, 8, 8), opset=20, dynamic=True)
    assert traced.rewrites == ("point-head",)
    graph = ir.from_model(traced.model)
    for shape in [(1, 4, 7, 9), (2, 4, 5, 3), (1, 4, 33, 20)]:  # 15 pixels are fewer than the points asked for
        x = torch.randn(shape)
        assert torch.equal(torch.from_numpy(run(graph, {"input": x.numpy()})[0]), module(x))
