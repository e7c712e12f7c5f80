"""Preprocessings that the runtimes in other languages make to the last bit, as changes of a plain one."""

from __future__ import annotations

from typing import Any

import numpy as np

from segc.bundle import preprocessing as steps

TABLE = tuple(tuple(np.linspace(low, 3, 256).tolist()) for low in (-1, -2, 0.1))
PLAIN = steps.Preprocessing(
    channel_order="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize=None, pad=steps.Pad()
)
CHANGES: list[dict[str, Any]] = [
    {},
    {"channel_order": "BGR", "pad": steps.Pad(size=(70, 80), value=1.5)},
    {"resize": steps.Resize(scale=(64, 48), keep_ratio=True), "pad": steps.Pad(divisor=32, kept=True)},
    {"table": TABLE},
    *(
        {"steps": (step,)}
        for step in (
            steps.ResizeStep(factor=(0.7, 1.3)),
            steps.ResizeStep(scale=(50, 40), interpolation="nearest"),
            steps.ResizeStep(scale=(30, 40), backend="pillow", interpolation="bicubic"),
            steps.ResizeToMultiple(divisor=32),
            steps.ResizeShortestEdge(scale=30, most=50),
            steps.PillowResize(scale=(60, 40), keep_ratio=True, multiple=8),
            steps.PillowResize(shortest=30, longest=45, multiple=4, interpolation="bicubic"),
            steps.PadStep(size=(90, 100), values=(1.0, 2.0, 3.0)),
            steps.PadStep(divisor=16, mode="reflect"),
            steps.PadStep(divisor=16, mode="symmetric"),
            steps.PadStep(square=True, mode="edge"),
            steps.CenterCrop(size=(31, 29)),
            steps.CenterCrop(size=(31, 29), floor=True),
            steps.Gamma(gamma=1.7),
            steps.Normalize(mean=(1.0, 2.3, 3.7), std=(4.1, 5.0, 6.3), swap=True),
            steps.Gray(weights=(0.3, 0.5, 0.2), channels=3),
            steps.Rerange(low=0, high=255),
        )
    ),
]
