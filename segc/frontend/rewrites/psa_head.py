"""PSANet's head for symbolic sizes, in traceable torch.

mmseg's `PSAHead.forward` shrinks a map of h x w by a factor f. Where f divides neither side it rounds both sides up and
aligns corners in its resizes; otherwise it rounds down and does not. A trace would keep only the branch of its own
size. With `ragged` = 1 where f divides neither side and 0 otherwise, both branches are

    size = h // f + ragged, w // f + ragged        coordinates selected by `ragged`

and a bilinear resize is a product with one matrix per side, whose rows are computed from the coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

Size = tuple[Any, Any]  # ints or symbols


def forward_of_either_parity(_original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`PSAHead.forward` without a branch on the sizes; its results are the same at every size."""

    def forward(head: Any, inputs: Any) -> torch.Tensor:
        x: torch.Tensor = head._transform_inputs(inputs)
        height, width = x.shape[2:]
        factor = head.shrink_factor
        ragged = _capped(height % factor) * _capped(width % factor)
        size = (height // factor + ragged, width // factor + ragged)
        # without shrinking, mmseg uses the head's own alignment, and only in the last resize
        aligned = _flag(ragged, x) if factor != 1 else torch.tensor(bool(head.align_corners))

        def shrunk(features: torch.Tensor) -> torch.Tensor:
            return features if factor == 1 else bilinear(features, size, aligned)

        if head.psa_type in ("collect", "distribute"):
            y = shrunk(head.reduce(x))
            transposed = head.compact and head.psa_type == "collect"
            mask = head.attention(y)
            out = _attended(head, y, _compact_attention(mask, transposed) if head.compact else head.psamask(mask))
        else:
            col, dis = shrunk(head.reduce(x)), shrunk(head.reduce_p(x))
            y_col, y_dis = head.attention(col), head.attention_p(dis)
            if head.compact:
                y_dis = _compact_attention(y_dis, True)
            else:
                y_col, y_dis = head.psamask_collect(y_col), head.psamask_distribute(y_dis)
            out = torch.cat([_attended(head, col, y_col), _attended(head, dis, y_dis)], 1)
        out = bilinear(head.proj(out), (height, width), aligned)
        out = head.bottleneck(torch.cat((x, out), dim=1))
        logits: torch.Tensor = head.cls_seg(out)
        return logits

    return forward


def bilinear(x: torch.Tensor, size: Size, aligned: torch.Tensor) -> torch.Tensor:
    """x (N, C, H, W) resized to (N, C, *size) as `F.interpolate` does, with `align_corners` as a bool scalar tensor."""
    rows, cols = (interpolation_matrix(old, new, aligned, x) for old, new in zip(x.shape[2:], size, strict=True))
    return torch.matmul(rows, torch.matmul(x, cols.transpose(0, 1)))


def interpolation_matrix(old: Any, new: Any, aligned: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """float (new, old): row i holds the weights of the two cells next to coordinate i."""
    index = torch.arange(new, dtype=like.dtype, device=like.device)
    olds, news = (torch.scalar_tensor(side, dtype=like.dtype, device=like.device) for side in (old, new))
    corner = index * ((olds - 1) / (news - 1).clamp(min=1))
    middle = ((index + 0.5) * (olds / news) - 0.5).clamp(min=0)
    at = torch.minimum(torch.where(aligned, corner, middle), olds - 1)
    cell = torch.arange(old, dtype=like.dtype, device=like.device)
    return F.relu(1 - (at.unsqueeze(1) - cell).abs())


def _capped(remainder: Any) -> Any:
    return torch.sym_min(remainder, 1)  # type: ignore[no-untyped-call]


def _flag(value: Any, like: torch.Tensor) -> torch.Tensor:
    flag: torch.Tensor = torch.scalar_tensor(value, dtype=torch.int64, device=like.device) > 0
    return flag


def _compact_attention(mask: torch.Tensor, transposed: bool) -> torch.Tensor:
    """A compact attention mask (N, H * W, H, W), with source and target positions swapped if `transposed`."""
    n, _, height, width = mask.shape
    if not transposed:
        return mask
    return mask.reshape(n, height * width, height * width).transpose(1, 2).reshape(n, height * width, height, width)


def _attended(head: Any, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """x (N, C, H, W) with every position replaced by a sum over all, weighted by `attention` (N, H * W, H, W)."""
    n, channels, height, width = x.shape
    if head.psa_softmax:
        attention = F.softmax(attention, dim=1)
    pixels = height * width
    out = torch.bmm(x.reshape(n, channels, pixels), attention.reshape(n, pixels, pixels))
    scale = 1.0 / float(head.normalization_factor)
    return out.reshape(n, channels, height, width) * scale
