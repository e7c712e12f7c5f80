"""What a data preprocessor of one's own does to pixels, found by running it on made-up pictures.

Known are those that treat every pixel alone: x -> a x + b for each channel becomes mean and std; for 8 bits any other
function becomes a table. Padding to the right and bottom is found too. What depends on other pixels is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from segc.frontend.quiet import quiet

_CLOSE = 1e-5  # of the largest value, or of 1: float32 rounds a scaled mean and std otherwise than the original
_SIZES = ((32, 32), (40, 72))
_MOST = 256  # pixels that padding is looked for


class NotPointwise(ValueError):  # noqa: N818 - becomes a SourceError that names the class
    """Why the preprocessor is not known."""


@dataclass(frozen=True)
class Pointwise:
    """mean, std, table, channel_order, pads: as in the manifest's preprocessing. pad_kept: mmseg is not told of it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    table: tuple[tuple[float, ...], ...] | None
    channel_order: str
    pad_size: tuple[int, int] | None
    pad_divisor: int | None
    pad_value: float
    pad_kept: bool


def run(preprocessor: Any, image: np.ndarray) -> tuple[np.ndarray, Any]:
    """The network's input (1, C, H, W) for an image (C, H, W), and the data sample as the preprocessor leaves it."""
    import torch
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo={"ori_shape": image.shape[1:], "img_shape": image.shape[1:]})
    with quiet(), torch.no_grad():
        made = preprocessor({"inputs": [torch.from_numpy(image.copy())], "data_samples": [sample]}, False)
    inputs, samples = made["inputs"], made.get("data_samples") or [sample]
    inputs = torch.stack(list(inputs)) if isinstance(inputs, list | tuple) else inputs
    return inputs.float().numpy(), samples[0]


def probe(preprocessor: Any, channels: int, deep: bool) -> Pointwise:
    """Find out what it does to images of so many channels. deep: of 16 bits or more. Raises NotPointwise."""
    try:
        return _probed(preprocessor, channels, deep)
    except NotPointwise:
        raise
    except Exception as error:  # a preprocessor of one's own may raise anything
        raise NotPointwise(f"it raises {type(error).__name__}: {error}") from error


def _probed(preprocessor: Any, channels: int, deep: bool) -> Pointwise:
    images = [_even(channels, *_SIZES[0], seed=0), _skewed(channels, *_SIZES[0], seed=1)]
    outputs = [run(preprocessor, image) for image in images]
    planes = [y[0, :, : image.shape[1], : image.shape[2]] for image, (y, _) in zip(images, outputs, strict=True)]
    order, tables = _tables(images, planes)
    if deep:
        wide = (np.random.default_rng(2).random((channels, *_SIZES[0])) * 65535).astype(np.int32)
        got = run(preprocessor, wide)[0][0, :, : _SIZES[0][0], : _SIZES[0][1]]
        fits = [_line(wide[source].ravel(), got[at].ravel()) for at, source in enumerate(order)]
        if None in fits or not all(
            _equal(np.arange(256) * fit[0] + fit[1], table) for fit, table in zip(fits, tables, strict=True) if fit
        ):
            raise NotPointwise("it is no scaling of the values, and images may be deeper than 8 bits")
    else:
        fits = [_line(np.arange(256), table) for table in tables]
    found = None if None in fits else [fit for fit in fits if fit is not None]
    size, divisor, value, kept = _padding(preprocessor, channels)
    swapped = channels == 3 and order == [2, 1, 0]
    return Pointwise(
        tuple(-shift / scale for scale, shift in found) if found else (0.0,) * len(tables),
        tuple(1 / scale for scale, _ in found) if found else (1.0,) * len(tables),
        None if found else tuple(tuple(map(float, table)) for table in tables),
        "RGB" if swapped else "BGR", size, divisor, value, kept,
    )  # fmt: skip


def _even(channels: int, height: int, width: int, seed: int) -> np.ndarray:
    """Every value of 8 bits equally often, otherwise placed in each channel."""
    rng = np.random.default_rng(seed)
    values = np.arange(height * width, dtype=np.uint32).astype(np.uint8)
    return np.stack([rng.permutation(values).reshape(height, width) for _ in range(channels)])


def _skewed(channels: int, height: int, width: int, seed: int) -> np.ndarray:
    """Mostly dark, so that what depends on a whole image differs."""
    rng = np.random.default_rng(seed)
    return (255 * rng.random((channels, height, width)) ** 3).astype(np.uint8)


def _tables(images: list[np.ndarray], planes: list[np.ndarray]) -> tuple[list[int], list[np.ndarray]]:
    """For each output channel the input channel that it comes from, and its 256 values."""
    have, gives = images[0].shape[0], planes[0].shape[0]
    if have != 1 and gives != have:
        raise NotPointwise(f"it makes {gives} channels of {have}")
    order, tables = [], []
    for at in range(gives):
        for source in dict.fromkeys([0] if have == 1 else [at, have - 1 - at]):
            table = np.zeros(256, np.float32)
            table[images[0][source].ravel()] = planes[0][at].ravel()
            if all(_equal(table[x[source]], y[at]) for x, y in zip(images, planes, strict=True)):
                order.append(source)
                tables.append(table)
                break
        else:
            raise NotPointwise("what it makes of a pixel depends on other pixels or channels")
    if order not in (list(range(gives)), list(range(gives))[::-1], [0] * gives):
        raise NotPointwise(f"it puts the channels in the order {order}")
    if gives != 3 and order == list(range(gives))[::-1] and gives > 1:
        raise NotPointwise("it turns the order of the channels round")
    return order, tables


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """(a, b) of y = a x + b, or None."""
    values, low, high = y.astype(np.float64), int(x.argmin()), int(x.argmax())
    scale = (values[high] - values[low]) / (int(x[high]) - int(x[low]))
    shift = values[low] - scale * int(x[low])
    return (float(scale), float(shift)) if scale != 0 and _equal(x * scale + shift, values) else None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= _CLOSE * max(1.0, float(np.abs(b).max())))


def _padding(preprocessor: Any, channels: int) -> tuple[tuple[int, int] | None, int | None, float, bool]:
    """The (height, width) or the divisor that it pads to, the value, and whether mmseg is not told of the padding."""
    sizes, sample, last = {}, None, None
    for height, width in (*_SIZES, (33, 47), (1, 1)):
        y, sample = run(preprocessor, _even(channels, height, width, seed=3))
        sizes[height, width], last = y.shape[2:], y
    assert last is not None
    if all(before == after for before, after in sizes.items()):
        return None, None, 0.0, False
    value = float(last[0, 0, -1, -1])
    if not np.all(last[0, :, -1, -1] == value):
        raise NotPointwise("it pads with other values in each channel")
    kept = not any(getattr(sample, "metainfo", {}).get(key) for key in ("padding_size", "img_padding_size"))
    for divisor in range(2, _MOST + 1):
        if all(after == tuple(-(-s // divisor) * divisor for s in before) for before, after in sizes.items()):
            return None, divisor, value, kept
    least = sizes[1, 1]
    if all(after == tuple(max(s, m) for s, m in zip(before, least, strict=True)) for before, after in sizes.items()):
        return (int(least[0]), int(least[1])), None, value, kept
    raise NotPointwise(f"it makes images of other sizes: {sizes}")
