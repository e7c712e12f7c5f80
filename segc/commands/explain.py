"""`segc.explain`: what a target's table says about an op, which passes serve it, and what becomes of one node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import targets
from segc.errors import Code, UsageError
from segc.suggestions import checked_keywords, did_you_mean

if TYPE_CHECKING:
    from segc.pipeline.follow import Follow


@dataclass(frozen=True)
class Rewrite:
    """A pass of the target's pipeline that names the op on the left of its algebra. stage: where it runs."""

    stage: str
    name: str
    algebra: str


@dataclass(frozen=True)
class Fate:
    """What became of a node. what: it, and where it comes from. events: what each pass did, in order.

    end: the nodes that are left of it, each with the reason why the target refuses it, or None.
    """

    what: str
    events: tuple[str, ...]
    end: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Explanation:
    """What is known of an op on a target. table: the file that says so.

    listed: whether the target has the op at all; accepted: what a node must fulfil; rewrites: passes that put other
    nodes in its place; others: targets that have the op. node: what became of a node of it, if one was asked about.
    """

    op: str
    target: str
    table: str
    listed: bool
    accepted: tuple[str, ...]
    rewrites: tuple[Rewrite, ...]
    others: tuple[str, ...]
    node: Fate | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@checked_keywords
def explain(
    what: str, *, target: str, source: str | Path | None = None, shape: tuple[int, int] | None = None
) -> Explanation:
    """Explain an op such as "GridSample" on a target, or with `source` what becomes of a node there.

    what: an op, or the name of a node or of the tensor that it makes. source: an ONNX file, which the target's standard
    pipeline for logits runs on; shape: (height, width) in pixels to specialize it to. Raises UsageError for what is
    neither, FileError, SourceError.
    """
    if source is None:
        return _of_op(_op(what), target)
    hook, legal = _followed(what, target, Path(source), shape)
    return _of_op(hook.first, target, Fate(hook.what, tuple(hook.lines()), legal))


def _of_op(op: str, target: str, node: Fate | None = None) -> Explanation:
    from segc.targets.checks import condition

    asked = targets.get(target)
    checks = asked.ops.get(op)
    others = [name for name in targets.names() if name != target and op in targets.get(name).ops]
    accepted = tuple(dict.fromkeys(condition(check) for check in checks or ()))
    return Explanation(
        op, target, asked.table, checks is not None, accepted, _rewrites(op, target), tuple(others), node
    )


def _rewrites(op: str, target: str) -> tuple[Rewrite, ...]:
    """The passes of the target's pipeline whose algebra has the op on its left side."""
    from segc.pipeline import stages

    pipeline = stages.standard(targets.get(target), shape=(1, 512, 512), mask=True, threshold=0.5)
    word = re.compile(rf"\b{re.escape(op.rsplit('::', 1)[-1])}\b")
    found = {
        entry.step.name: Rewrite(entry.stage, entry.step.name, entry.step.algebra)
        for entry in reversed(pipeline.entries)  # of several runs of a pass the first
        if any(word.search(rule.split("->")[0]) for rule in entry.step.algebra.split(";"))
    }
    return tuple(reversed(found.values()))


def _op(name: str) -> str:
    """The op as the tables spell it. Raises UsageError."""
    import onnx.defs

    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    known |= {op for target in targets.names() for op in targets.get(target).ops}
    spelled = {op.lower(): op for op in sorted(known)}
    if name.lower() not in spelled:
        raise UsageError(
            f"there is no op '{name}'", code=Code.UNKNOWN_NAME,
            because="it is in no target's table and not in ONNX",
            so=[did_you_mean(name, known), "for a node, give the ONNX file that holds it: --source FILE.onnx"],
        )  # fmt: skip
    return spelled[name.lower()]


def _followed(
    what: str, target: str, source: Path, shape: tuple[int, int] | None
) -> tuple[Follow, tuple[tuple[str, str | None], ...]]:
    """Run the target's pipeline on the file, and ask the table about what is left of the node."""
    from segc.commands.optimize import build, read
    from segc.compilation.guarded import guarded_libraries
    from segc.graph.raise_opset import raise_opset
    from segc.legality.node_legality import NodeLegality
    from segc.passes.support.newer_opsets import lower_newer
    from segc.pipeline.follow import Follow

    pipeline = build(target=target, shape=shape)
    with guarded_libraries(source, None, None):
        graph = read(source)
        hook = Follow(what)
        hook.start(graph)
        raise_opset(graph)
        lower_newer(graph, targets.get(target).opset)
        hook.settle(graph, "opset")
        try:
            pipeline.run(graph, [hook])
        except ValueError as error:
            raise UsageError("a pass refuses this graph", code=Code.PASS_REFUSES, because=str(error)) from error
        legality, place = NodeLegality(graph, targets.get(target)), {id(n): at for at, n in enumerate(graph.nodes)}
        hook.nodes.sort(key=lambda node: place[id(node)])
        return hook, tuple((f"{node.op} '{node.name}'", legality.why_not(node)) for node in hook.nodes)


def text_of(found: Explanation) -> str:
    """The explanation as `segc explain` prints it."""
    lines = [f"{found.op} on {found.target} ({found.table})"]
    if not found.listed:
        lines.append("  refused: the target has no such op")
    elif found.accepted:
        lines += ["  accepted where:", *(f"    {words}" for words in found.accepted)]
    else:
        lines.append("  accepted without conditions")
    lines += _part("passes of its pipeline that rewrite it:", [f"{r.name}: {r.algebra}" for r in found.rewrites])
    lines += _part("targets that have it too:" if found.listed else "targets that have it:", [", ".join(found.others)])
    if found.node is not None:
        lines += ["", found.node.what, *_part("what happened to it:", found.node.events or ["no pass changed it"])]
        lines += _part("what is left of it:", _ends(found.node) or ["nothing"])
    return "\n".join(lines)


def _ends(fate: Fate) -> list[str]:
    """Refused nodes one by one with the reason; accepted ones counted by op, a single one by name."""
    refused = [f"{what}: refused, {why}" for what, why in fate.end if why is not None]
    accepted = [what for what, why in fate.end if why is None]
    if len(accepted) < 2:
        return [*refused, *(f"{what}: accepted" for what in accepted)]
    ops = Counter(what.split()[0] for what in accepted)
    counted = ", ".join(f"{count} {op}" for op, count in ops.most_common())
    return [*refused, f"{len(accepted)} nodes that are accepted: {counted}"]


def _part(title: str, lines: Sequence[str]) -> list[str]:
    shown = [line for line in lines if line]
    return [f"  {title}", *(f"    {line}" for line in shown)] if shown else []
