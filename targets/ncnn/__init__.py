"""ncnn on the CPU: segc's own emitter of `.param` and `.bin`, in layers that every ncnn has.

Rows: each ONNX op with a function in rows_*.py that spells it in ncnn's layers. Whether a node is legal is tried out by
spelling it alone, so what is refused and what is written cannot part. Every layer is held to a contract (contracts.py)
because ncnn checks nothing at run time; engines are tried in a process of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc import ir
from segc.errors import CompileError, MissingPackageError
from segc.passes import ConvOfConcat, LegalizeArgMax, LegalizeAttention, LegalizeEinsum, SpecializeShapes
from segc.passes.base import Pass
from segc.targets.base import Emitted, Package, Session, Settings, Target
from segc.targets.ncnn import comments, trial, winograd
from segc.targets.ncnn.build import build
from segc.targets.ncnn.emission import ROWS, why_not
from segc.targets.ncnn.example import write_example
from segc.targets.ncnn.half import write_half
from segc.targets.ncnn.readback import read_back, unknown_layers
from segc.targets.ncnn.session import BIN, PARAM, NcnnSession
from segc.targets.ncnn.write import write_bin, write_param

PACKAGE = Package("ncnn", "ncnn", extra="ncnn")
# one image at a time, whatever batch the graph was traced with
LEGALIZE: tuple[Pass, ...] = (
    SpecializeShapes(batch=1),
    ConvOfConcat(),
    LegalizeAttention(),
    LegalizeEinsum(),
    LegalizeArgMax(),
)


def _emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    require_batch_of_one(graph)
    net = build(graph)
    _require_layers(net)
    write_param(net, directory / PARAM)
    options = _options(graph, net.layers[0].outputs[0].name, net.outputs[0].name, settings)
    inputs = trial.inputs(net, settings.images)
    if settings.precision == "fp16":
        options["fp32_layers"] = write_half(net, directory, options, inputs, settings.threads)
    else:
        write_bin(net, directory / BIN)
    read_back(net, directory / PARAM, directory / BIN)
    comments.write_comments(net, graph, directory / comments.FILE)
    options[winograd.FLAG] = winograd.may_use(net, directory, options, inputs, settings.threads)
    return Emitted((PARAM, BIN, comments.FILE), options)


def _options(graph: gs.Graph, entry: str, exit_: str, settings: Settings) -> dict[str, Any]:
    """What the session needs: blob names, ncnn's flags, and what its float result stands for.

    bfloat16 stays off: grouped convolutions compute nonsense in it.
    """
    y = graph.outputs[0]
    half = settings.precision == "fp16"
    return {
        "input": entry, "output": exit_, "rank": len(y.shape) - 1, "dtype": np.dtype(y.dtype).name,
        "use_fp16_packed": half, "use_fp16_storage": half, "use_fp16_arithmetic": half, "use_bf16_storage": False,
        winograd.FLAG: False,
    }  # fmt: skip


def require_batch_of_one(graph: gs.Graph) -> None:
    """ncnn runs one image at a time. Raises CompileError for a graph that is fixed at another batch."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CompileError(f"the graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one each")
    shape = graph.inputs[0].shape
    if shape is None or len(shape) != 4 or (isinstance(shape[0], int) and shape[0] != 1):
        raise CompileError(
            f"the input is {shape}, ncnn takes one image at a time", because="the graph is fixed at this batch",
            so="export the model with a batch of 1 or of any size; larger batches run image by image",
        )  # fmt: skip


def one_map(tensor: gs.Tensor) -> str | None:
    """What may go into and out of a net that is a segment: the map of one image; a batch would run map by map."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    one = tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[0] == 1
    return None if one else f"'{tensor.name}' is not 1 x C x H x W"


def _require_layers(net: Any) -> None:
    """Every layer exists in the installed ncnn."""
    try:
        import ncnn
    except ImportError as error:
        raise MissingPackageError(
            f"{PACKAGE.distribution} cannot be imported", because=str(error), so=PACKAGE.install
        ) from error
    if unknown := unknown_layers(net, lambda type_: ncnn.create_layer(type_) is not None):
        raise CompileError(
            f"the installed ncnn has no layer {', '.join(unknown)}", because=f"it is version {ncnn.__version__}",
            so=f"{PACKAGE.install} --upgrade",
        )  # fmt: skip


def _load(directory: Path, options: Mapping[str, Any], threads: int) -> Session:
    return NcnnSession(directory, options, threads)


NCNN = Target(
    name="ncnn",
    summary="ncnn, CPU: .param and .bin in stock layers",
    opset=20,
    package=PACKAGE,
    ops=dict.fromkeys(sorted(ROWS), (why_not,)),
    emit=_emit,
    load=_load,
    legalize=LEGALIZE,
    output="mask",  # docs/ncnn.md, "Masks and logits"
    table="targets/ncnn",
    precisions=("fp32", "fp16"),
    limits={"fp32": (3e-3, 0.998), "fp16": (None, 0.995)},
    isolated=True,
    origins=True,
    border=one_map,
    accompany=write_example,
)
