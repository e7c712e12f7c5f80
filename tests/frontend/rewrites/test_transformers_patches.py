"""Patches of MobileViTV2 by moving axes against the library's `unfold` and `fold`."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from segc.frontend import torchvision_import
from segc.frontend.rewrites.transformers_patches import cut_into_patches, put_back

torchvision_import.prepare()
pytest.importorskip("transformers")


@pytest.mark.parametrize("patch", [(2, 2), (3, 2)])
def test_patches_are_cut_and_put_back_as_the_library_does(patch: tuple[int, int]) -> None:
    from transformers.models.mobilevitv2.modeling_mobilevitv2 import MobileViTV2Layer

    layer = type("Layer", (), {"patch_height": patch[0], "patch_width": patch[1]})()
    for height, width in product((6, 7, 8), (9, 10)):  # with and without rows and columns beyond whole patches
        features = torch.rand(2, 3, height, width)
        wanted, size = MobileViTV2Layer.unfolding(layer, features)
        patches, same = cut_into_patches(MobileViTV2Layer.unfolding)(layer, features)
        assert torch.equal(patches, wanted) and same == size == (height, width)
        assert torch.equal(
            put_back(MobileViTV2Layer.folding)(layer, patches, size), MobileViTV2Layer.folding(layer, wanted, size)
        )
