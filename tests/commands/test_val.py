"""`segc.val`: whole evaluations, counted again in a few lines; stopped ones; images that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc
from segc.errors import Code, FileError, SegcError, UsageError
from tests.helpers.calls import python, segc_process
from tests.helpers.labelled_images import labelled, predicted
from tests.helpers.tiny_bundles import bundle, content


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return bundle(tmp_path / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    return labelled(tmp_path)


def test_scores_are_those_of_the_pixels(tiny: Path, data: tuple[Path, Path]) -> None:
    images, labels = data
    (column,) = segc.val(tiny, images=images, labels=labels).columns
    found, wanted = [], []
    for path in sorted(images.iterdir()):
        label = cv2.imread(str(labels / path.name), cv2.IMREAD_UNCHANGED)
        found.append(predicted(cv2.imread(str(path)))[label != 255])
        wanted.append(label[label != 255])
    mask, label = np.concatenate(found), np.concatenate(wanted)
    assert column.overall.a_acc == pytest.approx((mask == label).mean(), abs=1e-6)
    for at, one in enumerate(column.overall.classes):
        both, either = ((mask == at) & (label == at)).sum(), ((mask == at) | (label == at)).sum()
        assert one.name == ("red", "green", "blue")[at] and one.iou == pytest.approx(both / either, abs=1e-6)
        assert one.acc == pytest.approx(both / (label == at).sum(), abs=1e-6)
    assert column.overall.m_iou == pytest.approx(np.mean([one.iou for one in column.overall.classes]), abs=1e-6)
    assert column.engine == "onnxruntime 1.32.0 fp32" and column.boundary != column.interior


def test_rules_for_labels_are_applied(tiny: Path, tmp_path: Path) -> None:
    images, labels = labelled(tmp_path, count=2, wrong=0)
    for path in labels.iterdir():  # the files of a dataset whose first label means "other", and whose order differs
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        other = np.select([label == 0, label == 1, label == 2], [3, 1, 2], 0)
        cv2.imwrite(str(path), other.astype(np.uint8))
    result = segc.val(tiny, images=images, labels=labels, reduce_zero_label=True, label_map={2: 0, 0: 1, 1: 2})
    assert result.columns[0].overall.a_acc == 1.0 and not result.unknown_labels
    red = segc.val(tiny, images=images, labels=labels, ignore_index=3).columns[0].overall.classes[0]
    corners = np.concatenate([predicted(cv2.imread(str(path)))[:4, :4] for path in images.iterdir()])
    assert red.acc == pytest.approx((corners == 0).mean())  # its pixels do not count, only the corners labelled 0 do


def test_bundles_stand_side_by_side(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    smaller = bundle(tmp_path / "small", preprocessing__resize={"scale": [15, 10], "keep_ratio": False})
    one, two = segc.val([tiny, smaller], images=images, labels=labels).columns
    assert (one.name, two.name) == (str(tiny), str(smaller))
    assert one == segc.val(tiny, images=images, labels=labels).columns[0]
    assert one.overall.m_iou is not None and two.overall.m_iou is not None and two.overall.m_iou < one.overall.m_iou


def test_an_image_that_cannot_be_used_does_not_stop_the_others(tiny: Path, data: tuple[Path, Path]) -> None:
    images, labels = data
    wanted = segc.val(tiny, images=images, labels=labels).columns
    (images / "no image.png").write_bytes(b"no image")
    cv2.imwrite(str(labels / "no image.png"), np.zeros((4, 4), np.uint8))
    cv2.imwrite(str(images / "larger.png"), np.zeros((9, 8, 3), np.uint8))
    cv2.imwrite(str(labels / "larger.png"), np.zeros((4, 5), np.uint8))
    cv2.imwrite(str(images / "alone.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(images / "colours.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(labels / "colours.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(labels / "unused.png"), np.zeros((4, 4), np.uint8))
    result = segc.val(tiny, images=images, labels=labels)
    assert result.columns == wanted and result.images == 5
    assert {path.name: error.code for path, error in result.errors} == {
        "alone.png": Code.NO_LABEL, "colours.png": Code.LABEL_UNUSABLE, "larger.png": Code.LABEL_SIZE,
        "no image.png": Code.IMAGE_UNREADABLE,
    }  # fmt: skip
    size = next(error for path, error in result.errors if path.name == "larger.png")
    assert "the image has 8x9 pixels, the label 5x4" in str(size)
    assert [path.name for path in result.unused_labels] == ["unused.png"]


def test_when_no_image_can_be_used_the_first_error_is_raised(tiny: Path, tmp_path: Path) -> None:
    images, labels = labelled(tmp_path, count=1)
    (images / "0.png").write_bytes(b"")
    with pytest.raises(FileError, match="cannot read the image"):
        segc.val(tiny, images=images, labels=labels)


def test_labels_that_are_no_class_are_counted_as_mmseg_counts_them_and_said(
    tiny: Path, data: tuple[Path, Path]
) -> None:
    images, labels = data
    label = cv2.imread(str(labels / "0.png"), cv2.IMREAD_UNCHANGED)
    label[8:10, 8:12] = 7
    cv2.imwrite(str(labels / "0.png"), label)
    assert segc.val(tiny, images=images, labels=labels).unknown_labels == {7: 8}


class StoppedError(Exception):
    """Stops an evaluation after some images."""


def stop_after(number: int) -> Callable[[int, int, str], None]:
    def progress(done: int, _total: int, _name: str) -> None:
        if done >= number:
            raise StoppedError

    return progress


def test_a_stopped_evaluation_goes_on(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    state = tmp_path / "state.jsonl"
    wanted = segc.val(tiny, images=images, labels=labels)
    with pytest.raises(StoppedError):
        segc.val(tiny, images=images, labels=labels, state=state, progress=stop_after(2))
    with state.open("a") as file:
        file.write('{"key": "cut of')
    seen: list[tuple[int, int, str]] = []
    result = segc.val(tiny, images=images, labels=labels, state=state, progress=lambda *one: seen.append(one))
    assert result == wanted
    assert seen == [(2, 5, "taken from the state file"), (3, 5, "2.png"), (4, 5, "3.png"), (5, 5, "4.png")]
    seen.clear()
    assert segc.val(tiny, images=images, labels=labels, state=state, progress=lambda *one: seen.append(one)) == wanted
    assert len(seen) == 1
    cv2.imwrite(str(images / "1.png"), 255 - np.asarray(cv2.imread(str(images / "1.png"))))  # changed since
    changed = segc.val(tiny, images=images, labels=labels, state=state, progress=lambda *one: seen.append(one))
    assert seen[-1] == (5, 5, "1.png") and changed == segc.val(tiny, images=images, labels=labels) != wanted


def test_a_killed_evaluation_goes_on(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    state = tmp_path / "state.jsonl"
    code = (
        "import os, signal, sys, segc\n"
        "bundle, images, labels, state = sys.argv[1:]\n"
        "kill = lambda done, *_: done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "segc.val(bundle, images=images, labels=labels, state=state, progress=kill)\n"
    )
    assert python(code, tiny, images, labels, state).code == -9
    seen: list[int] = []
    result = segc.val(tiny, images=images, labels=labels, state=state, progress=lambda n, *_: seen.append(n))
    assert seen == [3, 4, 5] and result == segc.val(tiny, images=images, labels=labels)


def test_a_state_file_of_another_evaluation_is_refused(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    state = tmp_path / "state.jsonl"
    segc.val(tiny, images=images, labels=labels, state=state)
    before = state.read_bytes()
    other = bundle(tmp_path / "other", classes=["a", "b", "c"])
    changes: list[tuple[dict[str, Any], str]] = [
        ({"ignore_index": 1}, "labels"), ({"boundary": 4}, "boundary"), ({"direct": True}, "models"),
        ({"bundles": other}, "models"),
    ]  # fmt: skip
    for change, words in changes:
        asked: dict[str, Any] = {"bundles": tiny, "images": images, "labels": labels, "state": state}
        asked.update(change)
        with pytest.raises(FileError, match="belongs to another evaluation") as raised:
            segc.val(**asked)
        assert raised.value.code == Code.OTHER_STATE and f"other: {words}" in str(raised.value)
    assert state.read_bytes() == before
    (tmp_path / "text").write_text("anything\n")
    with pytest.raises(FileError, match="belongs to another evaluation"):
        segc.val(tiny, images=images, labels=labels, state=tmp_path / "text")
    with pytest.raises(FileError, match="cannot read the state file") as raised:
        segc.val(tiny, images=images, labels=labels, state=images)
    assert raised.value.code == Code.UNREADABLE


def test_wrong_requests_are_refused(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    four = bundle(tmp_path / "four", output__channels=4, classes=list("abcd"), palette=[[0, 0, 0]] * 4)
    given: dict[str, Any] = {"bundles": tiny, "images": images, "labels": labels}
    changes: list[tuple[dict[str, Any], type[SegcError], Code]] = [
        ({"bundles": []}, UsageError, Code.UNKNOWN_NAME),
        ({"bundles": [tiny, four]}, UsageError, Code.CLASSES_DIFFER),
        ({"labels": None}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"checkpoint": "weights.pth"}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"dataset": "config.py"}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"boundary": 0}, UsageError, Code.INVALID_NUMBER),
        ({"worst": 100}, UsageError, Code.INVALID_NUMBER),
        ({"ignore_index": 70000}, UsageError, Code.INVALID_NUMBER),
        ({"label_maps": {}}, UsageError, Code.UNKNOWN_OPTION),
        ({"images": tmp_path / "gone"}, FileError, Code.NO_LABEL),
        ({"out": images / "0.png"}, FileError, Code.UNWRITABLE),
    ]  # fmt: skip
    for change, kind, code in changes:
        asked = dict(given)
        asked.update(change)
        with pytest.raises(SegcError) as raised:
            segc.val(**asked)
        assert isinstance(raised.value, kind) and raised.value.code == code, change


def test_pictures_of_the_worst_images_are_written(tiny: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    cv2.imwrite(
        str(labels / "3.png"), (predicted(np.asarray(cv2.imread(str(images / "3.png")))) + 1) % 3
    )  # all of it is wrong
    out = tmp_path / "out"
    result = segc.val(tiny, images=images, labels=labels, out=out, worst=2)
    assert result.worst[0].name == "worst-01-3.png" and len(result.worst) == 2
    panels = cv2.imread(str(result.worst[0]))
    assert panels.shape == (23 + 22, 3 * 30, 3)  # image, label, what is wrong, under a line of text
    np.testing.assert_array_equal(panels[22:, :30], cv2.imread(str(images / "3.png")))
    classes = np.asarray(cv2.imread(str(labels / "3.png"), cv2.IMREAD_UNCHANGED))
    np.testing.assert_array_equal(panels[22:, 30:60, ::-1], 255 * np.eye(3, dtype=int)[classes])
    np.testing.assert_array_equal(panels[22:, 60:, ::-1], 255 * np.eye(3, dtype=int)[(classes + 2) % 3])
    assert json.loads((out / "val.json").read_text()) == result.to_json()
    segc.val(tiny, images=images, labels=labels, out=out, worst=1)
    assert [path.name for path in out.glob("*.png")] == ["worst-01-3.png"]


def test_the_command_prints_tables_and_ends_with_8_for_images_that_cannot_be_used(
    tiny: Path, data: tuple[Path, Path]
) -> None:
    images, labels = data
    done = segc_process("val", tiny, "--images", images, "--labels", labels, "--label-map", "7=0")
    assert done.code == 0, done.err
    head, row, *_ = done.out.splitlines()
    assert head.split("\t")[:4] == ["", "aAcc", "mAcc", "mIoU"] and row.startswith(str(tiny))
    assert "5 images evaluated" in done.out and "segc: 5 of 5 images, 4.png" in done.err
    (images / "bad.png").write_bytes(b"")
    done = segc_process("val", tiny, "--images", images, "--labels", labels, "--json")
    assert done.code == 8 and json.loads(done.out)["errors"][0]["code"] == Code.NO_LABEL and done.err == ""
    done = segc_process("val", tiny, "--images", images, "--labels", labels)
    assert done.code == 8 and "1 image was not evaluated" in done.err


class Inverted:
    """A transform of one's own: the image with black and white exchanged."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, "img": 255 - results["img"]}


def test_transforms_of_ones_own_run_where_that_is_allowed(data: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = data
    step = {"step": "own", "module": __name__, "name": "Inverted", "settings": {}}
    plain = content()["preprocessing"]
    own = bundle(tmp_path / "own", preprocessing={**plain, "resize": None, "steps": [step]})
    with pytest.raises(UsageError) as raised:
        segc.val(own, images=images, labels=labels)
    assert raised.value.code == Code.NEEDS_PYTHON
    (column,) = segc.val(own, images=images, labels=labels, python=True).columns
    (other,) = segc.val(bundle(tmp_path / "tiny"), images=images, labels=labels).columns
    assert column.overall.a_acc is not None and other.overall.a_acc is not None
    assert column.overall.a_acc < 0.6 < other.overall.a_acc  # the darkest channel is taken for the brightest
