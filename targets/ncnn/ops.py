"""The capability table of ncnn: the ONNX ops with a lowering in lower/ops_*.py.

A node is legal if lowering it on its own succeeds, so the table and the emitter cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from segc.targets.checks import Check, condition, worded
from segc.targets.ncnn.lower import ops_maps, ops_math, ops_matrix, ops_movement, ops_selection  # noqa: F401 - they register
from segc.targets.ncnn.lower.net_builder import why_not
from segc.targets.ncnn.lower.registry import LOWERINGS, Lowering


def capability_table() -> Mapping[str, tuple[Check, ...]]:
    """The checks of each supported op: that the node can be lowered, in the words of its lowering."""
    return {op: (_lowered_by(LOWERINGS[op]),) for op in sorted(LOWERINGS)}


def _lowered_by(lowering: Lowering) -> Check:
    def check(node: gs.Node) -> str | None:
        return why_not(node)

    return worded(check, f"Its lowering takes it: {condition(lowering)}")
