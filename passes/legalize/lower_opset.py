"""Convert the graph to an older opset: all nodes or none.

For each node the definition of its op in the older opset is compared with the one in force. If they differ, a rule of
`passes/support/opset` writes the older form:

- an input becomes the attribute that it used to be (axes of reductions, Squeeze, Unsqueeze; sizes of Split);
- an attribute that the older op lacks is dropped if it is at its default, and a default that has changed is written;
- some ops are expanded: Softmax along an inner axis (before 13 it normalized over all axes from there on) is
  transposed, Shape with start or end is sliced, CastLike becomes Cast, Resize and Pad get one size or pad per axis,
  HardSwish, Mish, GreaterOrEqual and LessOrEqual become older ops.

Then the types, inputs and attributes of each new node are checked against the older definition.

A node without an older form is a skip with the reason, and then the whole graph stays as it is, since a graph has one
opset. Ops that the older opset does not have are expanded by the passes legalize-*, which run before this one.

Must not fire: a graph that is not newer than requested; axes, pads or splits that are computed at run time; a type,
mode or attribute without an older form; ops that an older opset writes alike but defines differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import FORM_RULES, LEGALIZED, PORTABLE, RECENT_OPSET
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable
from segc.passes.support.edit import Names
from segc.passes.support.opset import arithmetic, movement, sampling
from segc.passes.support.opset.older_node import OlderNode, Rule, Site, first_opset, same_op, schema, why_invalid

DIALECT_BODIES = 15  # opset of the dialect's reference bodies
RULES: dict[str, Rule] = {**movement.RULES, **sampling.RULES, **arithmetic.RULES}


@dataclass
class Plan:
    """The older form of one node: `older` in place, or the nodes of `build`, the last of which makes `result`."""

    node: gs.Node
    build: Builder
    older: OlderNode | None = None
    result: gs.Tensor | None = None
    reason: str = ""  # why there is no older form

    @property
    def changes(self) -> bool:
        """Whether the older form differs from the node."""
        older, node = self.older, self.node
        if older is None:
            return True
        same_inputs = len(older.inputs) == len(node.inputs) and all(
            a is b for a, b in zip(older.inputs, node.inputs, strict=True)
        )
        return not same_inputs or older.op != node.op or older.attrs != dict(node.attrs)

    def apply(self) -> None:
        """Write the older form into the graph."""
        if self.result is not None:
            self.build.replace(self.result)
        elif self.older is not None:
            self.node.op, self.node.attrs, self.node.inputs = self.older.op, self.older.attrs, self.older.inputs


@dataclass(frozen=True)
class LowerOpset(Pass):
    """Convert the graph to an older opset, all nodes or none. opset: 11 or newer."""

    name: ClassVar[str] = "lower-opset"
    algebra: ClassVar[str] = "graph of opset n  ->  the same graph in an older opset, if every node has a form there"

    ensures: ClassVar[frozenset[str]] = frozenset({"opset lowered"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {RECENT_OPSET, PORTABLE, "types legalized", "logic legalized"}

    opset: int = field(default=13)

    def __post_init__(self) -> None:
        """Refuse opsets that this pass has no rules for; require that no op is left that the opset lacks."""
        if self.opset < 11:
            raise ValueError(f"opset {self.opset} is older than 11, the oldest that segc writes")
        newer = {f"no {op}" for op in LEGALIZED if first_opset(op) > self.opset}
        forms = {"arithmetic legalized", "types legalized"} if self.opset < 13 else set()
        object.__setattr__(self, "requires", Pass.requires | newer | forms)

    def run(self, graph: gs.Graph) -> PassResult:
        """Plan all nodes, then apply all plans or none."""
        result = PassResult()
        if graph.opset <= self.opset:
            return result
        names = Names(graph)
        plans = [plan for node in ir.nodes(graph) if (plan := self._plan(graph, node, names)) is not None]
        top_level = {id(node) for node in graph.nodes}
        for plan in plans:
            if not plan.reason and plan.result is not None and id(plan.node) not in top_level:
                plan.reason = f"{plan.node.op} in a subgraph would become several nodes"
        if failed := [plan for plan in plans if plan.reason]:
            for plan in plans:
                plan.build.discard()
            for plan in failed:
                result.skip(plan.node, plan.reason)
            return result
        for plan in plans:
            result.changes += plan.changes
            plan.apply()
        ir.set_opset(graph, self.opset)
        result.changes += 1
        return result

    def _plan(self, graph: gs.Graph, node: gs.Node, names: Names) -> Plan | None:
        """The plan for a node, None if it can stay as it is."""
        build = Builder(graph, node, names)
        build.opset = self.opset
        plan = Plan(node, build)
        if node.domain:
            if node.domain == dialect.DOMAIN and self.opset < DIALECT_BODIES:
                plan.reason = f"segc.{node.op} has no body in opset {self.opset}; lower it first"
            return plan if plan.reason else None
        newer, older = schema(node.op, graph.opset), schema(node.op, self.opset)
        if newer is None:
            plan.reason = f"{node.op} is unknown in opset {graph.opset}"
            return plan
        if older is not None and older.since_version == newer.since_version:
            return None
        try:
            _fill(plan, RULES.get(node.op, same_op)(Site(node, self.opset, newer, older, build)))
        except RewriteNotApplicable as why:
            plan.reason = str(why)
        return plan


def _fill(plan: Plan, form: OlderNode | gs.Tensor) -> None:
    """Check the form that a rule returned against the older definitions, and store it in the plan.

    Raises RewriteNotApplicable.
    """
    opset = plan.build.opset
    if isinstance(form, OlderNode):
        plan.older = form
        nodes = [(form, plan.node.outputs)]
    else:
        plan.result = form
        nodes = [(OlderNode(n.op, dict(n.attrs), list(n.inputs)), n.outputs) for n in plan.build.nodes]
    for node, outputs in nodes:
        definition = schema(node.op, opset)
        why = f"there is no {node.op}" if definition is None else why_invalid(definition, node.op, node, outputs)
        if why is not None:
            raise RewriteNotApplicable(f"in opset {opset} {why}")
