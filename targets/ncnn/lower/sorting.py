"""Sort a row in descending order, with the position of each cell. DetectionOutput does it: it sorts boxes by score.

Each cell becomes a box of size 1 at its own position, so no box overlaps another and non-maximum suppression keeps all;
the result is scores and positions. DetectionOutput compares all boxes of a class with each other, which takes quadratic
time. So the cells are spread over several classes, and cells that cannot be among the largest are masked first:

    scores (1, n)  ->  (groups, n / groups), cell i in group i % groups  ->  (1 + groups, n), class 0 is background

The mask uses a lower bound of the K-th largest score that bisection finds: at least K cells reach it. It need not be
tight, since sorting decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segc.targets.ncnn.lower.net_builder import NetBuilder
from segc.targets.ncnn.lower.ops_math import AT_LEAST_ZERO, threshold, with_scalar
from segc.targets.ncnn.lower.ops_matrix import reduction
from segc.targets.ncnn.lower.ops_movement import crop, permute
from segc.targets.ncnn.net.net import (
    Blob,
    known_sizes,
    require,
)
from segc.targets.ncnn.net.params import BINARY

LOWEST = -3.0e38  # stands for "no score"; finite, since 0 times infinity is NaN
MAX_SPAN = 3.0e38
MAX_SORTED_CELLS = 2**22  # boxes whose centre is exact in float32
GROUP_COUNTS = (61, 31, 13, 7, 3)  # primes, so that the cells of an image column do not share a group
MAX_SCORES = 2**22  # of all groups together, held in memory
FEW = 512  # this many boxes are quick to compare in one class
BISECTIONS = 16


def sort_descending(builder: NetBuilder, role: str, scores: Blob, count: int) -> tuple[Blob, Blob]:
    """The `count` largest of a row (1, n), each above LOWEST, and their positions; both (count, 1). Raises Refused."""
    cells = known_sizes(scores.shape, "the row")[1]
    require(cells <= MAX_SORTED_CELLS, f"it sorts {cells} cells, the limit is {MAX_SORTED_CELLS}")
    groups = group_count(cells, count)
    if groups > 1 and count < cells:
        scores = mask_non_candidates(builder, role, scores, count)
    group_cells = -(-cells // groups)
    class_scores = spread_over_classes(builder, role, scores, groups, group_cells)
    position = np.arange(groups * group_cells, dtype=np.float32).reshape(group_cells, groups).T.reshape(-1)
    boxes = np.stack([position, 0 * position, position + 1, 0 * position + 1], axis=1)
    offsets = builder.add_constant(f"{role}_moved", np.zeros(4 * position.size, np.float32), (4 * position.size,))
    priors = builder.add_constant(f"{role}_boxes", boxes, (position.size, 4))
    detections = builder.add_layer(
        "DetectionOutput", role, [offsets, class_scores, priors],
        num_class=-233, nms_threshold=0.99, nms_top_k=count, keep_top_k=count, confidence_threshold=LOWEST,
    )  # fmt: skip
    sorted_scores = crop(builder, f"{role}_scores", detections, [(1, 1, 2)])
    return sorted_scores, crop(builder, f"{role}_places", detections, [(1, 2, 3)])


def group_count(cells: int, count: int) -> int:
    """How many classes to spread `cells` cells over, `count` of which are wanted."""
    if count <= FEW:
        return 1
    return next((g for g in GROUP_COUNTS if (1 + g) * g * -(-cells // g) <= MAX_SCORES), 1)


def spread_over_classes(builder: NetBuilder, role: str, scores: Blob, groups: int, group_cells: int) -> Blob:
    """Scores (1, n) as (1 + groups, groups * group_cells): a class has the cells of its group, LOWEST elsewhere.

    Each row of (groups, group_cells) is padded by `groups * group_cells` cells. Read back to back in rows of
    `groups * group_cells`, every row then starts one group later than the one before: a block diagonal.
    """
    cells, padded_cells = known_sizes(scores.shape, "the row")[1], groups * group_cells
    if groups > 1:
        missing = padded_cells - cells
        filled = pad_with_lowest(builder, f"{role}_filled", scores, "right", missing) if missing else scores
        rows = builder.reshape(filled, (group_cells, groups), f"{role}_rows")
        by_group = permute(builder, f"{role}_dealt", rows, [1, 0])
        wide = pad_with_lowest(builder, f"{role}_wide", by_group, "right", padded_cells)
        line = builder.reshape(wide, (groups * (group_cells + padded_cells),), f"{role}_line")
        diagonal = crop(builder, f"{role}_cut", line, [(0, 0, groups * padded_cells)])
        scores = builder.reshape(diagonal, (groups, padded_cells), f"{role}_classes")
    return pad_with_lowest(builder, f"{role}_scored", scores, "top", 1)  # class 0 is background, which is never kept


def pad_with_lowest(builder: NetBuilder, role: str, blob: Blob, side: str, cells: int) -> Blob:
    """Add `cells` cells of LOWEST on one side ("right" or "top") of the blob."""
    params: dict[str, Any] = {"type": 0, "value": LOWEST, side: cells}
    return builder.add_layer("Padding", role, [blob], **params)


def mask_non_candidates(builder: NetBuilder, role: str, scores: Blob, count: int) -> Blob:
    """The scores with LOWEST for cells that cannot be among the `count` largest."""
    bound = reduction(builder, f"{role}_least", scores, "min", [1])
    largest = reduction(builder, f"{role}_most", scores, "max", [1])
    span = builder.add_layer("BinaryOp", f"{role}_span", [largest, bound], op_type=BINARY["sub"])
    step = with_scalar(builder, f"{role}_steps", "min", span, MAX_SPAN)
    for i in range(BISECTIONS):
        step = with_scalar(builder, f"{role}_step{i}", "mul", step, 0.5)
        higher = builder.add_layer("BinaryOp", f"{role}_try{i}", [bound, step], op_type=BINARY["add"])
        reached = reduction(builder, f"{role}_number{i}", at_least(builder, f"{role}_{i}", scores, higher), "sum", [1])
        enough = threshold(builder, f"{role}_enough{i}", reached, count - 0.5)
        rise = builder.add_layer("BinaryOp", f"{role}_rise{i}", [enough, step], op_type=BINARY["mul"])
        # `higher` where enough cells reach it, otherwise unchanged
        bound = builder.add_layer("BinaryOp", f"{role}_low{i}", [bound, rise], op_type=BINARY["add"])
    is_candidate = at_least(builder, f"{role}_last", scores, bound)
    kept = builder.add_layer("BinaryOp", f"{role}_kept", [scores, is_candidate], op_type=BINARY["mul"])
    others = with_scalar(builder, f"{role}_out", "rsub", is_candidate, 1.0)
    lowest = with_scalar(builder, f"{role}_lost", "mul", others, LOWEST)
    return builder.add_layer("BinaryOp", f"{role}_promising", [kept, lowest], op_type=BINARY["add"])


def at_least(builder: NetBuilder, role: str, scores: Blob, bound: Blob) -> Blob:
    """A mask: 1 where a score is at least the bound."""
    difference = builder.add_layer("BinaryOp", f"{role}_above", [scores, bound], op_type=BINARY["sub"])
    return threshold(builder, f"{role}_reached", difference, AT_LEAST_ZERO)
