"""Models of a few lines: Python sources for the front end, ONNX files, and the graphs in them."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser

NET = '''\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """A strided convolution, a head and a resize to the input's size: a segmentation model in small."""

    def __init__(self, channels=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, channels, 1)

    def forward(self, x):
        y = self.head(torch.relu(self.conv(x)))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


model = Net()
meta = dict(shape=(24, 40))
'''

CONV = """g (float[1,3,8,12] x) => (float[1,2,8,12] y)
    <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}> { y = Conv(x, w) }"""
DYNAMIC_CONV = CONV.replace("1,3,8,12", "N,3,H,W").replace("1,2,8,12", "N,2,H,W")


def source(folder: Path, text: str = NET, name: str = "net.py", channels: int | None = None) -> Path:
    """Write a Python source; `channels` of the head replaces 5."""
    path = folder / name
    path.write_text(text if channels is None else text.replace("channels=5", f"channels={channels}"))
    return path


def changed(old: str, new: str) -> str:
    """NET with one piece replaced."""
    assert NET.count(old) == 1
    return NET.replace(old, new)


def parsed(text: str, opset: int = 20) -> onnx.ModelProto:
    """ONNX text without its header to a model."""
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "segc" : 1]> {text}')


def onnx_file(folder: Path, text: str = CONV, opset: int = 20, name: str = "conv.onnx") -> Path:
    """Write ONNX text as a binary file."""
    model = parsed(text, opset)
    if not any(node.domain == "segc" for node in model.graph.node):
        del model.opset_import[1]
    onnx.save(model, folder / name)
    return folder / name
