"""Seeded weights: nothing that scales or embeds is zero, what was not zero stays, and rounding errors stay small."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from segc.frontend import calibrate  # noqa: E402


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.out = nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.embedding = nn.Parameter(torch.zeros(1, 9, 4))
        for weight in (self.out.weight, self.out.bias, self.norm.weight):
            nn.init.zeros_(weight)  # type: ignore[arg-type]


def test_what_training_starts_at_zero_gets_values_and_biases_stay() -> None:
    model = Attended()
    before = model.body.weight.clone()
    assert calibrate.randomize_zeros(model) == ["gamma", "embedding", "out.weight", "norm.weight"]
    assert model.gamma.item() == 0.5
    assert model.norm.weight.tolist() == [1.0] * 4
    assert 0.1 < float(model.out.weight.detach().std()) * 36**0.5 * 0.5 < 1.0
    assert 0.0 < float(model.embedding.detach().abs().max()) < 0.1
    assert not model.out.bias.detach().any()  # type: ignore[union-attr]
    assert torch.equal(model.body.weight, before)
    assert calibrate.randomize_zeros(model) == []


def test_equal_models_get_equal_values() -> None:
    first, second = Attended(), Attended()
    for model in (first, second):
        calibrate.randomize_zeros(model)
    assert torch.equal(first.out.weight, second.out.weight)
    assert torch.equal(first.embedding, second.embedding)


@cache
def opened(config: str) -> nn.Module:
    """A model of the zoo as segc opens it. Take a copy to change it."""
    pytest.importorskip("mmseg")
    from segc.frontend.source import open_source

    module = open_source(config, mode="whole").module
    assert module is not None
    return module


GCNET = "gcnet_r50-d8_4xb4-80k_ade20k-512x512"


def test_attention_of_zoo_models_counts() -> None:
    module = opened(GCNET)
    zero = [n for n, p in module.named_parameters() if not n.endswith("bias") and not p.detach().any()]
    assert zero == []


def amplification(module: nn.Module, size: tuple[int, int] = (64, 64)) -> float:
    """Relative change of the logits over the relative change of the input that caused it."""
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    change = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y, moved = module(x), module(x * (1 + 1e-5 * change))
    return float((moved - y).abs().max() / y.abs().max() / 1e-5)


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (GCNET, 16),
        ("erfnet_fcn_4xb4-160k_cityscapes-512x1024", 17),
        ("ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024", 14),
    ],
)
def test_a_deep_residual_net_does_not_amplify_rounding_hundreds_of_times(config: str, blocks: int) -> None:
    module = deepcopy(opened(config))
    scales = [scale for block in module.modules() if (scale := calibrate._scale_of_branch(block)) is not None]
    assert len(scales) == blocks
    assert all(scale.unique().tolist() == [0.25] for scale in scales)
    damped = amplification(module)
    for scale in scales:
        nn.init.ones_(scale)
    calibrate.calibrate_batch_norm(module, (64, 64))
    assert damped < 100
    assert damped < amplification(module)


class Pooled(nn.Module):
    """A BatchNorm behind global pooling: of white noise every image has the same mean there."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.mean((2, 3), keepdim=True))


def test_what_is_measured_after_pooling_fits_photographs() -> None:
    from segc.parity import sample_inputs

    model = Pooled()
    assert calibrate.calibrate_batch_norm(model, (128, 128)) == 1
    photograph = next(
        x for name, x in sample_inputs.inputs((1, 3, 128, 128), (124, 116, 104), (58, 57, 57), "RGB") if "nat" in name
    )
    with torch.no_grad():
        assert float(model(torch.from_numpy(photograph)).abs().max()) < 10  # from white noise alone it is 45
