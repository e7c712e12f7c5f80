"""The table from ONNX ops to the functions that lower them; `lower_op` registers a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_graphsurgeon as gs

if TYPE_CHECKING:
    from segc.targets.ncnn.lower.net_builder import NetBuilder

Lowering = Callable[["NetBuilder", gs.Node], None]
LOWERINGS: dict[str, Lowering] = {}


def lower_op(*ops: str) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of these ONNX ops ("domain::Op" for other domains than ONNX's)."""

    def register(lowering: Lowering) -> Lowering:
        for op in ops:
            assert op not in LOWERINGS, op
            LOWERINGS[op] = lowering
        return lowering

    return register


def lowering_of(node: gs.Node) -> Lowering:
    """The lowering of a node's op. Raises KeyError for an op without one: the capability table refuses those first."""
    return LOWERINGS[f"{node.domain}::{node.op}" if node.domain else str(node.op)]
