"""Graphs of nothing but the resize and argmax that end a mask engine."""

from __future__ import annotations

import onnx.parser
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.base import Pass


def tail_of(step: Pass, shape: tuple[int, ...], size: tuple[int, int], align_corners: bool) -> gs.Graph:
    """float32 x of `shape` (N, C, h, w) to uint8 y (N, *size), with segc.ResizeArgMax spelled by `step`."""
    where = "align_corners" if align_corners else "half_pixel"
    graph = ir.from_model(
        onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20, "segc" : 1]>
        g (float[{", ".join(map(str, shape))}] x) => (uint8[{shape[0]},{size[0]},{size[1]}] y)
        <int64[2] size = {{{size[0]}, {size[1]}}}, int64[1] a = {{1}}> {{
        k = segc.ResizeArgMax <coordinate_transformation_mode = "{where}"> (x, size)
        i = Squeeze (k, a)  y = Cast <to = 2> (i) }}""")
    )
    ir.infer_shapes(graph)
    step.run(graph)
    ir.cleanup(graph)
    return graph
