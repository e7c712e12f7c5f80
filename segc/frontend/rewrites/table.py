"""The table of front-end rewrites, which apply only while tracing and are undone afterwards.

A rewrite keeps an op whole that the exporter would unroll, expands one that it does not support, or keeps a size
symbolic that it would make a constant. It never changes what the eager model computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from segc.frontend.rewrites.adaptive_max_pool import windows_of_either_size
from segc.frontend.rewrites.base import Function, Rewrite, Versions
from segc.frontend.rewrites.deformable_attention import attention_over_sizes, pixel_decoder_of_sizes
from segc.frontend.rewrites.point_head import points_of_symbolic_maps
from segc.frontend.rewrites.psa_head import forward_of_either_parity
from segc.frontend.rewrites.shape_as_tensor import sizes_of_a_traced_tensor
from segc.frontend.rewrites.symbolic_sizes import symbolic_int, upsampled_by_whole_factors
from segc.frontend.rewrites.transformers_padding import padded_from_sizes, padded_to_patches
from segc.frontend.rewrites.transformers_patches import cut_into_patches, put_back
from segc.frontend.rewrites.transformers_queries import attention_of_sizes, points_of_sizes, positions_of_sizes

MMSEG = Versions("mmseg", (1, 0), (1, 5))
MMCV = Versions("mmcv", (2, 0), (2, 3))
MMDET = Versions("mmdet", (3, 0), (3, 4))
TRANSFORMERS = Versions("transformers", (5, 0), (6, 0))
SWINS = {
    "Swin": "transformers.models.swin.modeling_swin:SwinPatchEmbeddings",
    "Swinv2": "transformers.models.swinv2.modeling_swinv2:Swinv2PatchEmbeddings",
    "MaskFormerSwin": "transformers.models.maskformer.modeling_maskformer_swin:MaskFormerSwinPatchEmbeddings",
    "FocalNet": "transformers.models.focalnet.modeling_focalnet:FocalNetPatchEmbeddings",
}

MOBILEVITV2 = "transformers.models.mobilevitv2.modeling_mobilevitv2:MobileViTV2Layer"
MASK2FORMER = "transformers.models.mask2former.modeling_mask2former"
POSITIONS = {
    "Mask2Former": f"{MASK2FORMER}:Mask2FormerSinePositionEmbedding",
    "MaskFormer": "transformers.models.maskformer.modeling_maskformer:MaskFormerSinePositionEmbedding",
}


def _whole_adaptive_avg_pool(original: Function) -> Function:
    """Trace the pooling as one `segc.AdaptiveAvgPool2d`; an output size of -1, in torch None, keeps the side."""

    def pool(x: torch.Tensor, output_size: Any) -> torch.Tensor:
        sizes = [output_size] * 2 if isinstance(output_size, int) else list(output_size)
        sizes = [None if _equals_side(s, side) else s for s, side in zip(sizes, x.shape[-2:], strict=True)]
        if not all(s is None or type(s) is int for s in sizes):
            unchanged: torch.Tensor = original(x, output_size)  # a computed size cannot be an attribute
            return unchanged
        sides = [side if s is None else s for s, side in zip(sizes, x.shape[-2:], strict=True)]
        attributes: dict[str, Any] = {"output_size": [-1 if s is None else s for s in sizes]}
        shape = (*x.shape[:-2], *sides)
        return torch.onnx.ops.symbolic(
            "segc::AdaptiveAvgPool2d", (x,), attributes, dtype=x.dtype, shape=shape, version=1
        )

    return pool


def _equals_side(size: object, side: object) -> bool:
    """Whether a symbolic size is the side itself, which F.adaptive_avg_pool2d substitutes for None."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return isinstance(size, torch.SymInt) and statically_known_true(size == side)


