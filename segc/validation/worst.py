"""Pictures of the images that a model segments worst: image, label and the mask of each model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segc.files.claims import left_over_in, remove
from segc.files.whole import write_all
from segc.runtime.images import Image, eight_bits
from segc.validation.areas import Map
from segc.validation.evaluate import Question, decoded
from segc.validation.labels import read_label
from segc.validation.models import Loaded
from segc.validation.pairs import Pair

_SIDE = 640  # of a panel, at most
_CAPTION = 22  # rows of text


def write_worst(
    ranked: Sequence[tuple[float, Pair]], loaded: Sequence[Loaded], question: Question, folder: Path
) -> tuple[Path, ...]:
    """Write `worst-NN-NAME.png` for each image, in place of those of an earlier evaluation. Raises FileError."""
    files = {}
    for rank, (m_iou, pair) in enumerate(ranked, 1):
        path = folder / f"worst-{rank:02}-{pair.image.stem}.png"
        files[path] = cv2.imencode(".png", _picture(m_iou, pair, loaded, question))[1].tobytes()
    for unfinished in left_over_in(folder, ".png"):  # of a killed process
        remove(unfinished)
    write_all(files, durable=False)
    for old in folder.glob("worst-[0-9][0-9]-*.png"):
        if old not in files:
            old.unlink(missing_ok=True)
    return tuple(files)


def _picture(m_iou: float, pair: Pair, loaded: Sequence[Loaded], question: Question) -> Image:
    """Panels side by side: the image, the label, and of each mask what is wrong, in colour, on the darkened image."""
    label = read_label(pair.label, question.rules)
    images = decoded(loaded, question, pair)
    image = eight_bits(images[0])
    counted = label != question.rules.ignore_index
    manifest = loaded[0].engine.manifest
    panels = [
        _panel(image, f"{pair.image.name}: mIoU {m_iou:.1%}"),
        _panel(_coloured(label, counted, manifest.palette), "label"),
    ]
    for one, given in zip(loaded, images, strict=True):
        mask = one.engine.segment(given, direct=question.models.direct).mask
        wrong = counted & (mask != label)
        shown = np.where(wrong[..., None], _coloured(mask, wrong, manifest.palette), image // 3)
        panels.append(_panel(shown, f"{one.name}: what is wrong"))
    return np.asarray(np.concatenate(panels, axis=1), np.uint8)


def _coloured(label: Map, counted: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> Image:
    colours = np.zeros((len(palette) + 1, 3), np.uint8)
    colours[:-1] = np.asarray(palette)[:, ::-1]
    return np.asarray(colours[np.where(counted, np.minimum(label.astype(np.int64), len(palette)), len(palette))])


def _panel(image: Image, caption: str) -> Image:
    """The image, shrunk to a panel, under a line of text."""
    factor = min(1.0, _SIDE / max(image.shape[:2]))
    if factor < 1:
        image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    line = np.full((_CAPTION, image.shape[1], 3), 255, np.uint8)
    text = caption.encode("ascii", "replace").decode()
    cv2.putText(line, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([line, image])
