"""An ONNX file from elsewhere: checked before anything else sees it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx.defs

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import Code, SourceError
from segc.frontend.model import DEFAULT_SHAPE, ModelInfo, Source
from segc.graph import ir, libraries
from segc.graph.invariants import OLDEST_OPSET
from segc.graph.onnx_reader import read_model, skeleton
from segc.graph.raise_opset import raise_opset

_STANDARD = {"", "ai.onnx", "segc"}
_NO_PREPROCESSING = "an ONNX file says nothing about preprocessing: images are fed as RGB values 0 to 255, unscaled"


def open_onnx(path: Path) -> Source:
    """Load and check the file: valid protobuf, external data inside its folder, known ops, one image in, logits out."""
    model = read_model(path)
    _require_known_ops(model, path)
    _require_valid(model, path)
    batch, channels, height, width = _input_sizes(model, path)
    info = ModelInfo(
        "onnx", path.stem, sha256_of_file(path), shape=(height or DEFAULT_SHAPE[0], width or DEFAULT_SHAPE[1]),
        in_channels=channels or 3, batch=batch or 1, fixed=(height or None, width or None),
    )  # fmt: skip
    return Source(info, onnx_model=model, notes=(_NO_PREPROCESSING,))


def at_opset(model: onnx.ModelProto, newest: int) -> onnx.ModelProto:
    """A copy of the model, at an opset that segc's passes and the target know. Raises SourceError."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset > newest:
        raise SourceError(
            f"the model uses opset {opset}",
            code=Code.ONNX_OPSET,
            because=f"segc's passes know up to {newest}",
            so="re-export it",
        )
    copy = onnx.ModelProto()  # passes own their copy, the gate keeps this one
    copy.CopyFrom(model)
    if opset >= OLDEST_OPSET:
        return copy
    graph = ir.from_model(copy)
    ir.infer_shapes(graph)
    raise_opset(graph)
    return ir.to_model(graph, origins=True)


def _require_known_ops(model: onnx.ModelProto, path: Path) -> None:
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise SourceError(
            f"'{path}' uses opset {opset}",
            code=Code.ONNX_OPSET,
            because=f"the installed onnx knows up to {newest}",
            so="pip install -U onnx",
        )
    functions = {(f.domain, f.name) for f in model.functions}
    unknown: Counter[str] = Counter()
    for node in model.graph.node:
        if (node.domain, node.op_type) in functions:
            continue
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        if node.domain not in _STANDARD or (node.domain != "segc" and not onnx.defs.has(node.op_type, "")):
            unknown[name] += 1
    if unknown:
        raise SourceError(
            f"'{path}' uses ops that ONNX does not define",
            code=Code.ONNX_OPSET,
            because=[f"{name}: {count} node{'s' * (count > 1)}" for name, count in unknown.most_common()],
            so="export the model without custom operators, or compile the PyTorch source with segc",
        )


def _require_valid(model: onnx.ModelProto, path: Path) -> None:
    try:
        libraries.check_model(skeleton(model))
    except (*libraries.CHECK_ERRORS, ValueError) as error:
        raise SourceError(
            f"'{path}' is not a valid ONNX model",
            code=Code.NOT_ONNX,
            because=str(error).splitlines()[0],
            so="export it again",
        ) from error


def _input_sizes(model: onnx.ModelProto, path: Path) -> tuple[int, int, int, int]:
    """Batch, channels, height, width; 0 where the file leaves them open."""
    initializers = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initializers]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        found = ", ".join(f"{i.name} of rank {len(i.type.tensor_type.shape.dim)}" for i in inputs) or "none"
        raise SourceError(
            f"'{path}' is not a segmentation model",
            code=Code.NOT_SEGMENTATION,
            because=f"one input (N, C, H, W) is needed, found {found}",
            so="export the model with the normalised image as its only input",
        )
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise SourceError(
            f"input '{inputs[0].name}' of '{path}' is not float32",
            code=Code.NOT_SEGMENTATION,
            so="export it in float32",
        )
    if len(model.graph.output) != 1:
        found = ", ".join(o.name for o in model.graph.output)
        raise SourceError(
            f"'{path}' has {len(model.graph.output)} outputs",
            code=Code.NOT_SEGMENTATION,
            because=found,
            so="keep the logits only",
        )
    sizes = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    return sizes[0], sizes[1], sizes[2], sizes[3]
