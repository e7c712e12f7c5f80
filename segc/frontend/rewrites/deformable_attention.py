"""Multi-scale deformable attention, with sizes of maps that are numbers or symbols and never read from tensors.

mmdet's `MSDeformAttnPixelDecoder`, the pixel decoder of Mask2Former, keeps the sizes of its maps in an int64 tensor,
and mmcv's `MultiScaleDeformableAttention` splits and reshapes by the values in it, which a trace does not know. Here
the decoder hands the sizes themselves to the attention. Each level is then one GridSample over all heads:

    value (N, keys, heads, d)  ->  sum over levels of GridSample(value_l (N heads, d, h, w), places_l) * weights_l
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

Size = tuple[Any, Any]  # height and width: ints or symbols


def attention_over_sizes(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`MultiScaleDeformableAttention.forward` for `spatial_shapes` in a list of sizes; tensors go to `original`."""

    def forward(attention: Any, query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        sizes = kwargs.get("spatial_shapes")
        if args or not isinstance(sizes, list):
            return original(attention, query, *args, **kwargs)
        value, identity = (query if kwargs.get(name) is None else kwargs[name] for name in ("value", "identity"))
        if kwargs.get("query_pos") is not None:
            query = query + kwargs["query_pos"]
        if not attention.batch_first:
            query, value = query.permute(1, 0, 2), value.permute(1, 0, 2)
        value = attention.value_proj(value)
        if (padding := kwargs.get("key_padding_mask")) is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        value = value.unflatten(2, (attention.num_heads, -1))
        weights = attention.attention_weights(query).unflatten(2, (attention.num_heads, -1)).softmax(-1)
        places = _places(attention, query, kwargs["reference_points"], sizes)
        out = attention.output_proj(attended(value, sizes, places, weights))
        mixed: torch.Tensor = out if attention.batch_first else out.permute(1, 0, 2)
        result: torch.Tensor = attention.dropout(mixed) + identity
        return result

    return forward


def _places(attention: Any, query: torch.Tensor, points: torch.Tensor, sizes: Sequence[Size]) -> torch.Tensor:
    """Where each head samples each level, as shares of the sides: (N, queries, heads, levels, points, 2)."""
    shape = (attention.num_heads, attention.num_levels, attention.num_points, 2)
    offsets: torch.Tensor = attention.sampling_offsets(query).unflatten(2, shape)
    if points.shape[-1] == 2:
        return points[:, :, None, :, None, :] + offsets / sides(sizes, query)[None, None, None, :, None, :]
    middle, extent = points[:, :, None, :, None, :2], points[:, :, None, :, None, 2:]
    places: torch.Tensor = middle + offsets / attention.num_points * extent * 0.5
    return places


def sides(sizes: Sequence[Size], like: torch.Tensor) -> torch.Tensor:
    """Widths and heights as an int64 tensor (levels, 2) on the device of `like`."""
    return torch.stack([torch.stack([_number(w), _number(h)]) for h, w in sizes]).to(like.device)


def attended(value: torch.Tensor, sizes: Sequence[Size], places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """value (N, keys, heads, d) sampled at `places` and summed by weights (N, queries, heads, levels * points).

    places: (N, queries, heads, levels, points, 2), as shares of the sides. Gives (N, queries, heads * d).
    """
    batch, _, heads, depth = value.shape
    queries = weights.shape[1]
    grids = 2 * places - 1
    sampled = []
    for level, (values, (height, width)) in enumerate(zip(torch.split(value, _areas(sizes), 1), sizes, strict=True)):
        maps = values.flatten(2).transpose(1, 2).reshape(batch * heads, depth, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    summed: torch.Tensor = (torch.cat(sampled, -1) * weights).sum(-1)
    return summed.reshape(batch, heads * depth, queries).transpose(1, 2)


def pixel_decoder_of_sizes(_original: Callable[..., Any]) -> Callable[..., Any]:
    """`MSDeformAttnPixelDecoder.forward`, which hands a list of sizes to its attention instead of a tensor."""

    def forward(decoder: Any, feats: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        levels = [decoder.num_input_levels - 1 - i for i in range(decoder.num_encoder_levels)]
        sizes = [tuple(feats[level].shape[2:]) for level in levels]
        inputs, places, paddings, points = [], [], [], []
        for i, level in enumerate(levels):
            feat = feats[level]
            padding = feat.new_zeros((feat.shape[0], *feat.shape[2:]), dtype=torch.bool)
            place = decoder.level_encoding.weight[i].view(1, -1, 1, 1) + decoder.postional_encoding(padding)
            inputs.append(decoder.input_convs[i](feat).flatten(2).permute(0, 2, 1))
            places.append(place.flatten(2).permute(0, 2, 1))
            paddings.append(padding.flatten(1))
            points.append(_reference_points(decoder, feat, level))
        reference = torch.cat(points)[None, :, None].repeat(feats[0].shape[0], 1, len(levels), 1)
        memory = decoder.encoder(
            query=torch.cat(inputs, 1), query_pos=torch.cat(places, 1), key_padding_mask=torch.cat(paddings, 1),
            spatial_shapes=sizes, reference_points=reference, level_start_index=None, valid_ratios=None,
        )  # fmt: skip
        parts = torch.split(memory.permute(0, 2, 1), _areas(sizes), -1)
        maps = [part.reshape(*part.shape[:2], *size) for part, size in zip(parts, sizes, strict=True)]
        return _pyramid(decoder, feats, maps)

    return forward


def _reference_points(decoder: Any, feat: torch.Tensor, level: int) -> torch.Tensor:
    """The centres of a map's cells as shares of its sides, (h * w, 2)."""
    extent = sides([(feat.shape[2], feat.shape[3])], feat)[0]
    points: torch.Tensor = decoder.point_generator.single_level_grid_priors(feat.shape[2:], level, device=feat.device)
    shares: torch.Tensor = points / (extent * decoder.strides[level])
    return shares


def _pyramid(
    decoder: Any, feats: Sequence[torch.Tensor], outs: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The features for masks, and the maps for the transformer decoder, from the encoded levels."""
    for i in reversed(range(decoder.num_input_levels - decoder.num_encoder_levels)):
        lateral = decoder.lateral_convs[i](feats[i])
        up = F.interpolate(outs[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        outs.append(decoder.output_convs[i](lateral + up))
    return decoder.mask_feature(outs[-1]), outs[: decoder.num_outs]


def _areas(sizes: Sequence[Size]) -> list[Any]:
    return [height * width for height, width in sizes]


def _number(side: Any) -> torch.Tensor:
    return torch.scalar_tensor(side, dtype=torch.int64)
