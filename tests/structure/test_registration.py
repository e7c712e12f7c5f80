"""What registers itself on import is imported by the code that needs it, not only by tests."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import onnx.parser
import segc.targets
from segc.graph import ir
graph = ir.from_model(onnx.parser.parse_model('''<ir_version: 9, opset_import: ["" : 20]>
    g (float[1,3,8,8] x, float[4,3,3,3] w0) => (float[1,4,3,3] y)
    <float[4,3,3,3] w> { c = Conv (x, w)  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)  y = Relu (p) }'''))
ir.infer_shapes(graph)
print([why for node in graph.nodes if (why := segc.targets.get("ncnn").why_not(node))])
"""


def test_ncnn_alone_in_a_process_knows_convolutions_and_pools() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
