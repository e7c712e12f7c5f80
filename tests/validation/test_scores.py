"""Areas and scores: equal to mmseg's IoUMetric to the last bit; the boundary band by its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from segc.validation.areas import AWAY, LABELLED, NEAR, areas_of, boundary_band, packed, unknown_labels, unpacked
from segc.validation.scores import Scores, percent, scores


def images(seed: int, classes: int, count: int = 4, dtype: type = np.uint8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks and labels: blobs, ignored pixels, numbers that are no class, classes that never occur."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        label: np.ndarray = np.repeat(np.repeat(rng.integers(0, classes, (9, 7)), 5, 0), 6, 1).astype(dtype)
        mask = np.where(rng.random(label.shape) < 0.6, label, rng.integers(0, classes, label.shape)).astype(np.uint8)
        label[label == 1] = 0
        label[rng.random(label.shape) < 0.1] = 255
        label[rng.random(label.shape) < 0.02] = classes + 3
        found.append((mask, label))
    return found


def scored(pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> Scores:
    total = sum(areas_of(mask, label, classes, 255, 2) for mask, label in pairs)
    return scores(np.asarray(total).sum(axis=1), [f"c{at}" for at in range(classes)])


@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 5), (2, 19), (3, 150), (4, 40)])
def test_scores_are_those_of_mmseg_to_the_last_bit(seed: int, classes: int) -> None:
    pytest.importorskip("mmseg")
    from segc.frontend.mmseg_env import import_mmseg

    import_mmseg()
    import torch
    from mmseg.evaluation import IoUMetric

    pairs = images(seed, classes)
    metric = IoUMetric(iou_metrics=["mIoU", "mDice", "mFscore"])
    metric.dataset_meta = {"classes": tuple(f"c{at}" for at in range(classes))}
    for mask, label in pairs:
        tensors = [{"data": torch.from_numpy(each.astype(np.int64))[None]} for each in (mask, label)]
        metric.process({}, [{"pred_sem_seg": tensors[0], "gt_sem_seg": tensors[1]}])
    totals = [sum(parts) for parts in zip(*metric.results, strict=True)]
    theirs = metric.total_area_to_metrics(*totals, ["mIoU", "mDice", "mFscore"])
    ours = scored(pairs, classes)
    for key, values in theirs.items():
        if key == "aAcc":
            assert ours.a_acc == float(values)
            continue
        mine = [getattr(one, key.lower()) for one in ours.classes]
        np.testing.assert_array_equal(np.array([np.nan if v is None else v for v in mine], np.float32), values)
    printed = metric.compute_metrics(metric.results)
    assert printed == {
        "aAcc": percent(ours.a_acc), "mIoU": percent(ours.m_iou), "mAcc": percent(ours.m_acc),
        "mDice": percent(ours.m_dice), "mFscore": percent(ours.m_fscore), "mPrecision": percent(ours.m_precision),
        "mRecall": percent(ours.m_recall),
    }  # fmt: skip
    assert ours.classes[1].acc is None  # no pixel has the label


def test_the_band_holds_the_pixels_near_another_class() -> None:
    rng = np.random.default_rng(5)
    label = np.repeat(np.repeat(rng.integers(0, 3, (5, 6)), 7, 0), 7, 1).astype(np.uint8)
    label[10:14, 3:9] = 255
    height, width = label.shape
    beside = {
        (y, x)
        for y in range(height) for x in range(width) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= y + dy < height and 0 <= x + dx < width
        and 255 not in (label[y, x], label[y + dy, x + dx]) and label[y, x] != label[y + dy, x + dx]
    }  # fmt: skip
    for band in (1, 2, 4):
        wanted = np.zeros(label.shape, bool)
        for y, x in beside:
            wanted[max(0, y - band + 1) : y + band, max(0, x - band + 1) : x + band] = True
        np.testing.assert_array_equal(boundary_band(label, 255, band), wanted)
    assert not boundary_band(np.full((4, 4), 2, np.uint8), 255, 3).any()


def test_the_band_and_the_rest_are_all_pixels() -> None:
    ((mask, label),) = images(6, 4, 1)
    areas, wider = (areas_of(mask, label, 4, 255, band) for band in (1, 9))
    np.testing.assert_array_equal(areas.sum(axis=1), wider.sum(axis=1))
    assert 0 < areas[:, NEAR, LABELLED].sum() < wider[:, NEAR, LABELLED].sum()
    near = boundary_band(label, 255, 1) & (label < 4)
    assert areas[:, NEAR, LABELLED].sum() == near.sum()
    assert areas[:, AWAY, LABELLED].sum() == ((label < 4) & ~near).sum()


def test_labels_of_16_bits_and_more_than_256_classes_count() -> None:
    label = np.array([[0, 299], [300, 65535]], np.uint16)
    areas = areas_of(np.array([[0, 299], [1, 1]], np.uint16), label, 300, 65535, 1).sum(axis=1)
    assert areas[0].tolist() == [1, 1, 1] and areas[299].tolist() == [1, 1, 1] and areas[1].tolist() == [0, 1, 0]
    assert unknown_labels(label, 300, 65535) == {300: 1}


def test_areas_survive_json() -> None:
    ((mask, label),) = images(7, 6, 1)
    areas = areas_of(mask, label, 6, 255, 2)
    np.testing.assert_array_equal(unpacked(packed(areas), 6), areas)
    assert "1" in packed(areas)  # predicted, though no pixel has the label
    for damaged in ({"9": [0] * 6}, {"0": [1, 2]}, {"a": [0] * 6}):
        with pytest.raises((ValueError, IndexError)):
            unpacked(damaged, 6)


def test_nothing_to_divide_by_is_none() -> None:
    empty = scores(np.zeros((2, 3), np.int64), ["a", "b"])
    assert empty.a_acc is None and empty.m_iou is None and empty.classes[0].iou is None
    assert np.isnan(percent(empty.m_iou))
