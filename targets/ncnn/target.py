"""ncnn on the CPU: segc's own emitter of `.param` and `.bin`, in layers that every ncnn has.

Every layer is held to a contract (net/layer_checks.py) because ncnn checks nothing at run time; engines are tried in a
process of their own.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.legalize.argmax import LegalizeArgMax
from segc.passes.legalize.attention import LegalizeAttention
from segc.passes.legalize.einsum import LegalizeEinsum
from segc.passes.performance.split_conv_over_concat import SplitConvOverConcat
from segc.targets.ncnn.emit import emit
from segc.targets.ncnn.files.example_cpp import write_example
from segc.targets.ncnn.net import layer_checks_maps  # noqa: F401 - registers its checks
from segc.targets.ncnn.ops import rows
from segc.targets.ncnn.runtime import RUNTIME
from segc.targets.target import Target

# one image at a time, whatever batch the graph was traced with
LEGALIZE: tuple[Pass, ...] = (
    SpecializeShapes(batch=1),
    SplitConvOverConcat(),
    LegalizeAttention(),
    LegalizeEinsum(),
    LegalizeArgMax(),
)


def one_map(tensor: gs.Tensor) -> str | None:
    """What may go into and out of a net that is a segment: the map of one image; a batch would run map by map."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    one = tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[0] == 1
    return None if one else f"'{tensor.name}' is not 1 x C x H x W"


NCNN = Target(
    name="ncnn",
    summary="ncnn, CPU: .param and .bin in stock layers",
    opset=20,
    runtime=RUNTIME,
    ops=rows(),
    emit=emit,
    legalize=LEGALIZE,
    output="mask",  # docs/ncnn.md, "Masks and logits"
    table="targets/ncnn",
    precisions=("fp32", "fp16"),
    limits={"fp32": (3e-3, 0.998), "fp16": (None, 0.995)},
    isolated=True,
    source_info=True,
    boundary=one_map,
    write_extras=write_example,
)
