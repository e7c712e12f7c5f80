"""Compare all lowerings of segc.ResizeArgMax in each target that runs here: their times, and which are refused.

    python benchmarks/mask_lowerings.py [--targets onnxruntime openvino ncnn pplnn] [--classes 19 150] [--runs 7]
                                        [--threads 1] [--small 64x64] [--large 512x512]

The graph has only the resize and the argmax, and goes through the target's pipeline and emitter. The lowerings run in
turns, on noise and on smooth logits, which resemble scenes. The script prints medians of wall time and of the CPU time
of the process, which other load affects less. PPLNN has no runtime here: ONNX Runtime runs the graph legalized for it,
which shows what is legal and how much work is left, not the times of PPLNN's kernels.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segc import targets
from segc.compilation import mask_placement
from segc.errors import SegcError
from segc.graph import ir
from segc.legality import report
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.masks.lower_resize_argmax_pairwise import LowerResizeArgMaxPairwise
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.pipeline import stages
from segc.targets.protocol import Settings
from segc.targets.target import Target

LOWERINGS: dict[str, Any] = {
    "Resize, ArgMax": LowerResizeArgMax(),
    "tiled": LowerResizeArgMaxTiled(),
    "tiled, classes last": LowerResizeArgMaxTiled(strip_kb=1024, classes_last=True),
    "cells": LowerResizeArgMaxCells(),
    "pairwise": LowerResizeArgMaxPairwise(scratch=0),
}
Run = Callable[[], np.ndarray]


def built(name: str, step: Any, tail: mask_placement.Tail, logits: np.ndarray, threads: int, folder: Path) -> Run:
    """Build an engine. Returns a call that makes the mask. Raises SegcError if the target refuses the lowering."""
    target: Target = dataclasses.replace(targets.get(name), mask_lowering=step)
    runtime = targets.get("onnxruntime") if name == "pplnn" else target
    graph = ir.from_model(tail.model(logits.shape, target.opset))
    ir.infer_shapes(graph)
    stages.standard(target, shape=None, mask=True, threshold=None, simplify=False).run(graph)
    report.require_legal(graph, target, {})
    emitted = runtime.emit(ir.to_model(graph, functions=False), folder, Settings())
    session = runtime.load(folder, emitted.options, threads)
    return lambda: np.asarray(session.run(logits))


def logits_of(kind: str, classes: int, small: tuple[int, int]) -> np.ndarray:
    """float32 (1, classes, *small): noise, or smooth logits, interpolated from noise at an eighth of the size."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.standard_normal((1, classes, *small)).astype(np.float32)
    from segc.runtime.resize import resize

    coarse = rng.standard_normal((classes, max(1, small[0] // 8), max(1, small[1] // 8))).astype(np.float32)
    return np.ascontiguousarray(resize(coarse, small, False)[None])


def measure(name: str, kind: str, classes: int, args: argparse.Namespace) -> None:
    """Measure the lowerings in one target on one kind of logits, and print a line for each."""
    tail = mask_placement.Tail(args.large, False, None)
    logits = logits_of(kind, classes, args.small)
    want = tail.on_host(logits, args.threads)
    print(f"{name}, {classes} classes, {kind}", flush=True)
    engines: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as top:
        for lowering, step in LOWERINGS.items():
            folder = Path(top) / lowering.replace(" ", "")
            folder.mkdir()
            try:
                engines[lowering] = built(name, step, tail, logits, args.threads, folder)
                off = int((engines[lowering]().reshape(want.shape) != want).sum())
                if off:
                    print(f"  {lowering:22s} {off} pixels differ from the host kernel's")
            except (SegcError, RuntimeError, ValueError) as why:
                engines.pop(lowering, None)
                print(f"  {lowering:22s} {' '.join(str(why).split())[:150]}")
        times: dict[str, list[tuple[float, float]]] = {lowering: [] for lowering in engines}
        for turn in range(args.runs + 1):
            for lowering, run in engines.items():
                begin, cpu = time.perf_counter(), time.process_time()
                run()
                if turn:
                    times[lowering].append((time.perf_counter() - begin, time.process_time() - cpu))
        engines.clear()
    for lowering, found in times.items():
        wall, cpu = 1e3 * np.median(np.array(found), axis=0)
        print(f"  {lowering:22s} {wall:8.1f} ms, {cpu:8.1f} ms of CPU", flush=True)


def size(text: str) -> tuple[int, int]:
    height, width = (int(side) for side in text.split("x"))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["onnxruntime", "openvino", "ncnn", "pplnn"])
    parser.add_argument("--classes", nargs="+", type=int, default=[19, 150])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", type=size, default=(64, 64))
    parser.add_argument("--large", type=size, default=(512, 512))
    args = parser.parse_args()
    for name in args.targets:
        for classes in args.classes:
            for kind in ("smooth", "noise"):
                measure(name, kind, classes, args)


if __name__ == "__main__":
    main()
