"""Mask2Former and MaskFormer of transformers, from symbolic sizes.

Their position embedding divides the numbers 1 … height by the last of them, which it slices off: a slice of a symbolic
length, of which a trace does not know that one number is left. Mask2Former's deformable attention puts the sizes of its
maps into a tensor by `torch.tensor`, and takes its points from `torch.linspace`: both make symbols constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from segc.frontend.rewrites.deformable_attention import Size, attended, sides

_EPSILON = 1e-6  # the library's own


def positions_of_sizes(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`forward` of a sine position embedding: (N, C, h, w) -> (N, 2 features, h, w); one with a mask is original's."""

    def forward(
        embedding: Any, shape: Sequence[Any], device: Any, dtype: torch.dtype, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is not None:
            return original(embedding, shape, device, dtype, mask)
        batch, _, height, width = shape
        waves = [_waves(embedding, side, device, dtype) for side in (height, width)]
        rows = waves[0][:, None, :].expand(height, width, -1)
        columns = waves[1][None, :, :].expand(height, width, -1)
        return torch.cat((rows, columns), 2).permute(2, 0, 1).expand(batch, -1, -1, -1)

    return forward


def _waves(embedding: Any, side: Any, device: Any, dtype: torch.dtype) -> torch.Tensor:
    """Sines and cosines of the places along one side, (side, features)."""
    places = torch.arange(side, dtype=dtype, device=device) + 1
    if embedding.normalize:
        last = torch.scalar_tensor(side, dtype=dtype, device=device)
        places = places / (last + _EPSILON) * embedding.scale
    features = torch.arange(embedding.num_position_features, dtype=torch.int64, device=device).to(dtype)
    halves = torch.div(features, 2, rounding_mode="floor")
    angles = places[:, None] / embedding.temperature ** (2 * halves / embedding.num_position_features)
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), 2).flatten(1)


def points_of_sizes(_original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`get_reference_points` of the encoder: the centres of all maps' cells, (N, cells, levels, 2)."""

    def points(sizes: Sequence[Size], ratios: torch.Tensor, device: Any) -> torch.Tensor:
        found = []
        for level, (height, width) in enumerate(sizes):
            y, x = (torch.arange(side, dtype=ratios.dtype, device=device) + 0.5 for side in (height, width))
            rows, columns = torch.meshgrid(y, x, indexing="ij")
            rows = rows.reshape(-1)[None] / (ratios[:, None, level, 1] * height)
            columns = columns.reshape(-1)[None] / (ratios[:, None, level, 0] * width)
            found.append(torch.stack((columns, rows), -1))
        return torch.cat(found, 1)[:, :, None] * ratios[:, None]

    return points


def attention_of_sizes(original: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` of Mask2Former's deformable attention for points; boxes are original's."""

    def forward(
        attention: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **given: Any
    ) -> Any:
        points, sizes = given["reference_points"], given["spatial_shapes_list"]
        if points.shape[-1] != 2:
            return original(attention, hidden_states, attention_mask, **given)
        places = given.get("position_embeddings")
        query = hidden_states if places is None else hidden_states + places
        value = attention.value_proj(given["encoder_hidden_states"])
        if attention_mask is not None:
            value = value.masked_fill(attention_mask[..., None], 0.0)
        heads, levels = attention.n_heads, attention.n_levels
        offsets = attention.sampling_offsets(query).unflatten(2, (heads, levels, attention.n_points, 2))
        weights = attention.attention_weights(query).unflatten(2, (heads, -1)).softmax(-1)
        at = points[:, :, None, :, None, :] + offsets / sides(sizes, query)[None, None, None, :, None, :]
        out = attended(value.unflatten(2, (heads, -1)), sizes, at, weights)
        return attention.output_proj(out), weights.unflatten(-1, (levels, -1))

    return forward
