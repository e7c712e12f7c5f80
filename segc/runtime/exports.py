"""A mask as other programs read it: COCO's run-length codes, GeoJSON polygons, NumPy files."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from segc.errors import Code, MissingPackageError
from segc.packages import install
from segc.runtime.segmentation import Segmentation

_GROUPS = 7  # of 5 bits: enough for runs of 2^34 pixels


def class_name(made: Segmentation, number: int) -> str:
    """Of a class; "class N" for a number without one."""
    return made.classes[number] if number < len(made.classes) else f"class {number}"


def run_lengths(made: Segmentation) -> dict[str, Any]:
    """The classes that occur, each with its pixels and COCO's compressed run-length code, as pycocotools writes it."""
    height, width = made.mask.shape
    column_major = made.mask.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(column_major[1:] != column_major[:-1]) + 1])
    ends = np.append(starts[1:], column_major.size)
    numbers = column_major[starts]
    found = []
    for number in np.unique(numbers):
        mine = numbers == number
        edges = np.stack([starts[mine], ends[mine]], axis=1).ravel()
        counts = np.diff(edges, prepend=0)  # pixels of other classes and of this one, in turns
        if edges[-1] < column_major.size:
            counts = np.append(counts, column_major.size - edges[-1])
        rle = {"size": [height, width], "counts": _compressed(counts)}
        pixels = int((ends[mine] - starts[mine]).sum())
        found.append({"id": int(number), "name": class_name(made, int(number)), "pixels": pixels, "rle": rle})
    return {"height": height, "width": width, "classes": found}


def _compressed(counts: npt.NDArray[np.int64]) -> str:
    """COCO's text of run lengths: each but the first three less the one two before, in groups of 5 bits, lowest first.

    A character is 48 plus the group, plus 32 if more follow; the highest bit of the last group is the sign.
    """
    left = counts.astype(np.int64)
    left[3:] -= counts[1:-2]
    characters = np.zeros((len(left), _GROUPS), np.uint8)
    going = np.ones(len(left), bool)
    for at in range(_GROUPS):
        group = left & 31
        left >>= 5
        more = np.where(group & 16, left != -1, left != 0)
        characters[going, at] = (48 + group + 32 * more)[going]
        going &= more
    return characters[characters > 0].tobytes().decode("ascii")


def polygons(made: Segmentation) -> dict[str, Any]:
    """A GeoJSON FeatureCollection: polygons along the borders of pixels, x to the right and y down from the corner.

    Every pixel lies in one polygon, that of its class; pixels that touch at corners alone lie in two. Raises
    MissingPackageError without rasterio.
    """
    try:
        from rasterio.features import shapes
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "polygons are traced by rasterio", code=Code.OPTIONAL_PACKAGE, so=install("geo")
        ) from error
    features = [
        {"type": "Feature", "properties": {"id": int(number), "name": class_name(made, int(number))}, "geometry": shape}
        for shape, number in shapes(made.mask, connectivity=4)
    ]
    return {"type": "FeatureCollection", "features": features}


def npz(made: Segmentation) -> bytes:
    """A NumPy file of `mask`, `classes` and `palette`."""
    content = io.BytesIO()
    palette = np.asarray(made.palette, np.uint8).reshape(-1, 3)
    np.savez_compressed(content, mask=made.mask, classes=np.asarray(made.classes), palette=palette)
    return content.getvalue()


def line(value: dict[str, Any]) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()
