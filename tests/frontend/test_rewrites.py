"""Front-end rewrites: applied only inside the block, undone on the way out, silent about what they leave alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from segc.frontend import rewrites


def test_only_what_fired_is_named_and_the_functions_are_restored() -> None:
    before = torch._C._nn.adaptive_avg_pool2d
    with rewrites.applied() as fired:
        assert torch._C._nn.adaptive_avg_pool2d is not before
        assert fired == []
    assert torch._C._nn.adaptive_avg_pool2d is before
    x = torch.ones(1, 1, 4, 4)
    with rewrites.applied() as fired:
        for _ in range(2):
            torch._C._nn.adaptive_avg_pool2d(x, [2, 2])
    assert fired == ["adaptive-avg-pool"]


def test_they_are_undone_when_the_block_raises() -> None:
    before = torch._C._nn.adaptive_avg_pool2d
    with pytest.raises(KeyboardInterrupt), rewrites.applied():
        raise KeyboardInterrupt
    assert torch._C._nn.adaptive_avg_pool2d is before
    assert torch.equal(F.adaptive_avg_pool2d(torch.ones(1, 1, 4, 4), 2), torch.ones(1, 1, 2, 2))


def test_a_size_that_is_no_plain_number_is_left_to_torch() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with rewrites.applied():
        kept = torch._C._nn.adaptive_avg_pool2d(x, [torch.tensor(2), torch.tensor(2)])  # type: ignore[list-item]
    assert torch.equal(kept, F.adaptive_avg_pool2d(x, 2))


def test_names_are_unique_and_described() -> None:
    names = [r.name for r in rewrites.REWRITES]
    assert len(set(names)) == len(names)
    assert all(r.summary for r in rewrites.REWRITES)
