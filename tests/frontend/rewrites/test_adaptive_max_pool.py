"""Adaptive maximum pooling is traced, with torch's own windows."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segc.frontend.rewrites.adaptive_max_pool import windows_of_either_size
from segc.frontend.trace import trace

SIDES, COUNTS = st.integers(1, 23), st.one_of(st.none(), st.integers(1, 25))


@settings(max_examples=100, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(COUNTS, COUNTS), st.integers(0, 2**31))
def test_every_window_is_that_of_torch(
    sides: tuple[int, int], counts: tuple[int | None, int | None], seed: int
) -> None:
    x = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(seed))
    found = windows_of_either_size(F.adaptive_max_pool2d)(x, counts)
    assert torch.equal(found, F.adaptive_max_pool2d(x, counts))


def test_nan_and_infinity_go_through_as_in_torch() -> None:
    x = torch.tensor([1.0, float("nan"), -torch.inf, -torch.inf, 3.0, torch.inf]).reshape(1, 1, 1, 6)
    found = windows_of_either_size(F.adaptive_max_pool2d)(x, (1, 4))
    np.testing.assert_array_equal(found.numpy(), F.adaptive_max_pool2d(x, (1, 4)).numpy())


def test_indices_and_computed_sizes_are_left_to_torch() -> None:
    x = torch.randn(1, 2, 6, 5)
    pool = windows_of_either_size(F.adaptive_max_pool2d)
    values, indices = pool(x, 2, True)
    assert torch.equal(values, F.adaptive_max_pool2d(x, 2)) and indices.dtype == torch.int64
    with pytest.raises(TypeError):
        pool(x, ("2", "2"))


class Pooled(nn.Module):
    """Logits at the size of the input, from a pooled map."""

    def __init__(self, size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        self.body, self.pool = nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.body(x))
        return F.interpolate(pooled, size=x.shape[2:], mode="nearest") + self.body(x)


@pytest.mark.parametrize("size", [5, (3, 6), (None, 4)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_traced_models_run_with_the_same_numbers(size: int | tuple[int | None, int | None], dynamic: bool) -> None:
    module = Pooled(size).eval()
    traced = trace(module, (1, 3, 18, 20), opset=20, dynamic=dynamic)
    assert "adaptive-max-pool" in traced.rewrites
    session = onnxruntime.InferenceSession(traced.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for sides in ((18, 20), (23, 67), (40, 31)) if dynamic else ((18, 20),):
        x = torch.randn(2 if dynamic else 1, 3, *sides)
        with torch.no_grad():
            wanted = module(x).numpy()
        np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], wanted, atol=1e-5)
