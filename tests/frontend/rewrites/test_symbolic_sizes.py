"""mmseg's resize and Upsample under symbolic sizes: nothing is frozen, and eager results stay what they are."""

from __future__ import annotations

import pytest
import torch

from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.rewrites import table
from segc.frontend.trace import trace
from segc.graph import ir
from tests.helpers.run_graph import run


class Upsampled(torch.nn.Module):
    """mmseg's Upsample after a stride of two, then mmseg's resize to the input's size."""

    def __init__(self, factor: float, align_corners: bool) -> None:
        super().__init__()
        import_mmseg()
        from mmseg.models.utils import Upsample

        self.up = Upsample(scale_factor=factor, mode="bilinear", align_corners=align_corners)
        self.align_corners = align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from mmseg.models.utils import resize

        y = self.up(torch.nn.functional.max_pool2d(x, 2, ceil_mode=True))
        y = resize(y, size=x.shape[2:], mode="bilinear", align_corners=self.align_corners)
        return x + y


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("factor", [4, 1.5])
def test_one_trace_is_right_at_every_size(factor: float, align_corners: bool) -> None:
    module = Upsampled(factor, align_corners)
    traced = trace(module, (1, 3, 32, 48), opset=20, dynamic=True)
    assert "whole-upsample" in traced.rewrites
    assert ("symbolic-int" in traced.rewrites) == (factor == 1.5 or align_corners)
    graph = ir.from_model(traced.model)
    for shape in [(1, 3, 32, 48), (2, 3, 31, 45), (1, 3, 65, 20)]:
        x = torch.randn(shape)
        got = torch.from_numpy(run(graph, {"input": x.numpy()})[0])
        torch.testing.assert_close(got, module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 1.5])
def test_eager_results_are_the_same_bits_under_the_rewrites(factor: float) -> None:
    module, x = Upsampled(factor, align_corners=True), torch.randn(1, 3, 31, 45)
    wanted = module(x)
    with table.applied(dynamic=True) as applied:
        assert torch.equal(module(x), wanted)
    assert {"whole-upsample", "symbolic-int"} <= set(applied.fired)


def test_the_builtin_is_untouched_and_the_module_has_no_int_of_its_own_afterwards() -> None:
    import_mmseg()
    from mmseg.models.utils import wrappers

    with table.applied(dynamic=True):
        assert wrappers.int is not int
        assert int("7") == 7
        assert wrappers.int("7") == 7
    assert "int" not in vars(wrappers)