REWRITES = (
    # nn.AdaptiveAvgPool2d and F.adaptive_avg_pool2d both call this function
    Rewrite(
        "adaptive-avg-pool",
        "keeps adaptive average pooling whole as segc.AdaptiveAvgPool2d",
        torch._C._nn,
        "adaptive_avg_pool2d",
        _whole_adaptive_avg_pool,
    ),
    Rewrite(
        "adaptive-max-pool",
        "expands adaptive maximum pooling into maxima of windows",
        torch.nn.functional,
        "adaptive_max_pool2d",
        windows_of_either_size,
    ),
    Rewrite(
        "shape-as-tensor",
        "reads sizes from the shape instead of from the tensor's memory, for mmdet's pixel decoders",
        torch,
        "_shape_as_tensor",
        sizes_of_a_traced_tensor,
    ),
    Rewrite(
        "deformable-attention",
        "samples multi-scale deformable attention by one GridSample for each level, from sizes that are no tensors",
        "mmcv.ops.multi_scale_deform_attn:MultiScaleDeformableAttention",
        "forward",
        attention_over_sizes,
        fits=MMCV,
    ),
    Rewrite(
        "deformable-pixel-decoder",
        "hands the sizes of the maps themselves to the deformable attention of mmdet's pixel decoder",
        "mmdet.models.layers.msdeformattn_pixel_decoder:MSDeformAttnPixelDecoder",
        "forward",
        pixel_decoder_of_sizes,
        fits=MMDET,
    ),
    # replaces the name `int` in the module of mmseg's resize and Upsample, not the builtin
    Rewrite(
        "symbolic-int",
        "keeps sizes symbolic that mmseg's resize and Upsample convert with int()",
        "mmseg.models.utils.wrappers",
        "int",
        symbolic_int,
        dynamic=True,
        fits=MMSEG,
    ),
    Rewrite(
        "whole-upsample",
        "passes integer factors of mmseg's Upsample on as factors, instead of as sizes",
        "mmseg.models.utils.wrappers:Upsample",
        "forward",
        upsampled_by_whole_factors,
        dynamic=True,
        fits=MMSEG,
    ),
    Rewrite(
        "psa-head",
        "computes the corner alignment of PSANet's resizes from the sizes instead of branching on their parity",
        "mmseg.models.decode_heads.psa_head:PSAHead",
        "forward",
        forward_of_either_parity,
        dynamic=True,
        fits=MMSEG,
    ),
    Rewrite(
        "point-head",
        "computes the rows and columns of PointRend's points in tensors",
        "mmseg.models.decode_heads.point_head:PointHead",
        "get_points_test",
        points_of_symbolic_maps,
        dynamic=True,
        fits=MMSEG,
    ),
    Rewrite(
        "mask2former-points",
        "counts the cells of the maps of transformers' Mask2Former from their sizes",
        f"{MASK2FORMER}:Mask2FormerPixelDecoderEncoderOnly",
        "get_reference_points",
        points_of_sizes,
        dynamic=True,
        fits=TRANSFORMERS,
    ),
    Rewrite(
        "mask2former-attention",
        "samples the deformable attention of transformers' Mask2Former from sizes that are no constants",
        f"{MASK2FORMER}:Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention",
        "forward",
        attention_of_sizes,
        dynamic=True,
        fits=TRANSFORMERS,
    ),
    Rewrite(
        "no-caches",
        "leaves out the caches of transformers' code, which would keep tensors without data, or symbols",
        "transformers.pytorch_utils",
        "is_torchdynamo_compiling",  # whose answer is all that this module asks before it uses a cache
        lambda _: lambda: True,
        fits=TRANSFORMERS,
    ),
    # replaces the name `int` in the module, not the builtin
    Rewrite(
        "mobilevit-int",
        "keeps sizes symbolic that transformers' MobileViT rounds up to whole patches and converts with int()",
        "transformers.models.mobilevit.modeling_mobilevit",
        "int",
        symbolic_int,
        dynamic=True,
        fits=TRANSFORMERS,
    ),
    Rewrite(
        "mobilevitv2-unfolding",
        "cuts transformers' MobileViTV2 into patches by moving axes instead of by gathers",
        MOBILEVITV2,
        "unfolding",
        cut_into_patches,
        fits=TRANSFORMERS,
    ),
    Rewrite(
        "mobilevitv2-folding",
        "puts the patches of transformers' MobileViTV2 back by moving axes instead of by Col2Im",
        MOBILEVITV2,
        "folding",
        put_back,
        fits=TRANSFORMERS,
    ),
    Rewrite(
        "tf-padding",
        "computes the padding of transformers' MobileNetV2 from the sizes instead of branching on their remainders",
        "transformers.models.mobilenet_v2.modeling_mobilenet_v2",
        "apply_tf_padding",
        padded_from_sizes,
        dynamic=True,
        fits=TRANSFORMERS,
    ),
    *(
        Rewrite(
            f"{name}-padding",
            f"pads images of transformers' {name} to whole patches from the sizes instead of branching on remainders",
            owner,
            "maybe_pad",
            padded_to_patches,
            dynamic=True,
            fits=TRANSFORMERS,
        )
        for name, owner in SWINS.items()
    ),
    *(
        Rewrite(
            f"{name}-positions",
            f"divides the places of transformers' {name} by the sizes instead of by the last place, a slice",
            owner,
            "forward",
            positions_of_sizes,
            dynamic=True,
            fits=TRANSFORMERS,
        )
        for name, owner in POSITIONS.items()
    ),
)


@dataclass
class Applied:
    """fired: names of the rewrites that ran, filled while tracing. refused: why rewrites were not applied."""

    fired: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def applied(*, dynamic: bool = False) -> Iterator[Applied]:
    """Apply the rewrites that fit the installed packages, until the context exits.

    dynamic: also those for symbolic sizes. Yields a record that is filled while tracing.
    """
    record = Applied()
    with ExitStack() as stack:
        for rewrite in REWRITES:
            owner = rewrite.place()
            if owner is None or (rewrite.dynamic and not dynamic):
                continue
            if rewrite.fits is not None and (why := rewrite.fits.misfit()):
                record.refused.append(f"rewrite '{rewrite.name}' is not applied: {why}")
                continue
            _replace(stack, owner, rewrite, record.fired)
        yield record


def _replace(stack: ExitStack, owner: Any, rewrite: Rewrite, fired: list[str]) -> None:
    """Replace the attribute until the stack unwinds, which deletes one that was inherited or a builtin."""
    original = getattr(owner, rewrite.attribute, None) or _builtin(rewrite.attribute)
    own = vars(owner).get(rewrite.attribute)
    if own is not None:
        stack.callback(setattr, owner, rewrite.attribute, own)
    else:
        stack.callback(delattr, owner, rewrite.attribute)
    made = _recording(rewrite, original, fired)
    setattr(owner, rewrite.attribute, staticmethod(made) if isinstance(own, staticmethod) else made)


def _builtin(name: str) -> Function:
    import builtins

    function: Function = getattr(builtins, name)
    return function


def _recording(rewrite: Rewrite, original: Callable[..., Any], fired: list[str]) -> Callable[..., Any]:
    replacement = rewrite.make(original)

    def call(*args: Any, **kwargs: Any) -> Any:
        if rewrite.name not in fired:
            fired.append(rewrite.name)
        return replacement(*args, **kwargs)

    return call
