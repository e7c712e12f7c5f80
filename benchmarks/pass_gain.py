"""The gain of one pass: a model compiled with and without it, run in turns.

    python benchmarks/pass_gain.py PASS MODEL... [--target onnxruntime] [--output mask] [--shape HxW] [--threads 2]
                                   [--runs 15]

PASS: a name that `segc passes` lists. MODEL: a source for `segc compile`, traced once. Both graphs go through the
target's pipeline, one without the pass and one with it; if the target's pipeline lacks the pass, it is added as late as
possible. The runtime runs both on the same noise, in turns with pauses. The script prints, for each model, the median
milliseconds without and with the pass, the gain, and the largest relative difference of the results (for masks: the
share of differing pixels).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segc import targets
from segc.graph import ir
from segc.passes import REGISTRY
from segc.passes.base import Pass
from segc.pipeline import stages
from segc.pipeline.pipeline import Pipeline, PipelineError
from segc.targets.protocol import Session
from segc.targets.target import Target

WARM_UP = 2
PAUSE = 0.1  # seconds: the threads of the other engine may spin for a while


def graph_of(model: onnx.ModelProto, target: Target, mask: bool, without: str, also: str = "") -> onnx.ModelProto:
    """The model after the target's pipeline, without the pass `without`, and with the pass `also` if given."""
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    whole = stages.standard(target, shape=None, mask=mask)
    steps = [step for step in whole.passes if step.name != without]
    if also and all(step.name != also for step in steps):
        pipeline = with_pass(whole.name, steps, REGISTRY[also]())
    else:
        pipeline = stages.chosen(whole.name, steps)
    pipeline.run(graph)
    return ir.to_model(graph, functions=False)


def with_pass(name: str, steps: Sequence[Pass], extra: Pass) -> Pipeline:
    """A pipeline with one more pass, as late as a valid order allows. Raises PipelineError if there is none."""
    for index in range(len(steps), 0, -1):
        with contextlib.suppress(PipelineError):
            return stages.chosen(name, [*steps[:index], extra, *steps[index:]])
    return stages.chosen(name, [extra, *steps])


def loaded(model: onnx.ModelProto, target: Target, folder: Path, threads: int) -> Session:
    """Emit the model for the target, and load the engine."""
    folder.mkdir()
    emitted = target.emit(model, folder, targets.Settings())
    return target.load(folder, emitted.options, threads)


def traced(source: str, shape: tuple[int, int] | None) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """The exported ONNX model, and the shape of its input."""
    if source.endswith(".onnx"):
        model = onnx.load(source)
        return model, tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    from segc.frontend.source import open_source
    from segc.frontend.trace import trace

    opened = open_source(source, mode="whole")
    assert opened.module is not None  # it is not an ONNX file
    size = (1, opened.info.in_channels, *(shape or opened.info.shape))
    return trace(opened.module, size, opset=20).model, size


def take_turns(engines: list[Session], x: np.ndarray, runs: int) -> list[float]:
    """The median milliseconds of each engine; they run in turns."""
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(WARM_UP + runs):
        for engine, found in zip(engines, seconds, strict=True):
            time.sleep(PAUSE)
            begin = time.perf_counter()
            engine.run(x)
            found.append(time.perf_counter() - begin)
    return [1e3 * statistics.median(found[WARM_UP:]) for found in seconds]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of logits, relative to the largest logit; of masks, the share of differing pixels."""
    if a.dtype.kind == "f":
        return float(np.abs(a - b).max() / np.abs(a).max())
    return float((a != b).mean())


def measure(source: str, args: argparse.Namespace) -> str:
    """Measure one model. Returns its row as Markdown."""
    shape: Any = tuple(int(side) for side in args.shape.split("x")) if args.shape else None
    model, size = traced(source, shape)
    target = targets.get(args.target)
    target = replace(
        target, skipped_passes=target.skipped_passes - {args.step}
    )  # asked for by name: what the target does by default
    with tempfile.TemporaryDirectory() as name:
        ways = {"without": args.step}, {"without": "", "also": args.step}
        graphs = [graph_of(model, target, args.output == "mask", **way) for way in ways]
        engines = [loaded(graph, target, Path(name) / str(at), args.threads) for at, graph in enumerate(graphs)]
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        far = difference(*(np.asarray(engine.run(x)) for engine in engines))
        before, after = take_turns(engines, x, args.runs)
    sides = "x".join(map(str, size[2:]))
    return f"| {Path(source).name} | {sides} | {before:.1f} | {after:.1f} | {1 - after / before:.0%} | {far:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", metavar="PASS", choices=sorted(REGISTRY))
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--target", choices=("onnxruntime", "openvino", "ncnn"), default="onnxruntime")
    parser.add_argument("--output", choices=("logits", "mask"), default="mask")
    parser.add_argument("--shape", help="HxW in place of the crop sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    print(f"| model | size | ms without {args.step} | ms with | gain | difference |")
    print("|---|---|---|---|---|---|")
    for source in args.models:
        print(measure(source, args), flush=True)


if __name__ == "__main__":
    main()
