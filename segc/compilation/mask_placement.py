"""The two placements of the mask, in the engine's graph or in segc's runtime on the host; time both."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from segc.errors import SegcError
from segc.graph import ir
from segc.isolation.session import IsolatedSession
from segc.legality import report
from segc.pipeline import stages
from segc.runtime.masks.dispatch import resize_argmax, resize_threshold
from segc.targets.protocol import Settings
from segc.targets.target import Target

_log = logging.getLogger(__name__)

PLACEMENTS = ("graph", "host", "auto")
_RUNS = 9
_MARGIN = 0.9  # the graph makes the mask if it takes less than this share of the host's time


@dataclass(frozen=True)
class Tail:
    """Resize and argmax from logits (N, C, h, w) to masks of `size` (H, W). threshold: of a head with one channel."""

    size: tuple[int, int]
    align_corners: bool
    threshold: float | None

    def on_host(self, logits: np.ndarray, threads: int) -> np.ndarray:
        """Masks (N, H, W) by segc's runtime."""
        if logits.shape[1] == 1 and self.threshold is not None:
            made = [resize_threshold(x, self.size, self.align_corners, self.threshold, threads=threads) for x in logits]
        else:
            made = [resize_argmax(x, self.size, self.align_corners, threads=threads) for x in logits]
        return np.stack(made)

    def model(self, shape: tuple[int, ...], opset: int) -> onnx.ModelProto:
        """A model of the resize alone, from logits of this shape."""
        where = "align_corners" if self.align_corners else "half_pixel"
        sizes = onnx.numpy_helper.from_array(np.array([*shape[:2], *self.size], np.int64), "sizes")
        node = onnx.helper.make_node(
            "Resize", ["x", "", "", "sizes"], ["logits"], mode="linear", coordinate_transformation_mode=where
        )
        x, y = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
            for name, dims in (("x", shape), ("logits", (*shape[:2], *self.size)))
        )
        graph = onnx.helper.make_graph([node], "tail", [x], [y], [sizes])
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


@dataclass(frozen=True)
class Choice:
    """Median milliseconds of both placements on the same logits. graph_ms: None if the target cannot make the mask."""

    host_ms: float
    graph_ms: float | None

    def figures(self) -> dict[str, float]:
        """The measured times by name."""
        return {"host_ms": self.host_ms, **({} if self.graph_ms is None else {"graph_ms": self.graph_ms})}

    @property
    def placement(self) -> Literal["graph", "host"]:
        """The faster placement; the host if both are about equal, which leaves an accelerator free for other work."""
        return "graph" if self.graph_ms is not None and self.graph_ms < _MARGIN * self.host_ms else "host"


def measure(tail: Tail, logits: np.ndarray, target: Target, settings: Settings, threads: int) -> Choice:
    """Time both placements on `logits`, in turns. Cost: building and running a small engine."""
    logits = np.ascontiguousarray(logits, np.float32)
    ways: list[Callable[[], object]] = [lambda: tail.on_host(logits.copy(), threads)]  # an engine copies them out
    with tempfile.TemporaryDirectory() as folder:
        try:
            ways.append(_in_graph(tail, logits, target, settings, threads, Path(folder)))
            ways[1]()
        except (SegcError, RuntimeError, ValueError) as error:
            _log.info("%s cannot make the masks in its graph: %s", target.name, error)
            del ways[1:]
        times = _times(ways)
        del ways
    return Choice(times[0], times[1] if len(times) > 1 else None)


def _in_graph(
    tail: Tail, logits: np.ndarray, target: Target, settings: Settings, threads: int, folder: Path
) -> Callable[[], object]:
    graph = ir.from_model(tail.model(logits.shape, target.opset))
    ir.infer_shapes(graph)
    stages.standard(target, shape=None, mask=True, threshold=tail.threshold, simplify=False).run(graph)
    report.require_legal(graph, target, {})
    emitted = target.emit(ir.to_model(graph, functions=False), folder, settings)
    if target.isolated:  # a crash of the runtime must not end this process: try it in a child first
        trial = IsolatedSession(target.name, folder, emitted.options, threads)
        trial.run(logits)
        trial.close()
    session = target.load(folder, emitted.options, threads)
    return lambda: session.run(logits)


def _times(ways: list[Callable[[], object]]) -> list[float]:
    """Median milliseconds of each function. They run in turns; the first two turns do not count."""
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(_RUNS + 2):
        for way, measured in zip(ways, times, strict=True):
            begin = time.perf_counter()
            way()
            if turn >= 2:
                measured.append(1e3 * (time.perf_counter() - begin))
    return [float(np.median(measured)) for measured in times]
