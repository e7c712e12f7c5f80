"""Find the smallest part of a graph that a runtime computes wrongly, or fails on.

First the graph is cut after a node halfway, then after one halfway through what is left, until the first value that the
runtime gets wrong is found. Then the node of that value is tried alone, on the numbers that ONNX Runtime gives it, and
with more and more of the nodes before it, until the runtime is wrong again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from segc.errors import Code, SegcError
from segc.graph import libraries
from segc.isolation import native
from segc.isolation.supervisor import ChildEnded, ChildRaised, call
from segc.runtime.ort import outputs_of
from segc.targets import registry
from segc.targets.protocol import Settings
from segc.targets.target import Target

LIMIT = 1e-3  # of the greatest number, or of the pixels of a mask: what counts as wrong
SECONDS = 60.0  # for one answer of a runtime
MOST = 8  # nodes of a pattern
Array = np.ndarray
Run = Callable[[onnx.ModelProto, Array], Array]
Kind = Literal["wrong", "crash", "hang", "refusal"]
_WORDS = {"wrong": "another shape", "crash": "a crash", "hang": "no answer", "refusal": "a refusal"}


class Failed(Exception):  # noqa: N818 - an answer that the search looks for
    """What a runtime did in place of an answer. words: of the runtime, or how its process ended."""

    def __init__(self, kind: Kind, words: Sequence[str]) -> None:
        super().__init__("; ".join(words))
        self.kind, self.words = kind, list(words)


@dataclass(frozen=True)
class Fault:
    """What a runtime does to a model. error: relative to the greatest number; infinite without comparable numbers.

    words: what the runtime said.
    """

    kind: Kind
    error: float = np.inf
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """How it differs, in a few words."""
        return f"relative error {self.error:.1e}" if np.isfinite(self.error) else _WORDS[self.kind]


@dataclass(frozen=True)
class Pattern:
    """The smallest part that is wrong. model: its one input is `x`; whatever else it reads is constant in it.

    alone: False if only the whole graph up to there is wrong, and `model` is that.
    """

    model: onnx.ModelProto
    x: Array
    value: str
    fault: Fault
    alone: bool

    @property
    def error(self) -> float:
        """Relative to the greatest number; infinite for a crash or another shape."""
        return self.fault.error

    @property
    def words(self) -> str:
        """Ops, size and error, in a line."""
        ops = [node.op_type for node in self.model.graph.node]
        size = "x".join(map(str, self.x.shape))
        if self.alone:
            return f"the smallest pattern found: {', '.join(ops)} on {size} ('{self.value}', {self.fault})"
        return f"the first wrong value found: '{self.value}' of {ops[-1]}, which is right on its own ({self.fault})"


def in_child(target: Target, settings: Settings, threads: int, seconds: float = SECONDS) -> Run:
    """Emit and run models with `target`, each in a child process of its own. Raises Failed.

    seconds: after which the child is killed, and has hung.
    """

    def run(model: onnx.ModelProto, x: Array) -> Array:
        try:
            made: Array = call(_emitted, target.name, model.SerializeToString(), x, settings, threads, seconds=seconds)
        except ChildEnded as ended:
            raise Failed("hang" if ended.timed_out else "crash", [ended.reason, *ended.lines]) from ended
        except ChildRaised as raised:
            raise Failed("refusal", str(raised).splitlines()) from raised
        except SegcError as error:
            # a target whose `load` starts a child of its own says in this way how that ended
            ended_itself = error.code is Code.ENGINE_PROCESS
            raise Failed("crash" if ended_itself else "refusal", [error.what, *error.details["because"]]) from error
        return made

    return run


def _emitted(name: str, content: bytes, x: Array, settings: Settings, threads: int) -> Array:
    """In the child: emit, load and run."""
    plain = registry.get(name)
    target = plain.configure(plain, settings)
    model = onnx.ModelProto.FromString(content)
    del model.functions[:]  # for ONNX Runtime; the target has these ops
    with TemporaryDirectory() as folder:
        emitted = target.emit(model, Path(folder), settings)
        return np.asarray(target.load(Path(folder), emitted.options, threads).run(np.ascontiguousarray(x)))


def smallest_pattern(
    model: onnx.ModelProto,
    x: Array,
    run: Run,
    *,
    limit: float = LIMIT,
    seconds: float = 300.0,
    refusals: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    keep: Callable[[Pattern], None] = lambda _: None,
) -> Pattern | None:
    """The smallest part of `model` that `run` computes wrongly on the input `x`; None if no value is wrong.

    model: ONNX with one input, one output, and the bodies of ops that ONNX Runtime does not know. limit: relative
    error, or share of pixels, that counts as wrong. seconds: no new trial starts after them, and what was found until
    then is returned. refusals: if the runtime refuses the model, look for the part that it refuses; otherwise what it
    refuses is not judged.
    progress: called with what is ruled out. keep: called with each smaller part that is found on the way.
    """
    search = _Search(model, x, run, limit, time.monotonic() + seconds, refusals, progress, keep)
    first = search.first_wrong()
    return None if first is None else search.around(first)


Part = tuple[onnx.ModelProto, Array]


class _Search:
    def __init__(
        self, model: onnx.ModelProto, x: Array, run: Run, limit: float, end: float, refusals: bool,
        progress: Callable[[str], None], keep: Callable[[Pattern], None],
    ) -> None:  # fmt: skip
        self.model = libraries.infer_shapes(model)
        self.x, self.run, self.limit, self.end, self.progress, self.keep = x, run, limit, end, progress, keep
        graph = self.model.graph
        self.given = graph.input[0].name
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.made: dict[str, int] = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
        infos = (*graph.value_info, *graph.output)
        self.kinds: dict[str, int] = {i.name: i.type.tensor_type.elem_type for i in infos}
        last = graph.output[0].name if graph.output else ""
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        self.values: list[str] = [name for name in self.made if self.kinds.get(name) in floats and name != last]
        self.values += [last] if last in self.made else []
        self.right: dict[str, Array] = {}
        self.refused: str | None = None if refusals else ""  # the refusal that is looked for; "" for none

    def first_wrong(self) -> str | None:
        """Bisect: a value that is wrong although one before it is right."""
        low, high = -1, len(self.values) - 1
        fault = self._fault(whole := self._prefix(self.values[high])) if high >= 0 else None
        if fault is None:
            return None
        self.refused = self._text(fault) if fault.kind == "refusal" else ""
        self.keep(Pattern(*whole, self.values[high], fault, alone=False))
        while high - low > 1 and time.monotonic() < self.end:
            middle = (low + high) // 2
            nearest = sorted(range(low + 1, high), key=lambda at: abs(at - middle))
            for at in nearest[:MOST]:
                part = self._prefix(self.values[at])
                judged, fault = self._judged(part)
                if judged:
                    low, high = (at, high) if fault is None else (low, at)
                    self.progress(self._ruled_out(low, high))
                    if fault is not None:
                        self.keep(Pattern(*part, self.values[high], fault, alone=False))
                    break
            else:
                break  # no value near the middle can be cut off
        return self.values[high]

    def _ruled_out(self, low: int, high: int) -> str:
        count, node = len(self.values), self.model.graph.node[self.made[self.values[high]]]
        right = f"right up to value {low + 1} of {count}; " if low >= 0 else ""
        return f"{right}wrong at value {high + 1} of {count}, '{self.values[high]}' of {node.op_type}"

    def around(self, value: str) -> Pattern:
        """Grow backwards from the node that makes a value until the part is wrong, then drop what need not be there."""
        for nodes in self._growing(value):
            if time.monotonic() > self.end or len(nodes) > MOST:
                break
            part = self._part(nodes, value)
            if part is not None and (fault := self._fault(part)) is not None:
                return self._smaller(nodes, Pattern(*part, value, fault, alone=True))
            self.progress(f"right on its own: {', '.join(self.model.graph.node[at].op_type for at in nodes)}")
        whole = self._prefix(value)
        return Pattern(*whole, value, self._fault(whole) or Fault("wrong"), alone=False)

    def _smaller(self, nodes: Sequence[int], found: Pattern) -> Pattern:
        kept = list(nodes)
        self.keep(found)
        for node in sorted(nodes)[:-1]:
            fewer = [other for other in kept if other != node]
            smaller = self._part(fewer, found.value) if time.monotonic() < self.end else None
            if smaller is not None and (fault := self._fault(smaller)) is not None:
                kept, found = fewer, Pattern(*smaller, found.value, fault, alone=True)
                self.keep(found)
        return found

    def _growing(self, value: str) -> Iterator[list[int]]:
        """The node of a value, then with one more of the nodes before it at a time, the nearest first."""
        nodes, waiting = [], [self.made[value]]
        while waiting:
            at = waiting.pop(0)
            if at in nodes:
                continue
            nodes.append(at)
            yield sorted(nodes)
            waiting += [self.made[name] for name in self.model.graph.node[at].input if name in self.made]

    def _prefix(self, value: str) -> Part:
        """The graph up to a value."""
        needed, waiting = set[int](), [self.made[value]]
        while waiting:
            at = waiting.pop()
            if at not in needed:
                needed.add(at)
                waiting += [self.made[name] for name in self.model.graph.node[at].input if name in self.made]
        return self._model(sorted(needed), value, self.model.graph.input[0], {}), self.x

    def _part(self, nodes: Sequence[int], value: str) -> Part | None:
        """Some nodes as a model. Its input is the greatest float that they read; the others become constants."""
        graph = self.model.graph
        inside = {name for at in nodes for name in graph.node[at].output}
        if value not in inside or not all(self._is_used(at, nodes, value) for at in nodes):
            return None
        read = dict.fromkeys(name for at in nodes for name in graph.node[at].input if name)
        outside = [name for name in read if name not in inside and name not in self.constants]
        known = self._known(outside)
        floats = [name for name in outside if known[name].dtype == np.float32 and known[name].ndim]
        if not floats:
            return None
        given = max(floats, key=lambda name: known[name].size)
        x = known.pop(given)
        info = onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, x.shape)
        return self._model(nodes, value, info, known), x

    def _is_used(self, at: int, nodes: Sequence[int], value: str) -> bool:
        """Whether something in the part reads the node, or it makes the value."""
        outputs = set(self.model.graph.node[at].output)
        return value in outputs or any(outputs & set(self.model.graph.node[other].input) for other in nodes)

    def _known(self, names: Sequence[str]) -> dict[str, Array]:
        """What ONNX Runtime computes for values."""
        if missing := [name for name in names if name not in self.right and name != self.given]:
            model = onnx.ModelProto.FromString(self.model.SerializeToString())
            del model.graph.output[:]
            model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in missing)
            self.right |= native.call(outputs_of, model.SerializeToString(), {self.given: self.x})
        return {name: self.x if name == self.given else self.right[name] for name in names}

    def _model(
        self, nodes: Sequence[int], value: str, given: onnx.ValueInfoProto, constants: Mapping[str, Array]
    ) -> onnx.ModelProto:
        chosen = [self.model.graph.node[at] for at in nodes]
        read = {name for node in chosen for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in read]
        kept += [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        kind = self.kinds.get(value) or onnx.TensorProto.FLOAT
        result = onnx.helper.make_tensor_value_info(value, kind, None)
        graph = onnx.helper.make_graph(chosen, "part", [given], [result], kept)
        imports = list(self.model.opset_import)
        made = onnx.helper.make_model(graph, opset_imports=imports, ir_version=self.model.ir_version)
        ops = {(node.domain, node.op_type) for node in chosen}
        made.functions.extend(each for each in self.model.functions if (each.domain, each.name) in ops)
        return libraries.infer_shapes(made)

    def _fault(self, part: Part) -> Fault | None:
        """What is wrong with a part; None if nothing is, or it cannot be judged."""
        return self._judged(part)[1]

    def _judged(self, part: Part) -> tuple[bool, Fault | None]:
        """Whether the part can be judged, and what is wrong with it."""
        model, x = part
        try:
            (want,) = native.call(outputs_of, model.SerializeToString(), {model.graph.input[0].name: x}).values()
        except Exception:  # it has one exception class for each reason
            return False, None
        try:
            got = self.run(model, x)
        except SegcError as error:
            kind: Kind = "crash" if error.code is Code.ENGINE_PROCESS else "refusal"
            return self._failed(Fault(kind, words=(error.what, *error.details["because"])))
        except Failed as failed:
            return self._failed(Fault(failed.kind, words=tuple(failed.words)))
        if self.refused:  # a refusal is looked for, and this is none
            return True, None
        if got.shape != want.shape:
            return True, Fault("wrong")
        if not np.isfinite(want).all():
            return False, None
        apart = difference(want, got)
        return True, None if apart <= self.limit else Fault("wrong", apart)

    def _failed(self, fault: Fault) -> tuple[bool, Fault | None]:
        """A refusal says nothing, unless it is the one that is looked for."""
        if fault.kind != "refusal":
            return True, fault
        sought = self.refused is None or (self.refused and self._text(fault) == self.refused)
        return (True, fault) if sought else (False, None)

    @staticmethod
    def _text(fault: Fault) -> str:
        """A refusal without names and numbers, which differ from part to part."""
        return re.sub(r"'[^']*'|\"[^\"]*\"|/\S*|\d+", "#", " ".join(fault.words))


def difference(want: Array, got: Array) -> float:
    """The largest difference of floats, relative to the greatest; of integers the share that differs."""
    if want.dtype.kind != "f":
        return float(np.mean(want != got))
    greatest = max(float(np.abs(want).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    apart = float(np.abs(got.astype(np.float64) - want).max(initial=0.0))
    return apart / greatest if np.isfinite(apart) else np.inf
