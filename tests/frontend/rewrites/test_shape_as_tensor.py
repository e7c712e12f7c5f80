"""Sizes read by `torch._shape_as_tensor` are traced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from segc.frontend.rewrites.shape_as_tensor import sizes_of_a_traced_tensor
from segc.frontend.trace import trace
from segc.runtime.ort import OrtSession


class Scaled(nn.Module):
    """Logits over the height and width of their map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        sides = torch._shape_as_tensor(y)[2:].to(y.device)
        scaled: torch.Tensor = y / (sides[0] * 3 + sides[1])
        return scaled


@pytest.mark.parametrize("dynamic", [False, True])
def test_sizes_are_those_of_the_map(dynamic: bool) -> None:
    torch.manual_seed(0)
    module = Scaled().eval()
    traced = trace(module, (1, 3, 16, 24), opset=20, dynamic=dynamic)
    assert "shape-as-tensor" in traced.rewrites
    session = OrtSession(traced.model.SerializeToString(), 1)
    for size in ((16, 24), (20, 12)) if dynamic else ((16, 24),):
        x = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session.run(x), expected, rtol=1e-5, atol=1e-6)


def test_plain_sizes_are_torchs_own() -> None:
    x = torch.zeros(2, 3, 5)
    made = sizes_of_a_traced_tensor(torch._shape_as_tensor)(x)
    assert torch.equal(made, torch._shape_as_tensor(x)) and made.dtype == torch.int64
