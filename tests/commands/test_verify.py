"""`segc.verify` as a function: which limits a bundle is held to."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import segc
from segc.commands.verify import verify
from segc.errors import ParityError

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, 1, 1)

    def forward(self, x):
        y = self.head(x)
        return {body}

model = Net()
"""
REFINED = "y.flatten(2).scatter(2, y.flatten(2).topk(5, dim=2)[1], 3.0).view_as(y)"
IMPOSSIBLE = -1.0  # no error is below it


@pytest.mark.parametrize(("body", "by_pixels"), [("y", False), (REFINED, True)])
def test_a_model_that_selects_by_top_k_is_judged_by_pixels(body: str, by_pixels: bool, tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(NET.format(body=body))
    bundle = segc.compile(source, shape=(16, 20), out=tmp_path / "b")
    assert bundle.manifest.model.top_k is by_pixels
    assert (bundle.report["parity"]["limits"]["relative_error"] is None) is by_pixels
    if by_pixels:
        assert len(verify(bundle.path, source=source, max_error=IMPOSSIBLE).cases) == 2
    else:
        with pytest.raises(ParityError, match="relative logit error"):
            verify(bundle.path, source=source, max_error=IMPOSSIBLE)
