"""Let onnxsim simplify the graph, and believe it only after a check.

g  ->  onnxsim(g) where that differs in structure, has no more nodes than g, and computes the same. onnxsim sees the
graph without its weights (they are inputs of their type), so its time does not depend on the model's size, and it
never copies or duplicates a weight. It works in a process of its own: its native code ends the process on some graphs.

The check runs what onnxsim changed, and only that: nodes that stand in both graphs are taken away, the tensors between
them and the rest are fed alike with random numbers, and what the rest hands on must be equal. Nodes that stand in both
compute the same from the same, so the whole graphs agree. Where the part cannot be run alone (a size or an integer
that only the rest of the graph knows) or differs (it may count on what comes in, such as a Relu in front of a Relu),
both graphs are run as a whole, and that decides.

Must not fire: when onnxsim fails, adds nodes, stores more constants than it removes by over 1 MB, changes inputs or
outputs, or gives other numbers; and for graphs of more than `max_nodes` nodes, since onnxsim's own time grows with the
square of a chain's length. Then the graph stays as it was and the skip says why.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.errors import Code, MissingPackageError
from segc.graph import ir
from segc.graph.invariants import PORTABLE
from segc.isolation.supervisor import run_command
from segc.packages import install
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.support import evaluate, onnxsim_child, rebuild
from segc.passes.support.edit import SMALL
from segc.passes.support.onnxsim_child import canonical

SECONDS = 600.0  # for onnxsim, all rounds together
MEMORY = 16 << 30  # bytes of address space for onnxsim
ROUNDS = 4  # onnxsim may find more in its own result; after this many the rest is left
GROWTH = 1 << 20  # bytes of new constants that are let in
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}  # relative error, by the type of the outputs


class Failed(Exception):  # noqa: N818 - an answer, not a defect
    """onnxsim gave no graph; the message says why, in a line."""


@dataclass(frozen=True)
class Simplify(Pass):
    """Run onnxsim, guarded by a numeric comparison in ONNX Runtime.

    tolerance: largest relative error let through (largest difference over largest value); None takes 1e-5 for float32.
    max_nodes: larger graphs are left alone. Cost: a second for the process, and where something changed
    two runs of the nodes that changed, of the whole model at worst.
    """

    name: ClassVar[str] = "simplify"
    algebra: ClassVar[str] = "g  ->  onnxsim(g), if smaller and numerically equal in ONNX Runtime"
    requires: ClassVar[frozenset[str]] = Pass.requires | {
        PORTABLE,
        "constants folded",
        "identities removed",
        "batchnorms fused",
    }

    tolerance: float | None = None
    max_nodes: int = 5_000

    def run(self, graph: gs.Graph) -> PassResult:
        """Simplify, compare, and take over or leave."""
        result = PassResult()
        if len(graph.nodes) > self.max_nodes:
            result.skips.append(Skip("onnxsim", f"{len(graph.nodes)} nodes, at most {self.max_nodes} are tried"))
            return result
        if importlib.util.find_spec("onnxsim") is None:
            raise MissingPackageError("onnxsim is not installed", code=Code.RUNTIME_MISSING, so=install("simplify"))
        before = ir.weightless_model(graph, SMALL)
        try:
            after = simplified(before)
        except Failed as error:
            result.skips.append(Skip("onnxsim", f"onnxsim failed: {error}"))
            return result
        old, new = canonical(before), canonical(after)
        if old == new:
            return result
        candidate = rebuild.over(graph, after)
        unchanged = {name for name, computes in new.items() if old.get(name) == computes}
        if why := why_not(before, after) or self._differs(graph, candidate, unchanged):
            result.skips.append(Skip("onnxsim", why))
            return result
        result.changes = len(old.keys() | new.keys()) - len(unchanged)
        rebuild.take_over(graph, candidate, unchanged, made_by=self.name)
        ir.infer_shapes(graph)
        return result

    def _differs(self, graph: gs.Graph, candidate: gs.Graph, unchanged: set[str]) -> str | None:
        """The reason why `candidate` may not replace `graph`, from running what changed, or else everything."""
        parts = changed_parts(graph, candidate, unchanged)
        if parts is not None:
            try:
                feeds = evaluate.random_inputs(parts[0])
                if self._compared(*(evaluate.outputs(part, feeds) for part in parts)) is None:
                    return None
            except evaluate.CannotRun:
                pass  # the part may count on what the rest of the graph feeds it
        try:
            feeds, want = runnable(graph)
            got = evaluate.outputs(candidate, feeds)
        except evaluate.CannotRun as error:
            return f"the check could not run: {error}"
        return self._compared(want, got)

    def _compared(self, want: evaluate.Arrays, got: evaluate.Arrays) -> str | None:
        """By how much the results differ, where that is too much."""
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = max((TOLERANCE.get(value.dtype.name, 0.0) for value in want.values()), default=0.0)
        error = evaluate.relative_error(want, got)
        return None if error <= tolerance else f"relative error {error:.2g} is over {tolerance:.2g}"


@dataclass
class Part:
    """The nodes of a graph that the other graph lacks, and the names of what they read from and hand to the rest."""

    nodes: list[gs.Node]
    reads: set[str]
    writes: set[str]


def changed_part(graph: gs.Graph, unchanged: set[str]) -> Part:
    """The nodes whose first output is not among `unchanged`."""
    nodes = [n for n in graph.nodes if n.outputs[0].name not in unchanged]
    mine = {id(n) for n in nodes}
    written = {t.name: t for n in nodes for t in n.outputs if not t.is_empty()}
    last = {t.name for t in graph.outputs}
    reads = {t.name for n in nodes for t in n.inputs if isinstance(t, gs.Variable) and t.name and t.name not in written}
    writes = {name for name, t in written.items() if name in last or any(id(u) not in mine for u in t.outputs)}
    return Part(nodes, reads, writes)


def changed_parts(graph: gs.Graph, candidate: gs.Graph, unchanged: set[str]) -> tuple[gs.Graph, gs.Graph] | None:
    """What differs, as two graphs with equal inputs and outputs; None where it cannot stand alone."""
    old, new = changed_part(graph, unchanged), changed_part(candidate, unchanged)
    known = graph.tensors()
    if not old.writes or old.writes != new.writes or any(True for n in old.nodes + new.nodes for _ in n.subgraphs()):
        return None
    reads = sorted(old.reads | new.reads)
    for name in reads:
        tensor = known.get(name)
        if tensor is None or ir.static_shape(tensor) is None or np.dtype(tensor.dtype).kind not in "fb":
            return None
    borders = reads, sorted(old.writes)
    return _alone(graph, old.nodes, known, *borders), _alone(candidate, new.nodes, known, *borders)


def _alone(
    graph: gs.Graph, nodes: list[gs.Node], known: dict[str, gs.Tensor], reads: list[str], writes: list[str]
) -> gs.Graph:
    """A graph of these nodes, with the borders that both parts share; their types come from `known`."""
    mine = graph.tensors()
    for name in [*reads, *writes]:
        tensor = mine.setdefault(name, gs.Variable(name))
        if tensor is not known[name] and isinstance(tensor, gs.Variable):
            tensor.dtype, tensor.shape = known[name].dtype, known[name].shape
    made = gs.Graph(nodes, [mine[n] for n in reads], [mine[n] for n in writes], opset=graph.opset)
    made.ir_version, made.import_domains = graph.ir_version, graph.import_domains
    return made


def simplified(model: onnx.ModelProto, seconds: float = SECONDS, memory: int = MEMORY) -> onnx.ModelProto:
    """Apply onnxsim, in a process of its own, until it finds no more. Weights must be inputs already.

    Raises Failed with the reason in a line. seconds, memory in bytes: what the process may take.
    """
    with tempfile.TemporaryDirectory(prefix="segc-onnxsim-") as folder:
        source, out = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        source.write_bytes(model.SerializeToString())
        words = [sys.executable, "-P", onnxsim_child.__file__, str(source), str(out), str(ROUNDS), str(memory)]
        done = run_command(words, seconds)
        if done.code is None:
            raise Failed(f"it did not finish within {seconds:.0f} s")
        if done.code:
            raised = done.code == onnxsim_child.RAISED and done.last_lines
            raise Failed(done.last_lines[-1] if raised else f"its process ended with {done.reason}")
        return onnx.load_from_string(out.read_bytes())


def why_not(before: onnx.ModelProto, after: onnx.ModelProto) -> str | None:
    """What disqualifies `after` by its structure alone."""
    if len(after.graph.node) > len(before.graph.node):
        return f"{len(after.graph.node)} nodes instead of {len(before.graph.node)}"
    if [o.name for o in after.graph.output] != [o.name for o in before.graph.output]:
        return "the outputs changed"
    if not {i.name for i in after.graph.input} <= {i.name for i in before.graph.input}:
        return "the inputs changed"
    growth = _stored(after) - _stored(before)
    return f"{growth} bytes of new constants" if growth > GROWTH else None


def _stored(model: onnx.ModelProto) -> int:
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


def runnable(graph: gs.Graph) -> tuple[evaluate.Arrays, evaluate.Arrays]:
    """Random inputs that the graph accepts, and its outputs for them. Raises CannotRun with the last reason."""
    dynamic = any(ir.static_shape(t) is None for t in graph.inputs)
    sides = evaluate.SIDES if dynamic else evaluate.SIDES[:1]
    for side in sides:
        feeds = evaluate.random_inputs(graph, side)
        try:
            return feeds, evaluate.outputs(graph, feeds)
        except evaluate.CannotRun:
            if side == sides[-1]:
                raise
    raise AssertionError("SIDES is not empty")
