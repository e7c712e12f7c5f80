"""ncnn on the CPU: segc writes `.param` and `.bin` itself, in layers that every ncnn build has.

ncnn checks nothing at run time, so every layer passes a check (net/layer_checks.py) before it is written, and a fresh
engine runs in a process of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.legalize.argmax import LegalizeArgMax
from segc.passes.legalize.attention import LegalizeAttention
from segc.passes.legalize.einsum import LegalizeEinsum
from segc.passes.performance.split_conv_over_concat import SplitConvOverConcat
from segc.passes.support.integers import Form
from segc.targets.ncnn.emit import emit
from segc.targets.ncnn.ops import capability_table
from segc.targets.ncnn.options import WINOGRAD
from segc.targets.ncnn.runtime import RUNTIME
from segc.targets.options.int8 import with_int8
from segc.targets.protocol import Settings
from segc.targets.target import Target

# ncnn runs one image at a time, whatever batch the graph was traced with
LEGALIZE: tuple[Pass, ...] = (
    SpecializeShapes(batch=1),
    SplitConvOverConcat(),
    LegalizeAttention(),
    LegalizeEinsum(),
    LegalizeArgMax(),
)

# Integer convolutions with float32 results; nothing else is faster in integers.
INT8 = Form(
    rounded_outputs=False, signed=True, carried=False, stored_weights=False, grouped=False, ops=frozenset({"Conv"})
)


def single_map(tensor: gs.Tensor) -> str | None:
    """Why a tensor cannot enter or leave a segment, or None: it must be the float32 map (1, C, H, W) of one image."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    is_map = tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[0] == 1
    return None if is_map else f"'{tensor.name}' is not 1 x C x H x W"


def _configured(target: Target, settings: Settings) -> Target:
    """With int8, Q and DQ are legal: the emitter makes scales of them (net/int8.py)."""
    if settings.precision != "int8":
        return target
    return with_int8(replace(target, ops={**target.ops, "QuantizeLinear": (), "DequantizeLinear": ()}), settings, INT8)


NCNN = Target(
    name="ncnn",
    summary="ncnn, CPU: .param and .bin in stock layers",
    opset=20,
    program=Path(__file__).with_name("cpp"),
    kit=Path(__file__).with_name("kit"),
    runtime=RUNTIME,
    ops=capability_table(),
    emit=emit,
    legalize=LEGALIZE,
    output="mask",  # docs/ncnn.md, "Masks and logits"
    table="targets/ncnn",
    precisions=("fp32", "fp16", "int8"),
    configure=_configured,
    limits={"fp32": (3e-3, 0.998), "fp16": (None, 0.995)},
    isolated=True,
    options=(WINOGRAD,),
    source_info=True,
    boundary=single_map,
)
