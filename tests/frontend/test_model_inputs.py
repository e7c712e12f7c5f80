"""Models of more than the image: constants from `meta['inputs']`, or a refusal by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segc.errors import Code, SourceError
from segc.frontend.source import open_source

TEXT = """\
import numpy as np
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x, weight, scale, bias=0.0):
        return self.conv(x) * weight * scale + bias


model = Net()
meta = {"shape": (16, 24), META}
"""


def file(folder: Path, meta: str) -> Path:
    path = folder / "net.py"
    path.write_text(TEXT.replace("META", meta))
    return path


@pytest.mark.parametrize("weight", ["torch.full((1,), 3.0)", "np.full(1, 3.0, np.float32)"])
def test_constants_are_bound(weight: str, tmp_path: Path) -> None:
    source = open_source(file(tmp_path, f"'inputs': {{'weight': {weight}, 'scale': 2.0}}"))
    assert source.module is not None
    x = torch.rand(1, 3, 16, 24)
    conv = next(m for m in source.module.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        torch.testing.assert_close(source.module(x), conv(x) * 6)


def test_inputs_without_a_value_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"inputs weight, scale have no value") as error:
        open_source(file(tmp_path, ""))
    assert error.value.code == Code.MODEL_INPUTS
    with pytest.raises(SourceError, match=r"its input scale has no value"):
        open_source(file(tmp_path, "'inputs': {'weight': 1.0}"))


def test_constants_of_no_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)does not take.*prompt; besides the image it takes weight, scale, bias"):
        open_source(file(tmp_path, "'inputs': {'weight': 1.0, 'scale': 2.0, 'prompt': 3}"))
    with pytest.raises(SourceError, match="inputs is a list"):
        open_source(file(tmp_path, "'inputs': [1]"))
