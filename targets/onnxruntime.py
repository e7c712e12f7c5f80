"""ONNX Runtime on the CPU, the embedded default.

Rows: operators of opset 20 with a CPU kernel or a function body, and the types of their first input, as the kernel
registry of onnxruntime lists them (`get_all_opkernel_def`; tests/targets/test_onnxruntime.py compares the two).
float16 is accepted wherever float32 is: the runtime inserts casts around kernels that lack it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segc.errors import CompileError
from segc.passes.conv_of_concat import ConvOfConcat
from segc.passes.conv_of_upsampled import ConvOfUpsampled
from segc.passes.legalize_prelu import LegalizePRelu
from segc.passes.legalize_top_two import LegalizeTopTwo
from segc.passes.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.split_batchnorm import SplitBatchnorm
from segc.passes.winograd import Winograd
from segc.targets.base import (
    Check,
    Emitted,
    NamedSession,
    Package,
    Settings,
    Target,
    any_tensor,
    fits_one_file,
    input_dtype,
)
from segc.targets.half import HALF, by_types
from segc.targets.winograd import WINOGRAD, as_asked

FILE = "model.onnx"

_F = (np.float16, np.float32)
_FD = (*_F, np.float64)
_INTS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
_INDEX = (np.int32, np.int64)

_BY_TYPE: dict[tuple[type, ...], str] = {
    _F: "Acos Acosh Asin Asinh Atan Atanh AveragePool Celu Col2Im Conv ConvTranspose Cosh Det Elu Erf Gelu"
    " GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid Hardmax InstanceNormalization LRN LeakyRelu LpPool"
    " MaxRoiPool MaxUnpool Mean MeanVarianceNormalization PRelu QuantizeLinear Selu Sinh Softplus Softsign Tan"
    " ThresholdedRelu",
    _FD: "AffineGrid BatchNormalization Ceil Cos DeformConv Exp Floor Gemm GridSample LayerNormalization Log LogSoftmax"
    " LpNormalization Reciprocal RoiAlign Round Sigmoid Sin Softmax Sqrt Sum Tanh",
    (*_FD, *_INTS): "Abs Add Div Greater GreaterOrEqual Less LessOrEqual Mod Mul Sign Sub",
    (*_FD, np.int8, np.int16, np.int32, np.int64): "Neg",
    (*_FD, np.int8, np.uint8, *_INDEX): "ArgMax ArgMin",
    (*_FD, *_INDEX): "CumSum Einsum Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSum"
    " ReduceSumSquare",
    (*_FD, *_INDEX, np.int8, np.uint8, np.bool_): "ReduceMax ReduceMin",
    (*_FD, *_INDEX, np.int8, np.uint8, np.uint32, np.uint64): "Clip Max Min",
    (*_FD, *_INDEX, np.int8, np.uint8, np.uint32, np.uint64, np.bool_): "Pad",
    (*_FD, *_INDEX, np.uint32, np.uint64): "MatMul",
    (*_FD, np.int8, np.uint8): "DepthToSpace MaxPool SpaceToDepth",
    (*_FD, np.int8, np.int16, np.uint8, *_INDEX): "TopK",
    (*_FD, np.int16, *_INDEX): "Range",
    (*_FD, np.int8, np.int32): "Relu",
    (*_F, np.int8, np.uint8, np.int32): "Resize",
    (*_F, np.bool_, np.uint8, *_INDEX): "NonZero",
    (*_F, *_INDEX): "OneHot",
    (*_FD, np.bool_, *_INDEX): "Trilu",
    (np.int8, np.uint8): "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
    (np.int8, np.uint8, np.int32): "DequantizeLinear",
    (np.bool_,): "And If Not Or Xor",
}
_ANY_TYPE = (
    "Cast CastLike CenterCropPad Compress Concat Constant ConstantOfShape Dropout DynamicQuantizeLinear Equal Expand"
    " EyeLike Flatten Gather GatherElements GatherND GroupNormalization HardSwish Identity IsInf IsNaN Loop Mish"
    " NonMaxSuppression Reshape ReverseSequence Scan ScatterElements ScatterND Shape Shrink Size Slice Split Squeeze"
    " Tile Transpose Unique Unsqueeze Where"
)


def _rows() -> dict[str, tuple[Check, ...]]:
    rows: dict[str, tuple[Check, ...]] = dict.fromkeys(_ANY_TYPE.split(), ())
    for types, ops in _BY_TYPE.items():
        rows.update({op: (input_dtype(0, *types),) for op in ops.split()})
    return rows


def _emit(model: onnx.ModelProto, directory: Path, _settings: Settings) -> Emitted:
    if fits_one_file(model):
        (directory / FILE).write_bytes(model.SerializeToString(deterministic=True))
        return Emitted((FILE,))
    onnx.save_model(
        model, str(directory / FILE), save_as_external_data=True, location=f"{FILE}.data", size_threshold=1024
    )
    return Emitted((FILE, f"{FILE}.data"))


class OrtSession:
    """A model in ONNX Runtime: a file's path, or the serialized model. optimize: let the runtime rewrite it."""

    def __init__(self, model: Path | bytes, threads: int, *, optimize: bool = True, what: str = "the engine") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised, with the same text
        options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source, where = (str(model), model.name) if isinstance(model, Path) else (model, "")
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exception types are private
            raise CompileError(f"ONNX Runtime cannot load {what}", because=str(error), where=where) from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), or an image where the engine takes images. Returns the only output."""
        return np.asarray(self._session.run(None, {self._inputs[0]: x})[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name to all outputs by name."""
        values = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _load(directory: Path, _options: Mapping[str, Any], threads: int) -> NamedSession:
    return OrtSession(directory / FILE, threads)


ONNXRUNTIME = Target(
    name="onnxruntime",
    summary="ONNX Runtime, CPU: the embedded default",
    opset=20,
    package=Package("onnxruntime", "onnxruntime"),
    ops=_rows(),
    emit=_emit,
    load=_load,
    table="targets/onnxruntime.py",
    legalize=(ConvOfUpsampled(), ConvOfConcat(), Winograd(), LegalizePRelu(), LegalizeTopTwo()),
    mask_tail=LowerResizeArgMaxCells(),
    skips=frozenset({SplitBatchnorm.name}),  # saves CGNet 7 % of its time, but it magnifies the new rounding
    multi_io=True,
    border=any_tensor,
    images=True,
    precisions=("fp32", "fp16"),
    options=(HALF, WINOGRAD),
    configure=lambda target, settings: by_types(as_asked(target, settings), settings),
)
