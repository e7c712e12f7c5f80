"""Where the masks of two sides differ, in numbers and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segc.comparing.side import Side
from segc.compilation.mask_placement import Tail
from segc.parity import metrics
from segc.parity.difference import largest_difference

Array = np.ndarray
_SIDE = 480  # of a panel, at most
_CAPTION = 22


@dataclass(frozen=True)
class CaseDiff:
    """The outputs for one input. relative_error: of logits of equal shape, else None. picture: a file name, or ""."""

    name: str
    relative_error: float | None
    equal_pixels: float
    differing_pixels: int
    picture: str = ""


def compared(name: str, a: Side, b: Side, one: Array, other: Array, size: tuple[int, int]) -> tuple[CaseDiff, Array]:
    """The figures of one input, and the two masks stacked. size: (height, width) of the input."""
    error = largest_difference(one, other)[1] if one.ndim == 4 and one.shape == other.shape else None
    masks = np.stack([_mask(a, one, size), _mask(b, other, size)])
    different = masks[0] != masks[1]
    return CaseDiff(name, error, 1.0 - float(different.mean()), int(different.sum())), masks


def _mask(side: Side, output: Array, size: tuple[int, int]) -> Array:
    """The class of each pixel (N, H, W) at the input's size."""
    if output.ndim == 4 and output.shape[2:] == size:
        return metrics.mask_of(output, side.threshold).astype(np.int64)
    if output.ndim == 4:
        tail = Tail(size, side.align_corners, side.threshold)
        return tail.on_host(np.ascontiguousarray(output, np.float32), 1).astype(np.int64)
    return output.astype(np.int64)


def picture(
    image: Array | None, masks: Array, names: tuple[str, str], palette: Sequence[tuple[int, int, int]]
) -> bytes:
    """A PNG of the first image, both masks and, in white, the pixels that differ. image: uint8 BGR (H, W, 3)."""
    first = masks[:, 0]
    panels = [] if image is None else [_panel(image, "input")]
    panels += [_panel(_coloured(mask, palette), name) for mask, name in zip(first, names, strict=True)]
    different = np.repeat((first[0] != first[1])[..., None], 3, axis=2).astype(np.uint8) * 255
    panels.append(_panel(different, f"{int((first[0] != first[1]).sum())} pixels differ"))
    return bytes(cv2.imencode(".png", np.concatenate(panels, axis=1))[1].tobytes())


def _coloured(mask: Array, palette: Sequence[tuple[int, int, int]]) -> Array:
    colours = np.zeros((max(int(mask.max(initial=0)) + 1, 1), 3), np.uint8)
    given = np.array(palette or [(0, 0, 0)], np.uint8)[: len(colours)]
    colours[: len(given)] = given[:, ::-1]
    for at in range(len(given), len(colours)):  # classes without a colour
        colours[at] = ((at * 67) % 256, (at * 149) % 256, (at * 211) % 256)
    return np.asarray(colours[mask])


def _panel(image: Array, caption: str) -> Array:
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    made = np.zeros((shown.shape[0] + _CAPTION, max(shown.shape[1], 120), 3), np.uint8)
    made[_CAPTION:, : shown.shape[1]] = shown
    cv2.putText(made, caption[-40:], (3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return made
