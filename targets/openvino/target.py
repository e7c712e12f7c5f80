"""The target `openvino`: OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path

from segc.passes.cleanup.split_batchnorm import SplitBatchnorm
from segc.passes.legalize.arithmetic import LegalizeArithmetic
from segc.passes.legalize.floor_division import LegalizeFloorDivision
from segc.passes.legalize.product_prelu import LegalizeProductPRelu
from segc.passes.legalize.strided_pointwise import LegalizeStridedPointwise
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.passes.performance.pad_channels_to_block import PadChannelsToBlock
from segc.passes.performance.sink_upsample_below_conv import SinkUpsampleBelowConv
from segc.passes.performance.winograd_conv import WinogradConv
from segc.targets.checks import any_tensor
from segc.targets.openvino.emit import emit
from segc.targets.openvino.ops import capability_table
from segc.targets.openvino.precisions import cannot_run, configured
from segc.targets.openvino.runtime import RUNTIME
from segc.targets.options.winograd import WINOGRAD
from segc.targets.target import Target

# Its ONNX front end reduces all axes if they are an attribute, as below opset 18; ReduceLogSumExp is refused then.
IGNORED_AXES = ("ReduceL1", "ReduceLogSum")

OPENVINO = Target(
    name="openvino",
    summary="OpenVINO, CPU, float32, bfloat16 or int8",
    opset=20,
    program=Path(__file__).with_name("cpp"),
    kit=Path(__file__).with_name("kit"),
    runtime=RUNTIME,
    ops=capability_table(),
    emit=emit,
    table="targets/openvino/target.py",
    mask_lowering=LowerResizeArgMaxTiled(),
    skipped_passes=frozenset(
        {SplitBatchnorm.name}
    ),  # it folds the scale into a convolution's tail itself: equally fast
    legalize=(
        SinkUpsampleBelowConv(),
        PadChannelsToBlock(),
        WinogradConv(channels=100, dilated_channels=120, by_products=True),
        LegalizeFloorDivision(),
        LegalizeArithmetic(IGNORED_AXES),
        LegalizeProductPRelu(),
        LegalizeStridedPointwise(),
    ),
    boundary=any_tensor,
    accepts_uint8=True,
    precisions=("fp32", "bf16", "int8"),
    options=(WINOGRAD,),
    configure=configured,
    cannot_run=cannot_run,
)
