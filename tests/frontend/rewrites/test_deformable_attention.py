"""Multi-scale deformable attention from sizes against mmcv's and mmdet's own; Mask2Former and MaskFormer compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segc import targets
from segc.commands.compile import compile as compile_source
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.rewrites import table
from segc.frontend.rewrites.deformable_attention import attention_over_sizes
from segc.frontend.source import open_source
from segc.frontend.trace import dynamic_limits
from tests.helpers.tiny_mask2former import config

pytest.importorskip("mmdet")
SIZES = [(2, 3), (4, 5), (7, 9)]
HEADS = ("Mask2FormerHead", "MaskFormerHead")
ZOO = ("mask2former_r50_8xb2-160k_ade20k-512x512", "maskformer_r50-d32_8xb2-160k_ade20k-512x512")


def attention(**options: Any) -> Any:
    import_mmseg()
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention

    torch.manual_seed(0)
    made = MultiScaleDeformableAttention(embed_dims=8, num_heads=2, num_levels=3, num_points=2, **options).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("coordinates", [2, 4])
def test_attention_from_sizes_is_mmcvs(batch_first: bool, coordinates: int) -> None:
    module = attention(batch_first=batch_first)
    keys = sum(h * w for h, w in SIZES)
    query, place = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    value, points = torch.randn(2, keys, 8), torch.rand(2, 5, 3, coordinates)
    given = [t if batch_first else t.transpose(0, 1) for t in (query, place, value)]
    wanted, got = (
        forward(
            module, query=given[0], query_pos=given[1], value=given[2], reference_points=points, spatial_shapes=sizes,
            key_padding_mask=torch.rand(2, keys, generator=torch.Generator().manual_seed(1)) < 0.3,
        )
        for forward, sizes in (
            (type(module).forward, torch.tensor(SIZES)),
            (attention_over_sizes(type(module).forward), SIZES),
        )
    )  # fmt: skip
    torch.testing.assert_close(got, wanted)


def test_sizes_in_a_tensor_go_to_mmcvs_own() -> None:
    module = attention()
    asked: list[Any] = []
    attention_over_sizes(lambda *args, **kwargs: asked.append(kwargs) or args[1])(  # type: ignore[func-returns-value]
        module, torch.zeros(1, 1, 8), spatial_shapes=torch.tensor(SIZES)
    )
    assert len(asked) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    module = open_source(config(tmp_path_factory.mktemp("m2f"), "Mask2FormerHead")).module
    assert module is not None
    return module


@pytest.fixture(scope="module")
def decoder(model: Any) -> Any:
    return model.segmentor.decode_head.pixel_decoder


def test_no_size_is_asked_of_images(model: torch.nn.Module) -> None:
    """Sizes are tried on tensors without data, in which mmcv's attention would read."""
    assert dynamic_limits(model, 3) == (1, (16, 16))


def features(height: int, width: int) -> list[torch.Tensor]:
    """Maps of an image of this size at strides 4, 8, 16 and 32."""
    torch.manual_seed(0)
    return [torch.randn(1, 8 << i, -(-height >> 2 + i), -(-width >> 2 + i)) for i in range(4)]


@pytest.mark.parametrize("size", [(64, 96), (97, 65)])
def test_the_pixel_decoder_is_mmdets(decoder: Any, size: tuple[int, int]) -> None:
    feats = features(*size)
    with table.applied() as applied:
        mask, scales = decoder(feats)
    assert set(applied.fired) == {"deformable-attention", "deformable-pixel-decoder"}
    wanted_mask, wanted_scales = decoder(feats)  # with a tensor of sizes
    torch.testing.assert_close(mask, wanted_mask)
    assert len(scales) == len(wanted_scales) == 3
    for got, wanted in zip(scales, wanted_scales, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("head", HEADS)
def test_a_small_model_compiles_and_equals_mmseg(tmp_path: Path, head: str) -> None:
    bundle = compile_source(config(tmp_path, head), out=tmp_path / "b", target="onnxruntime")
    assert bundle.report["status"] == "ok"
    assert ("GridSample" in str(bundle.report["ops"])) == (head == "Mask2FormerHead")
    assert [case["equal"] for case in bundle.report["files"]] == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("target", targets.names())
@pytest.mark.parametrize("head", HEADS)
def test_a_small_model_follows_the_size_of_images_on_every_target(tmp_path: Path, head: str, target: str) -> None:
    bundle = compile_source(config(tmp_path, head), out=tmp_path / "b", target=target, dynamic=True)
    assert bundle.report["parity"]["failures"] == []


@pytest.mark.slow
@pytest.mark.parametrize("target", targets.names())
@pytest.mark.parametrize("name", ZOO)
def test_the_zoos_model_compiles(tmp_path: Path, name: str, target: str) -> None:
    bundle = compile_source(name, out=tmp_path / "b", target=target)
    assert bundle.report["parity"]["failures"] == []
