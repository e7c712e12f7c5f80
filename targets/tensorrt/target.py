"""The target `tensorrt`: NVIDIA TensorRT, in float32, float16 or int8 by the types and the Q and DQ in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segc.passes.base import Pass
from segc.passes.dialect.lower_psa_mask import LowerPSAMask
from segc.passes.legalize.top_k import LegalizeTopK
from segc.passes.legalize.unsigned_input import LegalizeUnsignedInput
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.masks.lower_resize_argmax_pairwise import LowerResizeArgMaxPairwise
from segc.passes.masks.widen_uint16_mask import WidenUint16Mask
from segc.passes.support.integers import Form
from segc.targets.options.half import HALF, with_fp16_types
from segc.targets.options.int8 import with_int8
from segc.targets.protocol import Option, Settings
from segc.targets.target import Target
from segc.targets.tensorrt import ops
from segc.targets.tensorrt.emit import emit
from segc.targets.tensorrt.engine_build import deferred
from segc.targets.tensorrt.flavor import cannot_run, chosen, defers, explain
from segc.targets.tensorrt.options import DEFER, FLAVOR, RTX
from segc.targets.tensorrt.runtime import RUNTIME

ARGMAX = Option(
    "argmax",
    ("auto", "plain", "planes"),
    "auto",
    "how the mask is computed: with ArgMax (plain), by comparing one class at a time (planes), or the cheaper of both"
    " (auto)",
)
TF32 = Option(
    "tf32",
    ("off", "on"),
    "off",
    "on: let float32 multiplications round their operands to 10 bits of mantissa, as TensorRT does by default: faster,"
    " and no longer float32",
)
# TensorRT takes int8 with zero point 0 only, and biases as float32. What lies between convolutions stays float32: its
# plans fuse nothing more with Q and DQ there.
INT8 = Form(rounded_outputs=False, signed=True, carried=False)
_MASK_LOWERINGS: Mapping[str, Pass] = {
    "auto": LowerResizeArgMaxPairwise(),
    "plain": LowerResizeArgMax(),
    "planes": LowerResizeArgMaxPairwise(classes=65536, scratch=0),
}


def _configure(target: Target, settings: Settings) -> Target:
    """The target for these settings: the flavor's capability table and package, the mask lowering, types for fp16.

    With a deferred build it needs no package.
    """
    flavor = chosen(settings.options).name
    target = replace(
        with_int8(with_fp16_types(target, settings), settings, INT8),
        ops=ops.RTX if flavor == RTX else ops.ENTERPRISE,
        mask_lowering=_MASK_LOWERINGS[settings.options.get("argmax", "auto")],
        runtime=target.runtime.configure(target.runtime, settings.options),
    )
    return deferred.configured(target) if defers(settings.options) else target


def _risk(settings: Settings) -> str:
    """segc has no figures of engines on GPUs."""
    return "what TensorRT refuses is known and is not in the graph; what it may compute wrongly was never measured"


TENSORRT = Target(
    name="tensorrt",
    summary="NVIDIA TensorRT: engines for NVIDIA GPUs, built without one by TensorRT for RTX",
    program=Path(__file__).with_name("cpp"),
    opset=20,
    runtime=RUNTIME,
    ops=ops.RTX,
    emit=emit,
    legalize=(LowerPSAMask(), LegalizeTopK(ops.MAX_TOP_K), WidenUint16Mask(), LegalizeUnsignedInput()),
    table="targets/tensorrt/ops.py",
    mask_lowering=LowerResizeArgMaxPairwise(),
    precisions=("fp32", "fp16", "int8"),
    options=(FLAVOR, ARGMAX, HALF, TF32, DEFER),
    configure=_configure,
    cannot_run=cannot_run,
    accepts_uint8=True,
    source_info=True,
    needs_shape_range=True,
    risk=_risk,
    explain=explain,
    deferred_build=deferred.BUILD_LATER,
)
