"""PointRend's selection of points on maps of symbolic size, in traceable torch.

mmseg's `PointHead.get_points_test` computes remainders and steps with Python numbers, which the exporter cannot convert
when they are symbolic. The same arithmetic in tensors gives the same bits, since steps are float32 there too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Points = tuple[torch.Tensor, torch.Tensor]


def points_of_symbolic_maps(_original: Callable[..., Points]) -> Callable[..., Points]:
    """`PointHead.get_points_test`: indices of the most uncertain pixels, int64 (N, P), and their centres (N, P, 2)."""

    def get_points_test(_head: Any, seg_logits: torch.Tensor, uncertainty_func: Any, cfg: Any) -> Points:
        uncertainty: torch.Tensor = uncertainty_func(seg_logits)
        batch, _, height, width = uncertainty.shape
        count = torch.sym_min(height * width, cfg.subdivision_num_points)  # type: ignore[no-untyped-call]
        indices = uncertainty.reshape(batch, height * width).topk(count, dim=1)[1]
        columns = torch.scalar_tensor(width, dtype=torch.int64, device=indices.device)
        row = torch.div(indices, columns, rounding_mode="floor")
        col = indices - row * columns
        return indices, torch.stack((_centres(col, width), _centres(row, height)), dim=-1)

    return get_points_test


def _centres(cell: torch.Tensor, side: Any) -> torch.Tensor:
    """The centre of each cell of a side of `side` cells, scaled to 0 ... 1."""
    step = 1.0 / torch.scalar_tensor(side, dtype=torch.float32, device=cell.device)
    return step / 2.0 + cell.to(torch.float32) * step
