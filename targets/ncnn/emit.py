"""Writing an engine for ncnn: the graph is lowered to layers, written, read back and tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.errors import CompileError, MissingPackageError
from segc.graph import ir
from segc.targets.ncnn.files import layer_list
from segc.targets.ncnn.files.fp16_weights import write_half
from segc.targets.ncnn.files.read_back import read_back, unknown_layers
from segc.targets.ncnn.files.write import write_bin, write_param
from segc.targets.ncnn.lower.net_builder import build
from segc.targets.ncnn.runtime import BIN, PACKAGE, PARAM
from segc.targets.ncnn.trial import inputs as trial
from segc.targets.ncnn.trial import winograd63
from segc.targets.protocol import Emitted, Settings


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Write `.param`, `.bin` and the list of layers. Raises CompileError."""
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
    layer_list.write_comments(net, graph, directory / layer_list.FILE)
    options[winograd63.FLAG] = winograd63.may_use(net, directory, options, inputs, settings.threads)
    return Emitted((PARAM, BIN, layer_list.FILE), options)


def _options(graph: gs.Graph, entry: str, exit_: str, settings: Settings) -> dict[str, Any]:
    """What the session needs: blob names, ncnn's flags, and what its float result stands for.

    bfloat16 stays off: grouped convolutions compute nonsense in it.
    """
    y = graph.outputs[0]
    half = settings.precision == "fp16"
    return {
        "input": entry, "output": exit_, "rank": len(y.shape) - 1, "dtype": np.dtype(y.dtype).name,
        "use_fp16_packed": half, "use_fp16_storage": half, "use_fp16_arithmetic": half, "use_bf16_storage": False,
        winograd63.FLAG: False,
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
