"""What OpenVINO's CPU plug-in computes in: float32, or bfloat16 on processors that have it."""

from __future__ import annotations

from segc.passes.support.integers import Form
from segc.targets.options.int8 import with_int8
from segc.targets.options.winograd import with_winograd_option, without_winograd
from segc.targets.protocol import Settings
from segc.targets.target import Target

# OpenVINO 2026.4 computes int8 convolutions of 32 channels with kernel and stride 4 or 8 wrongly, by as much as the
# values; those of stride 2 it computes right.
_STRIDE = 2

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # precision -> INFERENCE_PRECISION_HINT


def configured(target: Target, settings: Settings) -> Target:
    """The target for a precision. Winograd's intermediate sums are too large for what bfloat16 keeps of a number."""
    if settings.precision == "bf16":
        return without_winograd(target)
    form = Form(rounded_outputs=False, largest_stride=_STRIDE)
    return with_int8(with_winograd_option(target, settings), settings, form)


def cannot_run(settings: Settings) -> str | None:
    """Why an engine of this precision does not run here as it will elsewhere, or None."""
    if settings.precision != "bf16":
        return None
    import openvino

    return without_bf16(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def without_bf16(capabilities: list[str]) -> str | None:
    """The reason for a processor of these capabilities; OpenVINO computes in float32 there, whatever the hint."""
    return None if "BF16" in capabilities else "this processor has no bfloat16"
