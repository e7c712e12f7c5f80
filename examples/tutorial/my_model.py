"""The tutorial's model: a small segmentation network in plain PyTorch. segc reads `model` and `meta` from this file."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CLASSES = ("background", "disk", "square")


def block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalization, ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class ShapesNet(nn.Module):
    """Two levels of convolutions and pooled context: (N, 3, H, W) to logits (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(block(3, 8, stride=2), block(8, 16))
        self.coarse = nn.Sequential(block(16, 32, stride=2), block(32, 32))
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.head = nn.Sequential(block(16 + 32 + 32, 16), nn.Conv2d(16, len(CLASSES), 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits at the size of the image."""
        fine = self.fine(image)
        coarse = self.coarse(fine)
        levels = [coarse, self.pool(coarse)]
        enlarged = [functional.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=False) for x in levels]
        logits = self.head(torch.cat([fine, *enlarged], 1))
        return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


model = ShapesNet()

# What the weights alone do not say. mean and std are in units of pixel values, 0 to 255.
meta = {
    "classes": CLASSES,
    "palette": ((64, 64, 64), (255, 160, 0), (0, 140, 255)),  # RGB
    "mean": (127.5, 127.5, 127.5),
    "std": (60.0, 60.0, 60.0),
    "channel_order": "RGB",
    "shape": (96, 128),  # height, width
}
