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
import onnxruntime as ort

from segc import targets
from segc.compilation.settings import settings_of
from segc.errors import SegcError
from segc.graph import ir
from segc.legality import report
from segc.pipeline import stages
from tests.helpers import random_models, random_ops

SIZE = (1, 3, 19, 23)  # of what a model leaves open
IN_THIS_PROCESS = {"pplnn": {"in_child": True}}  # options under which a target starts no child of its own
TOLERANCE = 1e-3  # of the greatest number; runtimes sum in other orders, and use fast algorithms


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
    off = float(np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), 1e-6))
    return Answer(seed, "ok" if off <= TOLERANCE else "wrong", f"{off:.1e}")


def handler() -> Callable[[Question], list[Answer]]:
    """The function that answers in a child process, see segc.isolation.child."""
    return ask


def prepare(_: str) -> None:
    """Import what every child needs, for all forks."""
    import segc.targets.onnxruntime.target  # noqa: F401
