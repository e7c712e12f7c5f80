"""The largest cells of a row, in descending order, with their places: DetectionOutput sorts boxes by score.

Each cell is a box of size 1 at its own place, so none overlaps another and all survive; what comes back is score and
place. DetectionOutput compares all boxes of a class with each other, so the cells are dealt out to several classes, and
cells that cannot be among the largest are left out first:

    scores (1, n)  ->  (groups, n / groups), cell i in group i % groups  ->  (1 + groups, n), class 0 is background

A bound below the K-th largest is found by halving: at least K cells reach it. It need not be tight: sorting decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segc.targets.ncnn.lower.lowering import Emission
from segc.targets.ncnn.lower.ops_math import AT_LEAST, threshold, with_scalar
from segc.targets.ncnn.lower.ops_matrix import reduction
from segc.targets.ncnn.lower.ops_movement import crop, permute
from segc.targets.ncnn.net.net import Blob, known, require
from segc.targets.ncnn.net.params import BINARY

LOWEST = -3.0e38
LARGEST_SPAN = 3.0e38
SORTED_CELLS = 2**22  # boxes whose middle is exact in float32
GROUPS = (61, 31, 13, 7, 3)  # primes: cells of a column of an image shall not meet in one group
MOST_SCORES = 2**22  # of all groups together, in memory
FEW = 512  # boxes that are compared with each other in no time
HALVINGS = 16


def descending(e: Emission, role: str, scores: Blob, count: int) -> tuple[Blob, Blob]:
    """The `count` largest of a row (1, n), each above LOWEST, and their places, each (count, 1)."""
    cells = known(scores.shape, "the row")[1]
    require(cells <= SORTED_CELLS, f"it sorts {cells} cells, the limit is {SORTED_CELLS}")
    groups = grouping(cells, count)
    if groups > 1 and count < cells:
        scores = promising(e, role, scores, count)
    each = -(-cells // groups)
    classes = dealt(e, role, scores, groups, each)
    index = np.arange(groups * each, dtype=np.float32).reshape(each, groups).T.reshape(-1)
    boxes = np.stack([index, 0 * index, index + 1, 0 * index + 1], axis=1)
    moved = e.memory(f"{role}_moved", np.zeros(4 * index.size, np.float32), (4 * index.size,))
    priors = e.memory(f"{role}_boxes", boxes, (index.size, 4))
    made = e.layer(
        "DetectionOutput", role, [moved, classes, priors],
        num_class=-233, nms_threshold=0.99, nms_top_k=count, keep_top_k=count, confidence_threshold=LOWEST,
    )  # fmt: skip
    return crop(e, f"{role}_scores", made, [(1, 1, 2)]), crop(e, f"{role}_places", made, [(1, 2, 3)])


def grouping(cells: int, count: int) -> int:
    """How many classes to sort in."""
    if count <= FEW:
        return 1
    return next((g for g in GROUPS if (1 + g) * g * -(-cells // g) <= MOST_SCORES), 1)


def dealt(e: Emission, role: str, scores: Blob, groups: int, each: int) -> Blob:
    """Scores (1, n) as (1 + groups, groups * each): a class has its own cells, the others are LOWEST.

    The rows of (groups, each), each padded by `groups * each` cells and written back to back, lie one group further
    with every row of `groups * each` cells.
    """
    cells, whole = known(scores.shape, "the row")[1], groups * each
    if groups > 1:
        filled = padded(e, f"{role}_filled", scores, "right", whole - cells) if whole > cells else scores
        turned = permute(e, f"{role}_dealt", e.reshape(filled, (each, groups), f"{role}_rows"), [1, 0])
        line = e.reshape(padded(e, f"{role}_wide", turned, "right", whole), (groups * (each + whole),), f"{role}_line")
        scores = e.reshape(crop(e, f"{role}_cut", line, [(0, 0, groups * whole)]), (groups, whole), f"{role}_classes")
    return padded(e, f"{role}_scored", scores, "top", 1)  # class 0 is background, which is never kept


def padded(e: Emission, role: str, blob: Blob, side: str, cells: int) -> Blob:
    """Cells of LOWEST on one side of the blob."""
    params: dict[str, Any] = {"type": 0, "value": LOWEST, side: cells}
    return e.layer("Padding", role, [blob], **params)


def promising(e: Emission, role: str, scores: Blob, count: int) -> Blob:
    """The scores, LOWEST for cells that cannot be among the `count` largest."""
    low = reduction(e, f"{role}_least", scores, "min", [1])
    most = reduction(e, f"{role}_most", scores, "max", [1])
    span = e.layer("BinaryOp", f"{role}_span", [most, low], op_type=BINARY["sub"])
    step = with_scalar(e, f"{role}_steps", "min", span, LARGEST_SPAN)
    for i in range(HALVINGS):
        step = with_scalar(e, f"{role}_step{i}", "mul", step, 0.5)
        tried = e.layer("BinaryOp", f"{role}_try{i}", [low, step], op_type=BINARY["add"])
        number = reduction(e, f"{role}_number{i}", reaching(e, f"{role}_{i}", scores, tried), "sum", [1])
        enough = threshold(e, f"{role}_enough{i}", number, count - 0.5)
        rise = e.layer("BinaryOp", f"{role}_rise{i}", [enough, step], op_type=BINARY["mul"])
        low = e.layer("BinaryOp", f"{role}_low{i}", [low, rise], op_type=BINARY["add"])  # `tried`, or as it was
    mask = reaching(e, f"{role}_last", scores, low)
    kept = e.layer("BinaryOp", f"{role}_kept", [scores, mask], op_type=BINARY["mul"])
    lost = with_scalar(e, f"{role}_lost", "mul", with_scalar(e, f"{role}_out", "rsub", mask, 1.0), LOWEST)
    return e.layer("BinaryOp", f"{role}_promising", [kept, lost], op_type=BINARY["add"])


def reaching(e: Emission, role: str, scores: Blob, bound: Blob) -> Blob:
    """1 where a score is at least the bound."""
    above = e.layer("BinaryOp", f"{role}_above", [scores, bound], op_type=BINARY["sub"])
    return threshold(e, f"{role}_reached", above, AT_LEAST)
