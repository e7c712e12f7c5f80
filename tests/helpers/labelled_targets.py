"""Targets that refuse nodes by name, and plans run segment by segment without ONNX Runtime's optimizations."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.hybrid.emit import model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.plan import Plan
from segc.parity.ort_stand_in import stand_in
from segc.runtime.hybrid_session import HybridSession, step
from segc.targets import Target
from segc.targets.onnxruntime.target import ONNXRUNTIME

ONE_IO = dataclasses.replace(ONNXRUNTIME.runtime, multi_io=False)
EVERYTHING = Partitioning(min_nodes=1, work_per_byte=0, min_share=0)


def refusing(names: Collection[str], **changes: Any) -> Target:
    """ONNX Runtime under another name, which refuses the nodes called so."""

    def check(node: gs.Node) -> str | None:
        return "it is on the list" if node.name in names else None

    ops = {op: (*checks, check) for op, checks in ONNXRUNTIME.ops.items()}
    return dataclasses.replace(ONNXRUNTIME, name="private", ops=ops, **changes)


def run_whole(graph: gs.Graph, x: np.ndarray) -> np.ndarray:
    return stand_in(ir.to_model(graph), 1).run(x)


def run_plan(graph: gs.Graph, plan: Plan, x: np.ndarray) -> np.ndarray:
    """All segments in ONNX Runtime, at the optimization level of `run_whole`."""
    steps = [
        step(str(at), True, stand_in(model_of(graph, s), 1), [t.name for t in s.inputs], [t.name for t in s.outputs])
        for at, s in enumerate(plan.segments)
    ]
    return HybridSession(steps, graph.inputs[0].name, graph.outputs[0].name).run(x)
