"""One random model through a target's pipeline and runtime, compared with ONNX Runtime on the model as it is.

A task of segc.isolation: runtimes may crash, so it runs in child processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from segc import targets
from segc.compilation.settings import settings_of
from segc.errors import SegcError
from segc.graph import ir
from segc.legality import report
from segc.pipeline import stages
from tests.helpers import random_models, random_ops

SIZE = (1, 3, 19, 23)  # of what a model leaves open
IN_THIS_PROCESS = {"pplnn": {"in_child": True}}  # options under which a target starts no child of its own
TOLERANCE = 1e-3  # of the greatest number, where float64 gives no reference
MULTIPLE = 32.0  # of ONNX Runtime's own distance from float64: runtimes sum in other orders, and use fast algorithms
LEAST = 1e-5  # of the greatest number: what a distance of 0 still allows


@dataclass(frozen=True)
class Question:
    """Which models to run for which target. kind: "ops" (random_ops) or "nets" (random_models)."""

    target: str
    kind: str
    seeds: Sequence[int]


@dataclass(frozen=True)
class Answer:
    """What became of one model. outcome: ok, wrong, refused by the table, error of the runtime, invalid."""

    seed: int
    outcome: str
    why: str = ""


def model_of(kind: str, seed: int, target: str) -> onnx.ModelProto:
    """The model of a seed. ncnn knows no batch."""
    return random_ops.model(seed, target == "ncnn") if kind == "ops" else random_models.model(seed, 1 + seed % 6)


def ask(question: Question) -> list[Answer]:
    """All models of a question, in this process."""
    return [_one(question.target, question.kind, seed) for seed in question.seeds]


def _one(name: str, kind: str, seed: int) -> Answer:
    model = model_of(kind, seed, name)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the generator's mistake, not a runtime's
        return Answer(seed, "invalid", str(error)[:200])
    given = session.get_inputs()[0]
    size = [side if isinstance(side, int) else at for side, at in zip(given.shape, SIZE, strict=True)]
    x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    want = session.run(None, {given.name: x})[0]
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    target = targets.get(name)
    settings = settings_of(target, "fp32", {})
    target = target.configure(target, settings)
    stages.standard(target, shape=(size[0], size[2], size[3])).run(graph)
    if refused := report.refusals(graph, target):
        return Answer(seed, "refused", str(refused[0].reason)[:200])
    with tempfile.TemporaryDirectory() as folder:
        try:
            emitted = target.emit(ir.to_model(graph, functions=False), Path(folder), settings)
            got = target.load(Path(folder), {**emitted.options, **IN_THIS_PROCESS.get(name, {})}, 1).run(x)
        except SegcError as error:
            return Answer(seed, "error", str(error)[:300])
    got = np.asarray(got)
    if got.shape != want.shape:
        return Answer(seed, "wrong", f"shape {got.shape}, not {want.shape}")
    off, limit = distance(model, x, want, got)
    return Answer(seed, "ok" if off <= limit else "wrong", f"{off:.1e}, of {limit:.1e}")


def distance(model: onnx.ModelProto, x: np.ndarray, want: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    """How far `got` is from float64 and how far it may be, both relative to the greatest number.

    want: what ONNX Runtime computes in float32; the reference where float64 is not to be had.
    """
    greatest = max(float(np.abs(want).max()), 1e-6)
    exact = in_float64(model, x)
    if exact is None or exact.shape != want.shape:
        return float(np.abs(got.astype(np.float64) - want).max()) / greatest, TOLERANCE
    own, off = (float(np.abs(y - exact).max()) / greatest for y in (want, got))
    if off > MULTIPLE * own:  # luck, where numbers cancel: other orders of the same sums may be further away
        others = [by_reference(model, near) for near in (x, x * np.float32(1 + 2**-23), x * np.float32(1 - 2**-23))]
        own = max([own, *(float(np.abs(y - exact).max()) / greatest for y in others if y is not None)])
    return off, max(MULTIPLE * own, LEAST)


def by_reference(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray | None:
    """What ONNX's reference implementation computes in the model's own types; None if it cannot."""
    try:
        (y,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    except Exception:  # it lacks the op
        return None
    return np.asarray(y)


def in_float64(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray | None:
    """What ONNX's reference implementation computes from a model whose floats are all float64; None if it cannot."""
    wide = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del wide.graph.value_info[:]
    y = by_reference(wide, x.astype(np.float64))
    return y if y is not None and y.dtype == np.float64 else None


def handler() -> Callable[[Question], list[Answer]]:
    """The function that answers in a child process, see segc.isolation.child."""
    return ask


def prepare(_: str) -> None:
    """Import what every child needs, for all forks."""
    import segc.targets.onnxruntime.target  # noqa: F401
