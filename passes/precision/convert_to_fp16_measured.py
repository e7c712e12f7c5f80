"""Convert the graph to float16 as far as the pixels keep their classes, by measuring.

y = op(x), float32  ->  convert-to-fp16:depth=D, with the smallest D (0 if possible) for which at least `agreement` of
the pixels keep their class. Nodes that read or write a tensor with values above `largest` stay in float32. Both graphs
run in ONNX Runtime on noise and on the photograph of the parity gate. A rounding error grows with every later layer, so
float32 helps most in early layers, which usually hold few weights. A trained, well-conditioned model becomes float16
throughout.

Must not fire: the graph already computes in float16 (its own result is no reference). If ONNX Runtime cannot run the
graph, or its only input is not an image, nothing is measured and no early layer is kept.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.depth import depths
from segc.graph.invariants import PORTABLE, SINGLE
from segc.parity import metrics, sample_inputs
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.precision.convert_to_fp16 import ConvertToFp16
from segc.passes.precision.materialize_fp16_rounding import MaterializeFp16Rounding
from segc.passes.support import evaluate
from segc.passes.support.dtypes import F16, F32
from segc.passes.support.edit import Names

STEPS = 16  # depths to try: one per 1/16 of the convertible nodes, and all depths of the last 1/16


@dataclass(frozen=True)
class ConvertToFp16Measured(Pass):
    """Compute in float16 where the pixels keep their classes. Opt-in: it rounds. Cost: up to six runs.

    agreement: the least share of pixels that must keep their class, slightly above the parity gate's limit.
    largest: the largest value allowed in a float16 tensor, a quarter of float16's range: other images may have larger
    values. side: height and width in pixels to measure at if the graph leaves them open. mean, std, channel_order: the
    model's preprocessing; the defaults are ImageNet's, which nearly every model expects.
    """

    name: ClassVar[str] = "convert-to-fp16-measured"
    algebra: ClassVar[str] = "y = op(x)  ->  convert-to-fp16 from the node on from which it keeps the pixels' classes"
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE, SINGLE})

    agreement: float = 0.996
    largest: float = 2.0**14
    side: int = 256
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    channel_order: str = "RGB"

    def run(self, graph: gs.Graph) -> PassResult:
        """Measure, then convert."""
        result = PassResult()
        if any(isinstance(t, gs.Variable) and t.dtype == F16 for t in graph.tensors().values()):
            return result
        try:
            conversion = self._conversion(graph)
        except evaluate.CannotRun as why:
            result.skips.append(Skip(graph.name or "graph", f"not measured: {why}"))
            conversion = ConvertToFp16()
        converted = conversion.run(graph)
        result.changes, result.skips = converted.changes, [*result.skips, *converted.skips]
        return result

    def _conversion(self, graph: gs.Graph) -> ConvertToFp16:
        """The conversion of the smallest depth that keeps the classes, else of the largest depth. Raises CannotRun."""
        feeds, depths_to_try = self._feeds(graph), candidates(graph)
        if not feeds:
            return ConvertToFp16()
        measured, peaks = measured_graph(graph)
        runs = [evaluate.outputs(measured, feed) for feed in feeds]
        expected = [_classes(run) for run in runs]
        large = tuple(name for name, peak in peaks.items() if not all(float(r[peak]) <= self.largest for r in runs))

        def keeps_classes(depth: int) -> bool:
            kept = self._keeps_classes(graph, ConvertToFp16(depth, large), feeds, expected)
            gc.collect()  # nodes and tensors form reference cycles: without this the weights of all trials pile up
            return kept

        if keeps_classes(0):
            return ConvertToFp16(0, large)
        low, high = (
            0,
            len(depths_to_try) - 1,
        )  # the depth at `low` is too small; the one at `high` suffices, or none does
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if keeps_classes(depths_to_try[middle]) else (middle, high)
        return ConvertToFp16(depths_to_try[high], large)

    def _keeps_classes(
        self, graph: gs.Graph, conversion: ConvertToFp16, feeds: list[evaluate.Arrays], expected: list[np.ndarray]
    ) -> bool:
        """Whether the pixels keep their classes after this conversion."""
        trial = graph.copy()
        conversion.run(trial)
        ir.cleanup(trial)
        MaterializeFp16Rounding().run(trial)
        got = (_classes(evaluate.outputs(trial, feed)) for feed in feeds)
        return all(float((a == b).mean()) >= self.agreement for a, b in zip(expected, got, strict=True))

    def _feeds(self, graph: gs.Graph) -> list[evaluate.Arrays]:
        """Noise and the photograph for the only input, (N, C, H, W) or uint8 (N, H, W, 3); empty if it is neither."""
        shape = graph.inputs[0].shape if len(graph.inputs) == 1 else None
        if shape is None or len(shape) != 4:
            return []
        if graph.inputs[0].dtype == np.uint8:
            return self._images(graph.inputs[0])
        if not isinstance(shape[1], int):
            return []
        batch, channels, height, width = (
            s if isinstance(s, int) else known for s, known in zip(shape, (1, 3, self.side, self.side), strict=True)
        )
        named = sample_inputs.inputs((batch, channels, height, width), self.mean, self.std, self.channel_order)
        return [{graph.inputs[0].name: x} for _, x in named]

    def _images(self, images: gs.Tensor) -> list[evaluate.Arrays]:
        batch, height, width, channels = images.shape
        if channels != 3 or not all(isinstance(s, int) for s in (batch, height, width)):
            return []
        return [{images.name: x} for _, x in sample_inputs.image_inputs((batch, 3, height, width))]


def candidates(graph: gs.Graph) -> list[int]:
    """The depths to try: 0, then depths that leave ever fewer nodes to convert, since the last few may matter most."""
    levels = depths(graph)
    ordered = sorted(levels[id(node)] for node in ConvertToFp16.convertible(graph))
    last = len(ordered) * (STEPS - 1) // STEPS
    shares = (ordered[len(ordered) * step // STEPS] for step in range(1, STEPS) if ordered)
    return sorted({0, *shares, *ordered[last:]})


def measured_graph(graph: gs.Graph) -> tuple[gs.Graph, dict[str, str]]:
    """A copy with the largest magnitude of each tensor that may become float16 as an additional output, by name."""
    copy, peaks = graph.copy(), {}
    names = Names(copy)
    tensors = {t.name: t for node in ConvertToFp16.convertible(copy) for t in [*node.inputs, *node.outputs]}
    for name, tensor in tensors.items():
        if not isinstance(tensor, gs.Variable) or tensor.dtype != F32:
            continue
        size = names.variable(tensor, "size", F32, tensor.shape)
        peak = names.variable(tensor, "peak", F32, [])
        copy.nodes += [
            gs.Node("Abs", inputs=[tensor], outputs=[size]),
            gs.Node("ReduceMax", attrs={"keepdims": 0}, inputs=[size], outputs=[peak]),
        ]
        copy.outputs.append(peak)
        peaks[name] = peak.name
    return copy, peaks


def _classes(run: evaluate.Arrays) -> np.ndarray:
    """The class of each pixel, from the graph's first output: logits (N, C, H, W) or a mask."""
    y = next(iter(run.values()))
    return y if y.dtype.kind in "iu" or y.ndim != 4 else metrics.mask_of(y, None)
