from __future__ import annotations

import numpy as np

from segc.passes.support.judging import Judge, Outcome, mean_iou

LABEL = np.array([[[0, 0, 1, 1], [0, 0, 1, -1]]])
RIGHT = np.array([[[0, 0, 1, 1], [0, 0, 1, 0]]])
WRONG = np.array([[[0, 0, 1, 1], [0, 1, 1, 0]]])


def test_miou_is_that_of_all_images_together_without_ignored_pixels() -> None:
    assert mean_iou([LABEL], [RIGHT]) == 1.0
    assert mean_iou([LABEL], [WRONG]) == (3 / 4 + 3 / 4) / 2
    assert mean_iou([LABEL, LABEL], [RIGHT, WRONG]) == (7 / 8 + 6 / 7) / 2
    assert mean_iou([np.full((1, 1, 1), -1)], [np.zeros((1, 1, 1), np.int64)]) == 0.0


def test_an_outcome_is_judged_by_pixels_and_by_miou() -> None:
    judge = Judge(0.8, [LABEL], 20.0)
    assert judge.outcome([RIGHT], [WRONG]) == Outcome(0.875, 25.0)
    assert not judge.good(Outcome(0.875, 25.0)) and judge.good(Outcome(0.8, 20.0)) and judge.good(Outcome(0.9, -1.0))
    assert not judge.good(Outcome(0.79, 0.0))
    assert judge.better(Outcome(0.8, 1.0), Outcome(0.9, 2.0))
    plain = Judge(0.8)
    assert plain.outcome([RIGHT], [WRONG]) == Outcome(0.875) and plain.good(Outcome(0.875))
    assert plain.better(Outcome(0.9), Outcome(0.8)) and not plain.better(Outcome(0.8), Outcome(0.9))
