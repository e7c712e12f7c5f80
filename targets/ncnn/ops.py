"""The capability table of ncnn: the ONNX ops with a lowering in lower/ops_*.py.

A node is legal if lowering it on its own succeeds, so the table and the emitter cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

from segc.targets.checks import Check
from segc.targets.ncnn.lower import ops_maps, ops_math, ops_matrix, ops_movement, ops_selection  # noqa: F401 - they register
from segc.targets.ncnn.lower.net_builder import why_not
from segc.targets.ncnn.lower.registry import LOWERINGS


def capability_table() -> Mapping[str, tuple[Check, ...]]:
    """The checks of each supported op: that the node can be lowered."""
    return dict.fromkeys(sorted(LOWERINGS), (why_not,))
