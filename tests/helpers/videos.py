"""Small videos made with PyAV, and their frames decoded again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.tiny_bundles import photograph

MILLI = Fraction(1, 1000)


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """A view that wanders over a larger picture."""
    whole = photograph(height + 3 * count, width + 3 * count)
    return [whole[3 * i : 3 * i + height, 3 * i : 3 * i + width] for i in range(count)]


def video(
    path: Path, frames: Sequence[np.ndarray], *, times: Sequence[int] | None = None, rotation: int = 0,
    codec: str = "libx264", kind: str = "yuv420p", **settings: Any,
) -> Path:  # fmt: skip
    """Write a video. times: of the frames, in milliseconds (40 apart). rotation: in degrees, as players turn it."""
    import av

    with av.open(str(path), "w", **settings) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = kind
        stream.codec_context.time_base = MILLI
        if rotation:
            stream.set_display_rotation(rotation)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts, frame.time_base = times[number] if times else 40 * number, MILLI
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _seconds(frame: Any) -> float:
    return float(frame.pts * frame.time_base)


def decoded(path: Path | str) -> tuple[list[np.ndarray], list[float], list[int]]:
    """The frames as BGR, not turned, their seconds and their rotations."""
    import av

    with av.open(str(path)) as container:
        found = [(f.to_ndarray(format="bgr24"), _seconds(f), f.rotation) for f in container.decode(video=0)]
    images, seconds, rotations = zip(*found, strict=True)
    return list(images), list(seconds), list(rotations)


def masks(path: Path | str) -> tuple[list[np.ndarray], list[float]]:
    """The class numbers of a mask video, and the seconds."""
    import av

    with av.open(str(path)) as container:
        found = [(f.to_ndarray(), _seconds(f)) for f in container.decode(video=0)]
    return [mask for mask, _ in found], [seconds for _, seconds in found]


def sound(path: Path) -> Path:
    """A file with sound alone."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
