"""Images that an int8 engine is calibrated with, and others that it is judged by: one in five."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segc.bundle.preprocessing import Preprocessing, usual_loader
from segc.bundle.typed import decode
from segc.compilation import manifest_builder
from segc.compilation.request import Request
from segc.errors import Code, UsageError
from segc.frontend.model import ModelInfo
from segc.runtime.images import as_loaded, find_images, read_image
from segc.runtime.own_transforms import load_own
from segc.runtime.preprocessing import preprocess, resized

MOST = 50  # images: more make no better ranges
JUDGES = 5  # one in so many is held out
Named = tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True)
class Pictures:
    """(file name, engine's input) of the images to calibrate with, and of those that are held out."""

    images: Named
    held_out: Named


def pictures(request: Request, info: ModelInfo, shape: tuple[int, int]) -> Pictures:
    """The images of --calibration, preprocessed as `segment` does; at most MOST, evenly over the folder.

    A sliding window sees the window in the upper left corner. Raises UsageError for fewer than two images, FileError
    for one that cannot be read.
    """
    assert request.calibration is not None
    files = find_images([Path(request.calibration)])
    files = files[:: -(-len(files) // MOST)]
    if len(files) < 2:
        raise UsageError(
            f"{request.calibration} holds one image", code=Code.CALIBRATION,
            because="some images calibrate, others tell whether the engine is good",
            so="give a folder with some dozens of images like those that the model will see",
        )  # fmt: skip
    size = shape if info.mode == "whole" else None
    how: Preprocessing = decode(Preprocessing, manifest_builder.preprocessing(info, size), "preprocessing")
    named = tuple((file.path.name, _input(file.path, how, request, info, shape)) for file in files)
    return Pictures(
        tuple(one for at, one in enumerate(named) if at % JUDGES != 1),
        tuple(one for at, one in enumerate(named) if at % JUDGES == 1),
    )


def _input(path: Path, how: Preprocessing, request: Request, info: ModelInfo, shape: tuple[int, int]) -> np.ndarray:
    loader = how.loader or usual_loader(info.in_channels)
    own = load_own(how.chain, allowed=True, where=info.name)
    image = as_loaded(read_image(path, loader=loader), loader, info.in_channels)
    if request.input == "uint8":
        return np.repeat(np.asarray(resized(image, how, own))[None], info.batch, axis=0)
    x, _ = preprocess(image, how, own)
    x = x[:, :, : shape[0], : shape[1]]
    missing = [(0, wanted - side) for wanted, side in zip(shape, x.shape[2:], strict=True)]
    return np.repeat(np.pad(x, ((0, 0), (0, 0), *missing)), info.batch, axis=0)
