"""The target `onnxruntime`: ONNX Runtime on the CPU, which needs no further package."""

from __future__ import annotations

from pathlib import Path

from segc.passes.cleanup.split_batchnorm import SplitBatchnorm
from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.performance.expand_prelu import ExpandPRelu
from segc.passes.performance.expand_top2 import ExpandTop2
from segc.passes.performance.resize_channels_last import ResizeChannelsLast
from segc.passes.performance.sink_upsample_below_conv import SinkUpsampleBelowConv
from segc.passes.performance.split_conv_over_concat import SplitConvOverConcat
from segc.passes.performance.winograd_conv import WinogradConv
from segc.passes.support.integers import Form
from segc.targets.checks import any_tensor
from segc.targets.onnxruntime.emit import emit
from segc.targets.onnxruntime.ops import capability_table
from segc.targets.onnxruntime.runtime import RUNTIME
from segc.targets.options.half import HALF, with_fp16_types
from segc.targets.options.int8 import with_int8
from segc.targets.options.winograd import WINOGRAD, with_winograd_option
from segc.targets.protocol import Settings
from segc.targets.target import Target


def _configured(target: Target, settings: Settings) -> Target:
    target = with_fp16_types(with_winograd_option(target, settings), settings)
    return with_int8(target, settings, Form(rounded_outputs=True))


ONNXRUNTIME = Target(
    name="onnxruntime",
    summary="ONNX Runtime, CPU: the embedded default",
    opset=20,
    program=Path(__file__).with_name("cpp"),
    kit=Path(__file__).with_name("kit"),
    runtime=RUNTIME,
    ops=capability_table(),
    emit=emit,
    table="targets/onnxruntime/target.py",
    legalize=(
        SinkUpsampleBelowConv(),
        SplitConvOverConcat(),
        WinogradConv(),
        ExpandPRelu(),
        ExpandTop2(),
        ResizeChannelsLast(),
    ),
    mask_lowering=LowerResizeArgMaxCells(),
    skipped_passes=frozenset({SplitBatchnorm.name}),  # 7 % of CGNet's time, but it magnifies the rounding
    boundary=any_tensor,
    accepts_uint8=True,
    precisions=("fp32", "fp16", "int8"),
    options=(HALF, WINOGRAD),
    configure=_configured,
)
