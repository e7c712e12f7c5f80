"""The capability table of ncnn: each ONNX op with a function in lower/ops_*.py that lowers it to ncnn's layers.

Whether a node is legal is tried out by lowering it alone, so what is refused and what is written cannot part.
"""

from __future__ import annotations

from collections.abc import Mapping

from segc.targets.checks import Check
from segc.targets.ncnn.lower import ops_maps, ops_math, ops_matrix, ops_movement, ops_selection  # noqa: F401 - they register
from segc.targets.ncnn.lower.lowering import ROWS, why_not


def rows() -> Mapping[str, tuple[Check, ...]]:
    """Per op its checks."""
    return dict.fromkeys(sorted(ROWS), (why_not,))
