"""`segc.val`: scores of bundles on labelled images, beside each other and beside PyTorch."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segc import ranges
from segc.errors import Code, FileError, SegcError, UsageError
from segc.files.whole import write_whole
from segc.runtime.images import MAX_PIXELS
from segc.runtime.stream import in_order
from segc.suggestions import checked_keywords
from segc.validation import pairs as matching
from segc.validation.areas import Areas
from segc.validation.evaluate import Answer, Question, answer
from segc.validation.labels import IGNORE, Rules
from segc.validation.models import Models, classes_of, engine_words, load_all, shared_manifest
from segc.validation.pairs import Matched, Pair
from segc.validation.scores import Column, column, scores
from segc.validation.state import State

BOUNDARY = 3  # pixels on either side
WORST = 8  # pictures
REPORT = "val.json"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ValResult:
    """The scores of each bundle, then of PyTorch, on the same images.

    images: the number of images that count. errors: why the others do not. worst: pictures of the images with the
    lowest mIoU of the first bundle. unknown_labels: pixels of each label that is neither a class nor ignored; mmseg,
    and therefore segc, counts what was predicted there. unused_labels: labels without an image. notes: what the
    dataset's config asks for that segc does not do.
    """

    columns: tuple[Column, ...]
    images: int
    errors: tuple[tuple[Path, SegcError], ...]
    worst: tuple[Path, ...]
    unknown_labels: Mapping[int, int]
    unused_labels: tuple[Path, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "columns": [one.to_json() for one in self.columns],
            "images": self.images,
            "errors": [{"image": str(path), **error.to_json()} for path, error in self.errors],
            "worst": [str(path) for path in self.worst],
            "unknown_labels": {str(label): count for label, count in sorted(self.unknown_labels.items())},
            "unused_labels": [str(path) for path in self.unused_labels],
            "notes": list(self.notes),
        }


@checked_keywords
def val(
    bundles: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    dataset: str | Path | None = None,
    ignore_index: int | None = None,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
    source: str | Path | None = None,
    checkpoint: str | Path | None = None,
    allow_mismatch: bool = False,
    skip_transforms: Sequence[str] = (),
    boundary: int = BOUNDARY,
    direct: bool = False,
    out: str | Path | None = None,
    worst: int = WORST,
    state: str | Path | None = None,
    scheduler: str | None = None,
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
    python: bool = False,
    progress: Progress = lambda *_: None,
) -> ValResult:
    """Evaluate bundles on the images of a folder with the labels of another, or on the dataset of an mmseg config.

    labels: files whose pixels are class numbers, of the names of the images. ignore_index: label of pixels that do not
    count (255). reduce_zero_label: label 0 does not count and the others are one less. label_map: class numbers for
    labels. dataset: config with a test_dataloader, which says all of this itself. source, checkpoint, allow_mismatch,
    skip_transforms: evaluate the model in PyTorch too. boundary: width in pixels of the band on either side of
    boundaries between classes. direct, python: as for `segc.run`. out: folder for val.json and pictures of the
    `worst` images. state: file that remembers finished images. scheduler: address of a Dask scheduler, whose workers
    read all files under the same paths. progress: called with the number of finished images, of all, and the last
    one's name.
    An image that cannot be used does not stop the others: its error is in the result. Raises SegcError when no image
    can be evaluated, FileError for a state file of another evaluation, and what `segc.load` raises.
    """
    _require_numbers(boundary, worst, threads, max_pixels, ignore_index)
    named = [bundles] if isinstance(bundles, str | Path) else list(bundles)
    if not named:
        raise UsageError("no bundle is given", code=Code.UNKNOWN_NAME, so="name the folders that segc compile wrote")
    if checkpoint is not None and source is None:
        raise UsageError("--checkpoint needs --source", code=Code.CONFLICTING_OPTIONS, so="give the model's --source")
    manifest = shared_manifest(named)
    rules = Rules(IGNORE if ignore_index is None else ignore_index, reduce_zero_label, dict(label_map or {}))
    matched, rules, notes = _matched(images, labels, dataset, rules, ignore_index is not None, manifest.classes)
    models = Models(
        tuple(map(str, named)), _text(source), _text(checkpoint), allow_mismatch, tuple(skip_transforms), threads,
        direct, python,
    )  # fmt: skip
    question = Question(models, rules, boundary, max_pixels)
    kept = State(None if state is None else Path(state), question, classes_of(manifest))
    total = _evaluate(question, matched.pairs, kept, scheduler, progress, classes_of(manifest), worst if out else 0)
    errors = (*matched.unlabelled, *total.errors)
    if not total.images:
        raise errors[0][1]
    return _published(total, question, matched, errors, notes, None if out is None else Path(out))


class _Total:
    """What the answers add up to."""

    def __init__(self, models: int, classes: int, worst: int) -> None:
        self.areas: list[Areas] = [np.zeros((classes, 2, 3), np.int64) for _ in range(models)]
        self.images = 0
        self.errors: list[tuple[Path, SegcError]] = []
        self.unknown: Counter[int] = Counter()
        self.ranked: list[tuple[float, Pair]] = []
        self._worst, self._names = worst, [""] * classes

    def add(self, answer: Answer) -> None:
        if answer.error is not None:
            self.errors.append((answer.pair.image, answer.error))
            return
        self.images += 1
        self.unknown.update(answer.unknown)
        for total, areas in zip(self.areas, answer.areas, strict=True):
            total += areas
        m_iou = scores(answer.areas[0].sum(axis=1), self._names).m_iou if self._worst else None
        if m_iou is not None:
            self.ranked.append((m_iou, answer.pair))
            self.ranked = heapq.nsmallest(self._worst, self.ranked, key=lambda row: (row[0], str(row[1].image)))


def _evaluate(
    question: Question, pairs: Sequence[Pair], state: State, scheduler: str | None, progress: Progress, classes: int,
    worst: int,
) -> _Total:  # fmt: skip
    total = _Total(len(question.models.names), classes, worst)
    finished = state.known(pairs)
    for one in finished:
        total.add(one)
    if finished:
        progress(len(finished), len(pairs), "taken from the state file")
    known = {one.pair for one in finished}
    left = [pair for pair in pairs if pair not in known]
    for number, one in enumerate(_answers(question, left, scheduler), len(finished) + 1):
        state.add(one)
        total.add(one)
        progress(number, len(pairs), one.pair.image.name)
    return total


def _answers(question: Question, pairs: Sequence[Pair], scheduler: str | None) -> Iterator[Answer]:
    """On the workers of a cluster, or here; nothing is loaded when nothing is left to do."""
    if not pairs:
        return iter(())
    if scheduler is not None:
        from segc.validation.spread import spread

        return spread(question, pairs, scheduler)
    loaded = load_all(question.models)
    return in_order(lambda pair: answer(loaded, question, pair), pairs)


def _published(
    total: _Total, question: Question, matched: Matched, errors: tuple[tuple[Path, SegcError], ...],
    notes: tuple[str, ...], out: Path | None,
) -> ValResult:  # fmt: skip
    from segc.bundle.store import read_manifest

    pictures: tuple[Path, ...] = ()
    manifests = [read_manifest(bundle) for bundle in question.models.bundles]
    engines = [*map(engine_words, manifests), "fp32"]  # the last for PyTorch
    if out is not None:
        from segc.validation.worst import write_worst

        _make_folder(out)
        pictures = write_worst(total.ranked, load_all(question.models), question, out) if total.ranked else ()
    columns = tuple(
        column(name, engine, areas, manifests[0].classes)
        for name, engine, areas in zip(question.models.names, engines, total.areas, strict=False)
    )
    result = ValResult(columns, total.images, errors, pictures, dict(total.unknown), matched.unused, notes)
    if out is not None:
        write_whole(out / REPORT, (json.dumps(result.to_json(), indent=1) + "\n").encode())
    return result


def _matched(
    images: str | Path | None, labels: str | Path | None, dataset: str | Path | None, rules: Rules, ignores: bool,
    classes: Sequence[str],
) -> tuple[Matched, Rules, tuple[str, ...]]:  # fmt: skip
    """Images with labels, what the labels mean, and notes: from folders, or from a dataset."""
    if dataset is None:
        if images is None or labels is None:
            raise UsageError(
                "images and labels are not given", code=Code.CONFLICTING_OPTIONS,
                so="give --images DIR and --labels DIR, or --dataset CONFIG",
            )  # fmt: skip
        return matching.match(images, labels), rules, ()
    if images is not None or labels is not None or ignores or rules.reduce_zero_label or rules.label_map:
        raise UsageError(
            "--dataset says where images and labels lie and what labels mean", code=Code.CONFLICTING_OPTIONS,
            because="an option that says it too was given",
            so="omit --images, --labels, --ignore-index, --reduce-zero-label and --label-map",
        )  # fmt: skip
    from segc.frontend.mmseg_dataset import open_dataset

    found = open_dataset(Path(dataset))
    if len(found.classes) != len(classes):
        raise UsageError(
            f"the dataset has {len(found.classes)} classes and the bundle {len(classes)}", code=Code.CLASSES_DIFFER,
            because=f"the dataset's begin with {', '.join(found.classes[:3])}, the bundle's with"
            f" {', '.join(classes[:3])}",
            so="give the dataset that the model was trained for",
        )  # fmt: skip
    return _of_dataset(found.pairs), Rules(found.ignore_index, found.reduce_zero_label, found.label_map), found.notes


def _of_dataset(rows: Sequence[tuple[Path, Path | None]]) -> Matched:
    pairs, missing = [], []
    for image, label in rows:
        if label is not None and label.is_file():
            pairs.append(Pair(image, label))
        else:
            missing.append((image, matching.no_label(image, str(label))))
    if not pairs:
        raise missing[0][1] if missing else FileError(
            "the dataset has no image", code=Code.NO_LABEL, so="correct data_root and data_prefix in the config"
        )  # fmt: skip
    return Matched(tuple(pairs), tuple(missing), ())


def _require_numbers(boundary: int, worst: int, threads: int, max_pixels: int, ignore_index: int | None) -> None:
    ranges.BAND.require("--boundary", boundary)
    ranges.PICTURES.require("--worst", worst)
    ranges.THREADS.require("--threads", threads)
    ranges.PIXELS.require("--max-pixels", max_pixels)
    if ignore_index is not None:
        ranges.LABEL.require("--ignore-index", ignore_index)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot create the folder {out}",
            code=Code.UNWRITABLE,
            because=getattr(error, "strerror", "") or str(error),
        ) from error
