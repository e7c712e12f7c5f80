"""An ONNX file from elsewhere: checked before anything else sees it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx.defs

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import Code, SourceError, UsageError
from segc.frontend import onnx_input, onnx_metadata, onnx_output
from segc.frontend.given import Given
from segc.frontend.model import DEFAULT_SHAPE, ModelInfo, Source, with_found
from segc.frontend.onnx_dequantize import dequantize, is_quantized
from segc.frontend.onnx_edit import FileGraph
from segc.frontend.onnx_output import Asked
from segc.graph import dialect, ir, libraries
from segc.graph.invariants import OLDEST_OPSET
from segc.graph.onnx_reader import read_model, skeleton
from segc.graph.raise_opset import raise_opset
from segc.graph.widen import widen

_STANDARD = {"", "ai.onnx", "segc"}
_NO_PREPROCESSING = "an ONNX file says nothing about preprocessing: images are fed as RGB values 0 to 255, unscaled"


def open_onnx(path: Path, given: Given | None = None, asked_channels: int | None = None) -> Source:
    """Load and check the file: valid protobuf, external data inside its folder, known ops, one image in, a map out.

    float16 and bfloat16 become float32, the image float32 (N, C, H, W), the output logits (N, classes, H, W).
    """
    given = given or Given()
    model = read_model(path)
    _require_known_ops(model, path)
    _require_valid(model, path)
    if any(function.domain != dialect.DOMAIN for function in model.functions):
        model = libraries.inline_functions(model)
    notes = [f"the file computes in {' and '.join(types)}: the engine, and what it is compared with, compute the same"
             " graph in float32" for types in [widen(model)] if types]  # fmt: skip
    graph = FileGraph(model)
    quantized = is_quantized(model)
    if quantized and given.dequantize:
        dequantize(graph, path)
        notes.append("the file is quantized: --dequantize computes what its integers stand for, without their rounding")
    metadata = onnx_metadata.described({prop.key: prop.value for prop in model.metadata_props}, path)
    asked = Asked(given.output_name, given.output_values, len(given.classes or metadata.classes))
    image = onnx_input.find(graph, path)
    batch, channels, height, width = image.sizes
    channels = _channels(channels, asked_channels, given, path)
    shape = (height or DEFAULT_SHAPE[0], width or DEFAULT_SHAPE[1])
    _infer(graph, image, (batch or 1, channels, *shape), path)
    name, chosen = onnx_output.choose(graph, asked, shape, path)
    found = onnx_output.as_logits(graph, name, asked, shape, path)
    onnx_input.require_alone(graph, image, path)
    notes += [*onnx_input.as_floats(graph, image), *chosen, *found.notes]
    info = ModelInfo(
        "onnx", path.stem, sha256_of_file(path), shape=shape, in_channels=channels, batch=batch or 1,
        fixed=(height, width), quantized=quantized and not given.dequantize,
    )  # fmt: skip
    info = with_found(info, found.threshold, shifted=found.shifted)
    described = metadata.applied(info, free=height is None and width is None)
    info = given.applied(described)
    if metadata.by:
        notes.append(metadata.note(described))
    elif given.mean is None and given.std is None and given.scale is None:
        notes.append(_NO_PREPROCESSING)
    return Source(info, onnx_model=model, notes=tuple(notes))


def _channels(fixed: int | None, asked: int | None, given: Given, path: Path) -> int:
    """Of the image: the file's, else those asked for, else one for each number of --mean, else 3. Raises UsageError."""
    if fixed is not None and asked not in (None, fixed):
        raise UsageError(
            f"the input of '{path}' has {fixed} channels", code=Code.UNSUPPORTED_BY_MODEL,
            because=f"--channels {asked} was given", so="omit --channels",
        )  # fmt: skip
    mean = given.mean or ()
    return fixed or asked or (len(mean) if len(mean) > 1 else 3)


def _infer(graph: FileGraph, image: onnx_input.Image, sizes: tuple[int, int, int, int], path: Path) -> None:
    """Types and shapes at these sizes of (N, C, H, W), or at those that the file declares. Raises SourceError."""
    try:
        graph.infer(image.name, image.laid_out(sizes))
    except libraries.CHECK_ERRORS:  # the file says that sizes are free, and its nodes that they are not
        try:
            graph.infer()
        except (*libraries.CHECK_ERRORS, ValueError) as error:
            raise SourceError(
                f"'{path}' is not a valid ONNX model", code=Code.NOT_ONNX, because=str(error).splitlines()[:1],
                so="export it again",
            ) from error  # fmt: skip


def at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model, of an opset that is not too old for segc's passes. Raises SourceError."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
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
