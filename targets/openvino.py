"""OpenVINO on the CPU, in float32.

Rows: ONNX operators that OpenVINO's ONNX front end converts; tests/targets/test_openvino.py converts and runs one
model a row and compares it with ONNX Runtime. Parity in float32 needs INFERENCE_PRECISION_HINT=f32: on CPUs with
bfloat16 units the plug-in would otherwise compute in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segc.errors import CompileError
from segc.passes.conv_of_upsampled import ConvOfUpsampled
from segc.passes.fill_channel_blocks import FillChannelBlocks
from segc.passes.legalize_floor_division import LegalizeFloorDivision
from segc.passes.lower_resize_argmax_banded import LowerResizeArgMaxBanded
from segc.passes.split_batchnorm import SplitBatchnorm
from segc.passes.winograd import Winograd
from segc.targets.base import (
    Emitted,
    NamedSession,
    Package,
    Settings,
    Target,
    any_tensor,
    fits_one_file,
    no_subgraph,
)
from segc.targets.winograd import WINOGRAD, as_asked

FILES = ("model.xml", "model.bin")

_OPS = (
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu"
    " Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout"
    " Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool"
    " GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity"
    " InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax"
    " LpNormalization MatMul Max MaxPool"
    " Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow"
    " QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin"
    " ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink"
    " Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh"
    " ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor"
)


def _emit(model: onnx.ModelProto, directory: Path, _settings: Settings) -> Emitted:
    import openvino

    source = directory / "source.onnx"  # read from disk: weights above 2 GB do not fit one message
    onnx.save_model(model, str(source), save_as_external_data=not fits_one_file(model), location="source.data")
    try:
        converted = openvino.Core().read_model(source)
        _name_by_position(converted)
        openvino.save_model(converted, directory / FILES[0], compress_to_fp16=False)
    except Exception as error:  # the runtime's exception types are private
        raise CompileError("OpenVINO cannot convert the graph", because=str(error)) from error
    finally:
        source.unlink(missing_ok=True)
        (directory / "source.data").unlink(missing_ok=True)
    return Emitted(FILES, {"INFERENCE_PRECISION_HINT": "f32"})


def _name_by_position(model: Any) -> None:
    """Rename what OpenVINO numbered with a counter of the whole process: equal graphs must give equal files."""
    for at, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}/{at}")


class _OvSession:
    def __init__(self, path: Path, options: Mapping[str, Any], threads: int) -> None:
        import openvino

        core = openvino.Core()
        settings: dict[str, Any] = {**options, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        try:
            self._compiled = core.compile_model(path, "CPU", settings)
        except Exception as error:
            raise CompileError("OpenVINO cannot load the engine", because=str(error), where=path.name) from error
        self._request = self._compiled.create_infer_request()

    def run(self, x: np.ndarray) -> np.ndarray:
        result = self._request.infer([x], share_inputs=True, share_outputs=False)
        return np.asarray(result[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        # NumPy has two int64 types, C's long and long long, and OpenVINO knows the one that this spelling gives
        given = {name: array.view(np.dtype(array.dtype.str)) for name, array in inputs.items()}
        result = self._request.infer(given, share_inputs=True, share_outputs=False)
        ports = enumerate(self._compiled.outputs)
        return {name: np.asarray(result[at]) for at, port in ports for name in port.get_names()}


def _load(directory: Path, options: Mapping[str, Any], threads: int) -> NamedSession:
    return _OvSession(directory / FILES[0], options, threads)


OPENVINO = Target(
    name="openvino",
    summary="OpenVINO, CPU, float32",
    opset=20,
    package=Package("openvino", "openvino", extra="openvino"),
    ops=dict.fromkeys(_OPS.split(), (no_subgraph,)),
    emit=_emit,
    load=_load,
    table="targets/openvino.py",
    mask_tail=LowerResizeArgMaxBanded(),
    skips=frozenset({SplitBatchnorm.name}),  # it folds the scale into a convolution's tail itself: equally fast
    legalize=(
        ConvOfUpsampled(),
        FillChannelBlocks(),
        Winograd(channels=100, dilated_channels=120, by_products=True),
        LegalizeFloorDivision(),
    ),
    multi_io=True,
    border=any_tensor,
    images=True,
    options=(WINOGRAD,),
    configure=as_asked,
)
