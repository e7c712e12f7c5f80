"""Split a graph that its target refuses in part; load the segments and summarize the split for the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs

from segc.bundle.manifest import hybrid_text
from segc.graph import ir
from segc.hybrid.costs import Shape
from segc.hybrid.emit import model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.plan import Plan, Segment, host_accepts, plan
from segc.isolation.session import IsolatedSession
from segc.legality import node_legality, report
from segc.parity.ort_stand_in import stand_in
from segc.passes.base import Skip
from segc.pipeline.buckets import specialize
from segc.runtime.hybrid_session import HybridSession, step
from segc.targets.protocol import Session
from segc.targets.target import Target

_log = logging.getLogger(__name__)


def split_graph(
    graph: gs.Graph,
    target: Target,
    host: Target,
    options: Partitioning | None,
    image: tuple[int, int, int],
    skips: Mapping[str, Sequence[Skip]],
) -> Plan | None:
    """The plan for a graph that the target runs in part; None where it runs all of it.

    options: None forbids a split. image: the (N, H, W) at which work and bytes are estimated. skips: by pass, the sites
    it left alone. Raises LegalityError where a split is forbidden, impossible or not worthwhile.
    """
    if not (refused := report.refusals(graph, target)):
        return None
    if options is None:
        way_out = "omit --no-hybrid: ONNX Runtime then runs the nodes that the target refuses"
        raise report.refusal(target, refused, skips, so=[way_out])
    _log.info("%s refuses %d kinds of nodes; planning which of them ONNX Runtime runs", target.name, len(refused))
    ir.infer_shapes(graph)
    result = plan(graph, target, host, options, nominal_shapes(graph, image))
    if not result.segments:
        share = f"{target.name} would do {result.share:.1%} of the work, a split needs {options.min_share:.0%}"
        tried = [f"hybrid: {line}" for line in (*result.kept_on_host, share)]
        raise report.refusal(target, refused, skips, tried=tried)
    host_nodes = [node for segment in result.segments if segment.on_host for node in segment.nodes]
    if unsupported := [node.op for node in host_nodes if not host_accepts(host, node)]:
        neither = f"hybrid: {host.name} does not run {', '.join(dict.fromkeys(unsupported))} either"
        raise report.refusal(target, refused, skips, tried=[neither])
    return replace(result, segments=tuple(_with_segment_passes(graph, segment) for segment in result.segments))


def _with_segment_passes(graph: gs.Graph, segment: Segment) -> Segment:
    """The segment after its target's passes for segments. Raises LegalityError where the target refuses the result."""
    target = segment.target
    if not target.segment_passes:
        return segment
    segment_graph = node_legality.subgraph(graph, segment.nodes, segment.inputs, segment.outputs)
    skips = {"segment": node_legality.run_segment_passes(segment_graph, target)}
    if refused := report.refusals(segment_graph, target):
        tried = ["hybrid: each node is supported on its own, but not in one segment"]
        raise report.refusal(target, refused, skips, tried=tried)
    return replace(segment, graph=segment_graph)


def nominal_shapes(graph: gs.Graph, image: tuple[int, int, int]) -> dict[str, Shape]:
    """Shapes of a dynamic graph's tensors for an image of this (N, H, W), by name; empty where it cannot have it.

    Empty for a static graph too. Cost: one specialization of a copy that shares the weights.
    """
    if all(ir.static_shape(t) is not None for node in graph.nodes for t in node.outputs if not t.is_empty()):
        return {}
    try:
        (fixed,) = specialize(graph, [image])
    except ValueError:
        return {}
    tensors = fixed.tensors().items()
    return {name: shape for name, tensor in tensors if (shape := ir.static_shape(tensor)) is not None}


def session_of(
    graph: gs.Graph, plan: Plan, directory: Path, written: Sequence[Mapping[str, Any]], threads: int, *, stand_ins: bool
) -> Session:
    """Load segments. written: what `segc.hybrid.emit.emit` returned. threads: 0 lets each runtime choose.

    stand_ins: ONNX Runtime runs the graphs of engines that cannot run on this machine.
    """
    steps = []
    for index, (segment, entry) in enumerate(zip(plan.segments, written, strict=True)):
        inputs, outputs = ([t.name for t in tensors] for tensors in (segment.inputs, segment.outputs))
        target, name = segment.target, f"segment {index} ({segment.target.name})"
        if stand_ins and not segment.on_host:
            steps.append(step(name, True, stand_in(model_of(graph, segment), threads), inputs, outputs))
            continue
        folder, options = directory / entry["directory"], entry["options"]
        isolated = target.isolated and not segment.on_host
        session = (
            IsolatedSession(target.name, folder, options, threads)
            if isolated
            else target.load(folder, options, threads)
        )
        steps.append(step(name, target.multi_io, session, inputs, outputs))
    return HybridSession(steps, graph.inputs[0].name, graph.outputs[0].name)


def plan_summary(graph: gs.Graph, target: Target, plan: Plan) -> dict[str, Any]:
    """The report's entry about a split: the number of segments, and which nodes the host runs and why."""
    return {
        "summary": hybrid_text(len(plan.segments), plan.host_nodes),
        "segments": len(plan.segments),
        "host_nodes": plan.host_nodes,
        "target_share": round(plan.share, 4),
        "refused": [r.counted for r in report.refusals(graph, target)],
        "moved": list(plan.kept_on_host),
    }
