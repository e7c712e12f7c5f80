"""`segc.explain`: what a target's table says about an op, which passes serve it, and what becomes of one node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import targets
from segc.bundle.manifest import NAME
from segc.errors import Code, UsageError
from segc.frontend.source import is_onnx
from segc.suggestions import checked_keywords, did_you_mean

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from segc.bundle.manifest import Manifest
    from segc.pipeline.follow import Follow
    from segc.targets.target import Target

Ends = tuple[tuple[str, str | None], ...]  # what is left of a node, and why the target refuses it


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
    what: str,
    *,
    target: str | None = None,
    source: str | Path | None = None,
    shape: tuple[int, int] | None = None,
    checkpoint: str | Path | None = None,
) -> Explanation:
    """Explain an op such as "GridSample" on a target, or with `source` what becomes of a node there.

    what: an op, or the name of a node or of the tensor that it makes. source: what `segc.compile` takes, which the
    target's standard pipeline for logits runs on; or a bundle with a graph, whose target needs not be named. shape:
    (height, width) in pixels to trace it at, or to specialize a file to. checkpoint: of the source.
    Raises UsageError for what is neither, BundleError, FileError, SourceError, and what tracing raises.
    """
    if source is not None and (Path(source) / NAME).is_file():
        return _of_bundle(what, target, Path(source))
    if target is None:
        raise UsageError(
            "explain needs a target", code=Code.CONFLICTING_OPTIONS,
            because="only a bundle says itself which it is for", so="--target T; segc targets lists them",
        )  # fmt: skip
    if source is None:
        return _of_op(_op(what), target)
    if is_onnx(source):
        hook, legal = _followed(what, target, Path(source), shape)
    else:
        hook, legal = _traced(what, target, source, shape, checkpoint)
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
            so=[did_you_mean(name, known), "for a node, give the model or the bundle that holds it: --source SOURCE"],
        )  # fmt: skip
    return spelled[name.lower()]


def _followed(what: str, target: str, source: Path, shape: tuple[int, int] | None) -> tuple[Follow, Ends]:
    """Run the target's pipeline on the file, and ask the table about what is left of the node."""
    from segc.commands.optimize import build, read
    from segc.compilation.guarded import guarded_libraries
    from segc.graph.raise_opset import raise_opset
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
        return hook, _judged(hook, graph, targets.get(target))


def _traced(
    what: str, target: str, source: str | Path, shape: tuple[int, int] | None, checkpoint: str | Path | None
) -> tuple[Follow, Ends]:
    """Trace a source, run the target's pipeline on it as a compile does, and ask the table about what is left."""
    from segc.compilation import steps
    from segc.compilation.request import Request
    from segc.pipeline.follow import Follow

    request = Request(source, target=target, shape=shape, checkpoint=checkpoint, output="logits", verify=False)
    hook = Follow(what)
    lowered = steps.lower(steps.export(steps.open_source(steps.set_up(request))), watching=[hook])
    return hook, _judged(hook, lowered.graph, lowered.setup.target)


def _judged(hook: Follow, graph: gs.Graph, target: Target) -> Ends:
    """What is left of a followed node, in the graph's order, each with the reason why the target refuses it."""
    from segc.legality.node_legality import NodeLegality

    legality, place = NodeLegality(graph, target), {id(n): at for at, n in enumerate(graph.nodes)}
    hook.nodes.sort(key=lambda node: place[id(node)])
    return tuple((f"{node.op} '{node.name}'", legality.why_not(node)) for node in hook.nodes)


def _of_bundle(what: str, target: str | None, path: Path) -> Explanation:
    """What the compile of a bundle did with a node: from its report, and from the graph that it keeps.

    Raises UsageError where the bundle is for another target, keeps no graph, or has no such node.
    """
    import onnx

    from segc.bundle.report import read_report
    from segc.bundle.store import read_bundle
    from segc.graph import ir, source_info
    from segc.pipeline.follow import find

    manifest = read_bundle(path)
    if target not in (None, manifest.target.name):
        raise UsageError(
            f"'{path}' is for {manifest.target.name}, not {target}", code=Code.CONFLICTING_OPTIONS,
            so="omit --target, or give the source",
        )  # fmt: skip
    kept = next((name for name in ("final.onnx", "model.onnx") if name in manifest.files), None)
    if kept is None:
        raise UsageError(
            f"'{path}' keeps no graph", code=Code.UNSUPPORTED_BY_TARGET,
            because=f"the files of {manifest.target.name} have no nodes", so="compile with --keep-onnx",
        )  # fmt: skip
    graph = ir.from_model(onnx.load(path / kept))
    node, report = find(graph, what), read_report(path)
    origin = source_info.of(node)
    said = [f"{skip['pass']} left it alone: {skip['reason']}" for skip in report["skips"] if skip["node"] == node.name]
    if origin.made_by:
        said.insert(0, f"{origin.made_by} made it")
    if report["hybrid"] is not None:
        refused = [line for line in report["hybrid"]["refused"] if node.op in line.replace(":", " ").split()]
        said += [f"{report['hybrid']['summary']}: {line}" for line in refused]
    op = f"{node.domain}::{node.op}" if node.domain else str(node.op)
    fate = Fate(f"{op} '{node.name}' in {kept}, {origin}", tuple(said), ((f"{op} '{node.name}'", None),))
    configured = _configured(manifest)
    why = None if manifest.segments else configured.why_not(node)
    return _of_op(op, manifest.target.name, replace(fate, end=((fate.end[0][0], why),)))


def _configured(manifest: Manifest) -> Target:
    """The target with the settings of a bundle."""
    from segc.targets.protocol import Settings

    plain = targets.get(manifest.target.name)
    return plain.configure(plain, Settings(precision=manifest.precision, options=manifest.target.settings))


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
