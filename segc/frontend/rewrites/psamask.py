"""PSAMask in plain, traceable torch: point-wise spatial attention of PSANet (Zhao et al., ECCV 2018).

Every position (h, w) of a map holds a mask of mask_h x mask_w attention weights over relative offsets, with the
position itself in the middle. PSAMask moves each weight to the absolute position it refers to:

    collect     out[n, y*W + x, h, w] = mask[n, (y - h + half_h) * mask_w + (x - w + half_w), h, w]
    distribute  out[n, h*W + w, y, x] = the same value

with half = (mask - 1) // 2, and 0 where the offset is outside the mask. Rows and columns are independent, so two
gathers suffice; offsets outside read zeros that are appended to the mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

COLLECT, DISTRIBUTE = 0, 1


def psa_mask(x: torch.Tensor, psa_type: int, mask_size: tuple[int, int]) -> torch.Tensor:
    """float (N, mask_h * mask_w, H, W) to (N, H * W, H, W); psa_type: COLLECT or DISTRIBUTE."""
    mask_h, mask_w = mask_size
    n, _, height, width = x.shape
    masks = x.reshape(n, mask_h, mask_w, height, width)
    masks = F.pad(masks, (0, 0, 0, 0, 0, 1, 0, 1))  # zeros after the last row and column of each mask
    rows = masks.permute(0, 1, 3, 2, 4).reshape(n, (mask_h + 1) * height, mask_w + 1, width)
    rows = rows.index_select(1, _sources(height, mask_h, x.device))  # (N, y*h, mask_w + 1, w)
    cells = rows.reshape(n, height * height, (mask_w + 1) * width)
    cells = cells.index_select(2, _sources(width, mask_w, x.device))  # (N, y*h, x*w)
    moved = cells.reshape(n, height, height, width, width)  # n, y, h, x, w
    order = (0, 1, 3, 2, 4) if psa_type == COLLECT else (0, 2, 4, 1, 3)
    return moved.permute(order).reshape(n, height * width, height, width)


def _sources(side: int, mask: int, device: torch.device) -> torch.Tensor:
    """int64 (side * side): for target t and position p the flat index of mask[t - p + half], p in (mask + 1, side)."""
    target = torch.arange(side, device=device).unsqueeze(1)
    position = torch.arange(side, device=device).unsqueeze(0)
    offset = target - position + (mask - 1) // 2
    inside = (offset >= 0) & (offset < mask)
    return (torch.where(inside, offset, mask) * side + position).reshape(-1)


def psamask_forward(
    input: torch.Tensor,
    output: torch.Tensor,
    *,
    psa_type: int,
    h_mask: int,
    w_mask: int,
    **_sizes: int,
) -> None:
    """A stand-in for mmcv's compiled operator: fills `output`, which holds zeros."""
    output.copy_(psa_mask(input, psa_type, (h_mask, w_mask)))
