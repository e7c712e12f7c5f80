"""Inner tensors of two graphs: which belong together, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx.helper

from segc.comparing.matching import matched, nudged
from segc.diagnosis.states import unequal
from segc.graph.source_info import origins
from segc.isolation import native
from segc.pipeline.first_difference import difference
from segc.runtime.ort import outputs_of

Array = np.ndarray
Verdict = Literal["equal", "rounding", "differs", "another meaning"]
_LEAST = 1e-5  # relative error that sums in another order always explain
_TIMES = 20.0  # times what moving the input by its last bit does
_BYTES = 1 << 28  # of the tensors that are kept at once


@dataclass(frozen=True)
class TensorDiff:
    """A tensor of A and the one of B that belongs to it. origin: its torch line and module. error: relative to the
    greatest number of A's; infinite for other shapes. rounding: the error that rounding explains.

    verdict: "another meaning" for a tensor that differs although what is computed from it does not, such as the result
    of a Conv that took in a BatchNormalization.
    """

    a: str
    b: str
    op: str
    origin: str
    shape: tuple[int, ...]
    error: float
    rounding: float
    verdict: Verdict


def compared(a: onnx.ModelProto, b: onnx.ModelProto, x: Array) -> list[TensorDiff]:
    """All tensors that belong together, in B's order, on the input `x`. Raises what ONNX Runtime raises."""
    pairs = matched(a, b)
    origin = {**origins(a), **{name: each for name, each in origins(b).items() if str(each) != "unknown origin"}}
    ops = {name: node.op_type for node in b.graph.node for name in node.output}
    errors: dict[str, tuple[tuple[int, ...], float, float]] = {}
    for names in _batches(b, list(pairs)):
        was = _run(a, x, [pairs[name] for name in names])
        now = _run(b, x, names)
        moved = _run(a, nudged(x), [pairs[name] for name in names])
        for name in names:
            one, other = was[pairs[name]], now[name]
            rounded = max(_LEAST, _TIMES * _error(one, moved[pairs[name]]))
            errors[name] = (other.shape, _error(one, other), rounded)
    wrong = {name for name, (_, error, limit) in errors.items() if not error <= limit}
    real = _real(b, wrong, set(errors) - wrong)
    made = []
    for name, (shape, error, limit) in errors.items():
        verdict: Verdict = "equal" if error == 0 else "rounding" if name not in wrong else "another meaning"
        verdict = "differs" if name in real else verdict
        where = str(origin.get(name, "")) or "unknown origin"
        made.append(TensorDiff(pairs[name], name, ops.get(name, ""), where, shape, error, limit, verdict))
    return made


def _batches(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[list[str]]:
    """Names in parts of which the tensors fit into memory together."""
    infos = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    part: list[str] = []
    held = 0
    for name in names:
        dims = [d.dim_value or 512 for d in infos[name].type.tensor_type.shape.dim] if name in infos else []
        size = 4 * math.prod(dims)
        if part and held + size > _BYTES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part


def _run(model: onnx.ModelProto, x: Array, names: Sequence[str]) -> dict[str, Array]:
    asked = onnx.ModelProto.FromString(model.SerializeToString())
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    made: dict[str, Array] = native.call(outputs_of, asked.SerializeToString(), {model.graph.input[0].name: x})
    return made


def _error(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return math.inf
    found = difference("", one.astype(np.float64), other.astype(np.float64))
    return 0.0 if found is None else found.error


def _real(model: onnx.ModelProto, wrong: set[str], equal: set[str]) -> set[str]:
    """The wrong tensors from which a wrong output is computed, through wrong and unmatched ones only."""
    return unequal(model, equal) & wrong if any(output.name in wrong for output in model.graph.output) else set()
