"""How far apart inner tensors are before and after the passes, on a few thousand values of each.

Both graphs run in ONNX Runtime. Nodes added to them pick the values, so that no whole tensor is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from segc.bundle.evidence import Layer
from segc.comparing import matching
from segc.graph import ir, libraries
from segc.graph.source_info import origins
from segc.isolation import native
from segc.parity import sample_inputs
from segc.runtime.ort import outputs_of_each

if TYPE_CHECKING:
    from segc.compilation.engine import Loaded
    from segc.compilation.lowering import Exported

Array = np.ndarray
VALUES = 4096  # of a tensor
LARGEST = 1 << 29  # bytes of a graph with its weights: of larger ones only `segc diff` compares inner tensors
_PREFIX = "segc_report/"
_SMALL = 64  # elements of an initializer that the skeleton keeps


@dataclass(frozen=True)
class Before:
    """The graph before the passes: its nodes without weights, values of its tensors, and how many each tensor has."""

    skeleton: onnx.ModelProto
    values: Mapping[str, tuple[int, Array]]
    moved: Mapping[str, tuple[int, Array]]


def before(exported: Exported) -> Before | str:
    """Run the exported graph on the photograph, as it is and moved by its last bit; or why that was not done."""
    model = exported.model
    if model.ByteSize() > LARGEST:
        return f"the graph has more than {LARGEST >> 20} MiB; segc diff SOURCE BUNDLE compares its inner tensors"
    x, _ = _inputs(exported)
    try:
        known = model if model.graph.value_info else libraries.infer_shapes(model)
        names = list(matching.floats(known))
        first, second = _sampled(model, names, [x, matching.nudged(x)])
    except Exception as error:  # of ONNX Runtime, which has no common class
        return f"ONNX Runtime does not run the graph before the passes: {_line(error)}"
    return Before(_skeleton(known), first, second)


def after(loaded: Loaded, found: Before) -> tuple[tuple[Layer, ...], str]:
    """The tensors that belong together, in the order after the passes, and what was compared, or why nothing was."""
    planned = loaded.planned
    model = ir.to_model(planned.graph, functions=False, origins=True)
    x, images = _inputs(planned)
    given = images if planned.setup.request.input == "uint8" else x
    if given is None:
        return (), "the engine takes images, of which the model has none"
    try:
        pairs = matching.matched(found.skeleton, model)
        (values,) = _sampled(model, list(pairs), [given])
    except Exception as error:  # of ONNX Runtime, which has no common class
        return (), f"ONNX Runtime does not run the graph after the passes: {_line(error)}"
    origin = origins(model)
    ops = {name: node.op_type for node in model.graph.node for name in node.output}
    layers = []
    for name, source in pairs.items():
        if source not in found.values or name not in values:
            continue
        (count, one), (other_count, other) = found.values[source], values[name]
        if count != other_count:
            continue
        apart, rounded = _error(one, other), _error(one, found.moved[source][1])
        layers.append(
            Layer(tensor=name, op=ops.get(name, ""), origin=str(origin.get(name, "")), values=len(one),
                  error=_figure(apart), rounding=_figure(rounded))
        )  # fmt: skip
    return tuple(layers), "the graph before and after the passes, in ONNX Runtime, on the photograph"


def _inputs(exported: Any) -> tuple[Array, Array | None]:
    """The photograph for the network (N, C, H, W), and as images (N, H, W, 3); noise where there are not 3 channels."""
    info = exported.source.info
    shape = (info.batch, info.in_channels, *exported.shape)
    if info.in_channels != 3:
        return sample_inputs.noise(shape), None
    *_, (_, image) = sample_inputs.image_inputs(shape)
    return sample_inputs.normalised(image, info.mean, info.std, info.channel_order), image


def _sampled(
    model: onnx.ModelProto, names: Sequence[str], given: Sequence[Array]
) -> list[dict[str, tuple[int, Array]]]:
    """For each input, name -> the number of values of that tensor, and some of them."""
    with _picking(model, names) as content:
        feed = model.graph.input[0].name
        runs = native.call(outputs_of_each, content, [{feed: x} for x in given])
    return [
        {name: (int(made[f"{_PREFIX}size/{at}"]), made[f"{_PREFIX}values/{at}"]) for at, name in enumerate(names)}
        for made in runs
    ]


@contextmanager
def _picking(model: onnx.ModelProto, names: Sequence[str]) -> Iterator[bytes]:
    """The serialized model with nodes that pick values of the tensors; the model itself is as before after the block.

    Its weights are not copied: a copy would take their memory once more.
    """
    graph = model.graph
    nodes, weights, outputs = len(graph.node), len(graph.initializer), list(graph.output)
    functions = len(model.functions)
    constants = {"flat": [-1], "zero": [0], "end": [np.iinfo(np.int64).max], "part": [VALUES], "one": [1]}
    try:
        ir.complete_functions(model)
        for name, value in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), _PREFIX + name))
        del graph.output[:]
        for at, name in enumerate(names):
            graph.node.extend(_picks(at, name))
            for part, kind, rank in (("size", onnx.TensorProto.INT64, []), ("values", onnx.TensorProto.FLOAT, [None])):
                shown = onnx.helper.make_tensor_value_info(f"{_PREFIX}{part}/{at}", kind, rank)
                graph.output.append(shown)
        yield model.SerializeToString()
    finally:
        del graph.node[nodes:], graph.initializer[weights:], graph.output[:], model.functions[functions:]
        graph.output.extend(outputs)


def _picks(at: int, name: str) -> Iterator[onnx.NodeProto]:
    """Nodes that flatten the tensor and take every k-th value; k is odd, so that columns do not repeat."""
    made = {part: f"{_PREFIX}{part}/{at}" for part in ("size", "share", "twice", "step", "row", "some", "values")}
    const = {part: _PREFIX + part for part in ("flat", "zero", "end", "part", "one")}
    yield onnx.helper.make_node("Size", [name], [made["size"]])
    yield onnx.helper.make_node("Div", [made["size"], const["part"]], [made["share"]])
    yield onnx.helper.make_node("Add", [made["share"], made["share"]], [made["twice"]])
    yield onnx.helper.make_node("Add", [made["twice"], const["one"]], [made["step"]])
    yield onnx.helper.make_node("Reshape", [name, const["flat"]], [made["row"]])
    yield onnx.helper.make_node(
        "Slice", [made["row"], const["zero"], const["end"], const["zero"], made["step"]], [made["some"]]
    )
    yield onnx.helper.make_node("Cast", [made["some"]], [made["values"]], to=onnx.TensorProto.FLOAT)


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its large weights."""
    made = onnx.ModelProto()
    made.graph.input.extend(model.graph.input)
    made.graph.output.extend(model.graph.output)
    made.graph.value_info.extend(model.graph.value_info)
    for node in model.graph.node:
        if not any(attribute.HasField("t") for attribute in node.attribute):
            made.graph.node.append(node)
        else:
            bare = made.graph.node.add(name=node.name, op_type=node.op_type, domain=node.domain)
            bare.input.extend(node.input)
            bare.output.extend(node.output)
            bare.metadata_props.extend(node.metadata_props)
    return made


def _error(one: Array, other: Array) -> float:
    """The largest difference, relative to the greatest number of `one`."""
    largest = float(np.abs(one).max(initial=0.0))
    difference = float(np.abs(one.astype(np.float64) - other).max(initial=0.0))
    return difference / largest if largest else difference


def _figure(value: float) -> Any:
    return value if np.isfinite(value) else str(value)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
