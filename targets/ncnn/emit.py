"""Emit an ncnn engine: lower the graph to layers, write them, read the files back and run a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.errors import Code, CompileError, MissingPackageError
from segc.graph import ir
from segc.targets.ncnn.files import layer_list
from segc.targets.ncnn.files.fp16_weights import write_fp16_weights
from segc.targets.ncnn.files.read_back import read_back, unknown_layers
from segc.targets.ncnn.files.write import write_bin, write_param
from segc.targets.ncnn.lower.lower_graph import lower_graph, verify
from segc.targets.ncnn.net import int8
from segc.targets.ncnn.net.net import Net
from segc.targets.ncnn.net.small_logits import small_logits
from segc.targets.ncnn.options import WINOGRAD
from segc.targets.ncnn.runtime import BIN, PACKAGE, PARAM
from segc.targets.ncnn.trial import winograd63
from segc.targets.ncnn.trial.inputs import trial_inputs
from segc.targets.protocol import Emitted, LogitsBeside, Settings


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Write model.param, model.bin and layers.txt into `directory`.

    Raises CompileError: the graph cannot be lowered, the installed ncnn lacks a layer, or a trial run fails.
    """
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    require_batch_of_one(graph)
    scales = int8.take_scales(graph)
    net = lower_graph(graph)
    _require_installed_layers(net)
    mask = np.dtype(graph.outputs[0].dtype).kind in "ui"
    logits = small_logits(net) if mask else None
    if scales:
        int8.quantize(net, scales, None if logits is None else logits[0])
        verify(net)
    write_param(net, directory / PARAM)
    options = _options(graph, net.layers[0].outputs[0].name, net.outputs[0].name, settings)
    inputs = trial_inputs(net, settings.images)
    if settings.precision == "fp16":
        options["fp32_layers"] = write_fp16_weights(net, directory, options, inputs, settings.threads)
    else:
        write_bin(net, directory / BIN)
    read_back(net, directory / PARAM, directory / BIN)
    layer_list.write_layer_list(net, graph, directory / layer_list.FILE)
    beside = None
    if logits is not None:
        blob, align_corners = logits
        if list(graph.outputs[0].shape[-2:]) == list(graph.inputs[0].shape[2:]):
            options["logits"] = blob.name
            beside = LogitsBeside(resize=align_corners is not None, align_corners=bool(align_corners))
    chosen = settings.options.get(WINOGRAD.name, WINOGRAD.default)
    if not scales:  # integers are exact whatever the tiles
        options |= winograd63.choose_tiles(net, directory, options, inputs, settings.threads, chosen)
    return Emitted((PARAM, BIN, layer_list.FILE), options, beside)


def _options(graph: gs.Graph, input_blob: str, output_blob: str, settings: Settings) -> dict[str, Any]:
    """What the session needs: blob names, ncnn's flags, and rank (without batch) and type of the result.

    bfloat16 stays off: grouped convolutions compute wrong results in it.
    """
    y = graph.outputs[0]
    fp16 = settings.precision == "fp16"
    return {
        "input": input_blob, "output": output_blob, "rank": len(y.shape) - 1, "dtype": np.dtype(y.dtype).name,
        "use_fp16_packed": fp16, "use_fp16_storage": fp16, "use_fp16_arithmetic": fp16, "use_bf16_storage": False,
        winograd63.FLAG: False,
    }  # fmt: skip


def require_batch_of_one(graph: gs.Graph) -> None:
    """Raise CompileError unless the graph has one input and one output, and a batch of 1 or of any size."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CompileError(
            f"the graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one each",
            code=Code.EMISSION,
        )
    shape = graph.inputs[0].shape
    if shape is None or len(shape) != 4 or (isinstance(shape[0], int) and shape[0] != 1):
        raise CompileError(
            f"the input is {shape}, ncnn takes one image at a time", code=Code.EMISSION,
            because="the graph is fixed at this batch",
            so="export the model with a batch of 1 or of any size; larger batches run image by image",
        )  # fmt: skip


def _require_installed_layers(net: Net) -> None:
    """Raise CompileError unless the installed ncnn has every layer type; MissingPackageError without ncnn."""
    try:
        import ncnn
    except ImportError as error:
        raise MissingPackageError(
            f"{PACKAGE.distribution} cannot be imported",
            code=Code.RUNTIME_BROKEN,
            because=str(error),
            so=PACKAGE.install,
        ) from error
    if unknown := unknown_layers(net, lambda type_: ncnn.create_layer(type_) is not None):
        raise CompileError(
            f"the installed ncnn has no layer {', '.join(unknown)}", code=Code.EMISSION,
            because=f"it is version {ncnn.__version__}",
            so=f"{PACKAGE.install} --upgrade",
        )  # fmt: skip
