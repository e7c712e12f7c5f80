"""One image, or a few, evaluated with all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from segc.errors import Code, FileError, SegcError
from segc.runtime.image_errors import errors_of_images
from segc.validation.areas import Areas, areas_of, unknown_labels
from segc.validation.labels import Rules, read_label
from segc.validation.models import Loaded, Models, classes_of
from segc.validation.pairs import Pair


@dataclass(frozen=True)
class Question:
    """What is asked of every image. band: the width of the boundary band; max_pixels: larger images are not decoded."""

    models: Models
    rules: Rules
    band: int
    max_pixels: int


@dataclass(frozen=True)
class Answer:
    """The areas of one image, for each model; or why it has none.

    unknown: pixels of each label that is neither a class nor ignored.
    """

    pair: Pair
    areas: tuple[Areas, ...] = ()
    unknown: dict[int, int] = field(default_factory=dict)
    error: SegcError | None = None


def answer(loaded: Sequence[Loaded], question: Question, pair: Pair) -> Answer:
    """Segment one image with every model, and count. An image that cannot be used is an answer with an error."""
    try:
        with errors_of_images(pair.image):
            return _answer(loaded, question, pair)
    except SegcError as error:
        return Answer(pair, error=error)


def _answer(loaded: Sequence[Loaded], question: Question, pair: Pair) -> Answer:
    images, label = decoded(loaded, question, pair), read_label(pair.label, question.rules)
    if (size := images[0].shape[:2]) != label.shape:
        raise FileError(
            f"the image {pair.image} and its label {pair.label} differ in size", code=Code.LABEL_SIZE,
            because="the image has {1}x{0} pixels, the label {3}x{2}".format(*size, *label.shape),
            so="give the label of this image; resized labels are no labels any more",
        )  # fmt: skip
    ignored, classes = question.rules.ignore_index, classes_of(loaded[0].engine.manifest)
    direct = question.models.direct
    masks = [one.engine.segment(image, direct=direct).mask for one, image in zip(loaded, images, strict=True)]
    areas = tuple(areas_of(mask, label, classes, ignored, question.band) for mask in masks)
    return Answer(pair, areas, unknown_labels(label, classes, ignored))


def decoded(loaded: Sequence[Loaded], question: Question, pair: Pair) -> list[npt.NDArray[Any]]:
    """The image as each model decodes it, once for models that decode it alike."""
    known: dict[object, npt.NDArray[Any]] = {}
    images = []
    for one in loaded:
        manifest = one.engine.manifest
        how = manifest.preprocessing.loader, manifest.input.shape[1]
        if how not in known:
            known[how] = one.engine.read(pair.image, max_pixels=question.max_pixels)
        images.append(known[how])
    return images
