"""What cost models assume about sizes and runtimes."""

from __future__ import annotations

ASSUMED_SIDE = 512  # pixels that stand for a side of unknown size
CHANNEL_BLOCK = 16  # channels that runtimes keep together, on processors with AVX-512; 8 or 4 on others
