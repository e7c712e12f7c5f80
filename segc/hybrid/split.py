"""What a compile does with a graph that its target refuses in part: split it, write it, load it, and say so."""

from __future__ import annotations

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
from segc.passes.inputs.specialize_shapes import specialize
from segc.runtime.hybrid_session import HybridSession, step
from segc.targets.protocol import Session
from segc.targets.target import Target


def split(
    graph: gs.Graph,
    target: Target,
    host: Target,
    options: Partitioning | None,
    image: tuple[int, int, int],
    skips: Mapping[str, Sequence[Skip]],
) -> Plan | None:
    """The plan of a graph that the target runs in part; None where it runs all of it.

    options: None allows no split. image: (N, H, W) that work and bytes are estimated at. skips: what passes left alone.
    Raises LegalityError where no split is allowed, possible or worthwhile.
    """
    if not (refused := report.refusals(graph, target)):
        return None
    if options is None:
        leave = "leave --no-hybrid away: ONNX Runtime then runs what the target refuses"
        raise report.refusal(target, refused, skips, so=[leave])
    ir.infer_shapes(graph)
    made = plan(graph, target, host, options, nominal_shapes(graph, image))
    if not made.segments:
        little = f"{target.name} would do {made.share:.1%} of the work, a split needs {options.min_share:.0%}"
        raise report.refusal(target, refused, skips, tried=[f"hybrid: {line}" for line in (*made.moved, little)])
    hosted = [node for segment in made.segments if segment.on_host for node in segment.nodes]
    if stuck := [node.op for node in hosted if not host_accepts(host, node)]:
        neither = f"hybrid: {host.name} does not run {', '.join(dict.fromkeys(stuck))} either"
        raise report.refusal(target, refused, skips, tried=[neither])
    return replace(made, segments=tuple(_spelled(graph, segment) for segment in made.segments))


def _spelled(graph: gs.Graph, segment: Segment) -> Segment:
    """The segment as its target's files want it. Raises LegalityError where it has no legal form there."""
    target = segment.target
    if segment.on_host or not target.segment_passes:
        return segment
    form = node_legality.part_of(graph, segment.nodes, segment.inputs, segment.outputs)
    skips = {"segment": node_legality.spell(form, target)}
    if refused := report.refusals(form, target):  # each node alone was legal: what is together is not
        raise report.refusal(target, refused, skips, tried=["hybrid: these nodes are legal alone, not side by side"])
    return replace(segment, form=form)


def nominal_shapes(graph: gs.Graph, image: tuple[int, int, int]) -> dict[str, Shape]:
    """Sizes of the tensors of a dynamic graph when its image has this (N, H, W); none where it cannot have it.

    Cost: one specialization of a copy that shares the weights; nothing for a static graph.
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
    """The segments `written` (see `emission.emit`), loaded.

    stand_ins: ONNX Runtime takes the place of engines that cannot run here, on the graphs they were made from.
    """
    steps = []
    for at, (segment, told) in enumerate(zip(plan.segments, written, strict=True)):
        inputs, outputs = ([t.name for t in tensors] for tensors in (segment.inputs, segment.outputs))
        target, name = segment.target, f"segment {at} ({segment.target.name})"
        if stand_ins and not segment.on_host:
            steps.append(step(name, True, stand_in(model_of(graph, segment), threads), inputs, outputs))
            continue
        folder, options = directory / told["directory"], told["options"]
        isolated = target.isolated and not segment.on_host
        session = (
            IsolatedSession(target.name, folder, options, threads)
            if isolated
            else target.load(folder, options, threads)
        )
        steps.append(step(name, target.multi_io, session, inputs, outputs))
    return HybridSession(steps, graph.inputs[0].name, graph.outputs[0].name)


def told(graph: gs.Graph, target: Target, plan: Plan) -> dict[str, Any]:
    """What the report says of a split: how many segments, what the host runs and why."""
    return {
        "summary": hybrid_text(len(plan.segments), plan.host_nodes),
        "segments": len(plan.segments),
        "host_nodes": plan.host_nodes,
        "target_share": round(plan.share, 4),
        "refused": [r.counted for r in report.refusals(graph, target)],
        "moved": list(plan.moved),
    }
