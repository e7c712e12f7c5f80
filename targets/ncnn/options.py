"""`--set winograd=` for ncnn, whose own convolutions are meant."""

from __future__ import annotations

from segc.targets.protocol import Option

WINOGRAD = Option(
    "winograd",
    ("on", "measured", "off"),
    "on",
    "fast 3x3 convolutions in tiles of 6x6 and 4x4. on: of 6x6 unless a trial finds results beyond a third of the"
    " parity gate's limits; measured: unless they make the model's error more than 1.5 times as large; off: tiles of"
    " 2x2, which are as exact as sums",
)
