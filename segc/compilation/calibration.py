"""Images that an int8 engine is calibrated with, and others that it is judged by: one in five."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segc.bundle.preprocessing import Preprocessing, usual_loader
from segc.bundle.typed import decode
from segc.compilation import manifest_builder
from segc.compilation.request import Request
from segc.errors import Code, FileError, UsageError
from segc.frontend.model import ModelInfo
from segc.runtime.images import as_loaded, find_images, read_image
from segc.runtime.own_transforms import load_own
from segc.runtime.preprocessing import preprocess, resized
from segc.validation.labels import Rules, read_label
from segc.validation.pairs import match

MOST, MOST_LABELLED = 50, 100  # images: more make no better ranges, but mIoU needs many to judge by
JUDGES, LABELLED_JUDGES = 5, 2  # one in so many is held out
SHOWN = 10  # held-out images that the parity gate compares one by one
Named = tuple[tuple[str, np.ndarray], ...]


@dataclass(frozen=True)
class Pictures:
    """(file name, engine's input) of the images to calibrate with, and of those that are held out.

    labels: classes of the pixels (N, H, W) of those held out, at the engine's size, negative where they do not count.
    """

    images: Named
    held_out: Named
    labels: tuple[np.ndarray, ...] = ()


def pictures(request: Request, info: ModelInfo, shape: tuple[int, int]) -> Pictures:
    """The images of --calibration, preprocessed as `segment` does; at most MOST, evenly over the folder.

    With --calibration-labels, the images that have a label, at most MOST_LABELLED, and every second one is held out.
    A sliding window sees the window in the upper left corner. Raises UsageError for fewer than two images, FileError
    for one that cannot be read.
    """
    assert request.calibration is not None
    label_of = _labels(request)
    files = [file for file in find_images([Path(request.calibration)]) if not label_of or file.path in label_of]
    most, judges = (MOST_LABELLED, LABELLED_JUDGES) if label_of else (MOST, JUDGES)
    files = files[:: -(-len(files) // most)]
    if len(files) < 2:
        raise UsageError(
            f"{request.calibration} holds one image", code=Code.CALIBRATION,
            because="some images calibrate, others tell whether the engine is good",
            so="give a folder with some dozens of images like those that the model will see",
        )  # fmt: skip
    size = shape if info.mode == "whole" else None
    how: Preprocessing = decode(Preprocessing, manifest_builder.preprocessing(info, size), "preprocessing")
    named = tuple((file.path.name, _input(file.path, how, request, info, shape)) for file in files)
    held_out = [at for at in range(len(files)) if at % judges == 1]
    labels = tuple(_label(files[at].path, label_of, how, request, info, shape) for at in held_out) if label_of else ()
    return Pictures(
        tuple(one for at, one in enumerate(named) if at % judges != 1), tuple(named[at] for at in held_out), labels
    )


def shown(pictures: Pictures) -> Named:
    """The held-out images that are compared one by one, at most SHOWN."""
    return pictures.held_out[:: -(-len(pictures.held_out) // SHOWN)]


def _labels(request: Request) -> dict[Path, Path]:
    """The label of each image that has one; empty without --calibration-labels. Raises FileError."""
    if request.calibration_labels is None:
        return {}
    assert request.calibration is not None
    return {pair.image: pair.label for pair in match(request.calibration, request.calibration_labels).pairs}


def _label(
    path: Path, label_of: dict[Path, Path], how: Preprocessing, request: Request, info: ModelInfo,
    shape: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """The classes (N, H, W) of the pixels of an image as the engine sees it; -1 where they do not count.

    Resized like the image, to the nearest pixel; numbers that are no class do not count.
    """
    label = read_label(label_of[path], Rules())
    own = load_own(how.chain, allowed=True, where=info.name)
    loader = how.loader or usual_loader(info.in_channels)
    image = as_loaded(read_image(path, loader=loader), loader, info.in_channels)
    if image.shape[:2] != label.shape:
        raise FileError(
            f"the label {label_of[path]} has another size than its image", code=Code.LABEL_SIZE,
            because=f"it has {label.shape[0]}x{label.shape[1]} pixels, the image {image.shape[0]}x{image.shape[1]}",
            so="save the label at the size of its image",
        )  # fmt: skip
    height, width = resized(image, how, own).shape[:2]
    sized = cv2.resize(label.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    classes, most = np.full(shape, -1, np.int64), max(len(info.classes), 2) if info.classes else 255
    part = sized[: shape[0], : shape[1]].astype(np.int64)
    classes[: part.shape[0], : part.shape[1]] = np.where(part < most, part, -1)
    return np.repeat(classes[None], info.batch, axis=0)


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
