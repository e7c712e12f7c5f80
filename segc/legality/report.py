"""The nodes that a target refuses: all at once, grouped by reason, with the line of the model each comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.errors import Code, LegalityError
from segc.graph import ir, source_info
from segc.legality.node_legality import NodeLegality
from segc.passes.base import Skip
from segc.targets.target import Target

_MAX_SHOWN = 5  # nodes listed per reason


@dataclass(frozen=True)
class Refusal:
    """Nodes of one op that are refused for the same reason."""

    op: str
    reason: str
    nodes: tuple[gs.Node, ...]

    @property
    def counted(self) -> str:
        """The reason with the number of nodes."""
        return f"{self.reason}: {len(self.nodes)} node{'s' * (len(self.nodes) > 1)}"


def refusals(graph: gs.Graph, target: Target) -> list[Refusal]:
    """All refused nodes of the graph, subgraphs included, grouped by op and reason, in graph order."""
    legality, groups = NodeLegality(graph, target), dict[tuple[str, str], list[gs.Node]]()
    for node in legality.nodes:
        if reason := legality.why_not(node):
            groups.setdefault((node.op, reason), []).append(node)
    return [Refusal(op, reason, tuple(nodes)) for (op, reason), nodes in groups.items()]


def require_legal(graph: gs.Graph, target: Target, skips: Mapping[str, Sequence[Skip]] | None = None) -> None:
    """Raise LegalityError when the target refuses a node. skips: by pass, the sites it left alone, for 'tried'."""
    if groups := refusals(graph, target):
        raise refusal(target, groups, skips or {})


def refusal(
    target: Target, groups: Sequence[Refusal], skips: Mapping[str, Sequence[Skip]], *, tried: Sequence[str] = (),
    so: Sequence[str] = (),
) -> LegalityError:  # fmt: skip
    """The error for refused nodes. tried, so: further lines of the message."""
    refused = {node.name for group in groups for node in group.nodes}
    total = sum(len(group.nodes) for group in groups)
    skipped = [
        f"{name}: skipped '{s.node}', {s.reason}" for name, sites in skips.items() for s in sites if s.node in refused
    ]
    ops = ", ".join(dict.fromkeys(group.op for group in groups))
    return LegalityError(
        f"{target.name} cannot run {total} node{'s' * (total > 1)} of this model: {ops}",
        code=Code.UNSUPPORTED_NODES,
        because=[f"{group.counted} ({target.table})" for group in groups],
        where=[line for g in groups for line in _node_lines(g)],
        tried=[*skipped, *tried],
        so=[
            *so,
            f"change these lines of the model, add a legalization to {target.table}, or choose another target",
            f"segc explain {groups[0].op} --target {target.name} says what the target takes, and which passes help",
            "segc inspect shows the graph; segc compile --dump-ir DIR writes it after every pass",
        ],
    )


def refused_by_runtime(graph: gs.Graph, target: Target, refused: Sequence[tuple[str, str]]) -> LegalityError:
    """The error for nodes that the capability table accepts and the runtime refuses.

    refused: (the node's name, the runtime's message) of each.
    """
    by_name = {node.name: node for node in ir.nodes(graph)}
    nodes = [by_name[name] for name, _ in refused if name in by_name]
    ops = ", ".join(dict.fromkeys(node.op for node in nodes))
    return LegalityError(
        f"{target.name} refuses {len(refused)} node{'s' * (len(refused) > 1)} of this model{': ' * bool(ops)}{ops}",
        code=Code.REFUSED_BY_BUILDER,
        because=list(dict.fromkeys(reason for _, reason in refused)),
        where=[f"{node.op} '{node.name}': {_input_text(node)}, {source_info.of(node)}" for node in nodes[:_MAX_SHOWN]],
        so=f"change these lines of the model, add a legalization to {target.table}, or choose another target",
    )


def _node_lines(group: Refusal) -> list[str]:
    lines = [
        f"{node.op} '{node.name}': {_input_text(node)}, {source_info.of(node)}" for node in group.nodes[:_MAX_SHOWN]
    ]
    hidden = len(group.nodes) - _MAX_SHOWN
    return [*lines, f"... and {hidden} more {group.op}"] if hidden > 0 else lines


def _input_text(node: gs.Node) -> str:
    if not node.inputs or node.inputs[0].dtype is None:
        return "input of unknown type"
    x = node.inputs[0]
    shape = "?" if x.shape is None else ",".join("?" if s is None else str(s) for s in x.shape)
    return f"input {x.dtype}[{shape}]"
