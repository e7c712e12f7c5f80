"""Padding from sizes in models of transformers against the library's own."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from segc.frontend import torchvision_import
from segc.frontend.rewrites.transformers_padding import padded_from_sizes, padded_to_patches

torchvision_import.prepare()
pytest.importorskip("transformers")


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (1, 2, 1), (3, 1, 2), (5, 3, 1)])
def test_padding_from_sizes_is_the_librarys(kernel: int, stride: int, dilation: int) -> None:
    from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import apply_tf_padding

    convolution = nn.Conv2d(1, 1, kernel, stride, dilation=dilation)
    for height, width in product((6, 7, 8), (9, 10, 12)):
        features = torch.rand(1, 1, height, width)
        wanted = apply_tf_padding(features, convolution)
        torch.testing.assert_close(padded_from_sizes(apply_tf_padding)(features, convolution), wanted)


def test_padding_to_patches_is_the_librarys() -> None:
    from transformers.models.swin.modeling_swin import SwinPatchEmbeddings

    module = type("Module", (), {"patch_size": (4, 2)})()
    for height, width in product((7, 8, 9), (9, 10)):
        image = torch.rand(1, 3, height, width)
        wanted = SwinPatchEmbeddings.maybe_pad(module, image, height, width)
        torch.testing.assert_close(
            padded_to_patches(SwinPatchEmbeddings.maybe_pad)(module, image, height, width), wanted
        )
