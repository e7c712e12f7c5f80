"""Position embeddings from symbolic sizes against the library's own."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from segc.frontend import torchvision_import
from segc.frontend.hf_heads import QueryHead
from segc.frontend.rewrites.table import POSITIONS
from segc.frontend.rewrites.transformers_queries import attention_of_sizes, points_of_sizes, positions_of_sizes
from segc.frontend.trace import trace
from segc.passes.support import evaluate
from segc.support_matrix.elsewhere import written

torchvision_import.prepare()
pytest.importorskip("transformers")


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("place", POSITIONS.values(), ids=POSITIONS)
def test_positions_are_the_librarys(place: str, normalize: bool) -> None:
    module, name = place.split(":")
    embedding = getattr(importlib.import_module(module), name)
    made = embedding(num_position_features=6, normalize=normalize)
    shape, device = torch.Size((2, 3, 5, 7)), torch.device("cpu")
    wanted = made(shape, device, torch.float32)
    assert torch.equal(positions_of_sizes(embedding.forward)(made, shape, device, torch.float32), wanted)
    assert wanted.shape == (2, 12, 5, 7) and wanted.std() > 0.1


def test_positions_under_a_mask_are_left_to_the_library() -> None:
    given = torch.zeros(1, 2, 2, dtype=torch.bool)
    forward = positions_of_sizes(lambda *args: args[4])
    assert forward(None, torch.Size((1, 3, 2, 2)), torch.device("cpu"), torch.float32, given) is given


SIZES = [(2, 3), (4, 1), (5, 7)]


def test_points_are_the_librarys() -> None:
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoderEncoderOnly

    theirs = Mask2FormerPixelDecoderEncoderOnly.get_reference_points
    ratios = torch.rand(2, len(SIZES), 2) / 2 + 0.5
    wanted = theirs(SIZES, ratios, "cpu")
    assert torch.equal(points_of_sizes(theirs)(SIZES, ratios, "cpu"), wanted)
    assert wanted.shape == (2, 6 + 4 + 35, 3, 2)


@pytest.mark.parametrize("coordinates", [2, 4], ids=["points", "boxes, which are left to the library"])
def test_attention_is_the_librarys(coordinates: int) -> None:
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as Attention,
    )

    torch.manual_seed(0)
    attention = Attention(embed_dim=8, num_heads=2, n_levels=3, n_points=4).eval()
    cells = sum(height * width for height, width in SIZES)
    hidden, places = torch.randn(2, 2, cells, 8)
    given = {
        "attention_mask": torch.rand(2, cells) < 0.3,
        "encoder_hidden_states": hidden,
        "position_embeddings": places,
        "reference_points": torch.rand(2, cells, 3, coordinates),
        "spatial_shapes_list": SIZES,
    }
    with torch.no_grad():
        wanted, weights = attention(hidden, **given)
        got, same = attention_of_sizes(Attention.forward)(attention, hidden, **given)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(same, weights)
    assert wanted.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf:mask2former", "hf:maskformer"])
def test_one_trace_is_right_for_all_sizes(name: str, tmp_path: Path) -> None:
    """The matrix' models on a ResNet, which is traced in a tenth of the time that a Swin takes."""
    from transformers import AutoConfig, ResNetConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation
    from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentation

    model = {"hf:mask2former": Mask2FormerForUniversalSegmentation, "hf:maskformer": MaskFormerForInstanceSegmentation}
    config = AutoConfig.from_pretrained(written(name, tmp_path).removeprefix("hf:"))
    config.backbone_config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"
    )
    config.backbone_config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    torch.manual_seed(0)
    head = QueryHead(model[name](config).eval(), None)
    traced = trace(head, (1, 3, 64, 128), opset=20, dynamic=True)
    assert traced.notes == ()
    for shape in ((1, 3, 64, 96), (2, 3, 97, 65), (3, 3, 128, 160)):
        image = torch.randn(shape)
        with torch.no_grad():
            wanted = head(image)
        (got,) = evaluate.run_model(traced.model, {"input": image.numpy()}).values()
        torch.testing.assert_close(torch.from_numpy(got), wanted, atol=1e-5, rtol=0)
