"""Random ops of an ONNX file become constants, drawn once from a seed: `--freeze-random SEED`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from segc.errors import Code, SourceError
from segc.frontend.onnx_edit import attribute, set_sizes
from segc.graph import libraries

OPS = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})


def random_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that draw random numbers and that an output needs; those in branches and bodies count if it does."""
    needed = {value.name for value in graph.output}
    found = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]
        needed.update(node.input, *(_reads(g) for g in inner))
        if node.op_type in OPS and node.domain in ("", "ai.onnx"):
            found.append(node)
        found += [one for g in inner for one in random_nodes(g)]
    return found[::-1]


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for a in node.attribute:
            for inner in [a.g] if a.HasField("g") else a.graphs:
                yield from _reads(inner)
    yield from (value.name for value in graph.output)


def frozen(
    model: onnx.ModelProto, seed: int, image: Sequence[int | str | None]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy in which each random op is computed from constants, and a description of each; the model if it has none.

    image: the input's sizes, numbers where the compile fixes them. Raises SourceError where the number of values is not
    known, and for ops in branches and loops.
    """
    if not random_nodes(model.graph):
        return model, ()
    made = onnx.ModelProto()
    made.CopyFrom(model)
    sizes = _sizes(made, image)
    nodes, said = list[onnx.NodeProto](), list[str]()
    for node in made.graph.node:
        if node.op_type not in OPS or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        rng = np.random.default_rng([seed, len(said)])
        nodes += _replaced(node, made, sizes, rng)
        said.append(f"{node.name or node.output[0]} ({node.op_type})")
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    if left := random_nodes(made.graph):
        raise _cannot(left[0], "it stands in a branch or a loop")
    return made, tuple(said)


def _sizes(model: onnx.ModelProto, image: Sequence[int | str | None]) -> dict[str, tuple[int, ...]]:
    """The shapes that are known, where the input has the sizes of `image`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    if len(fixed.graph.input[0].type.tensor_type.shape.dim) == len(image):
        set_sizes(fixed.graph.input[0], image)
    graph = libraries.infer_shapes(fixed).graph
    found = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(d.dim_value for d in dims)
    return found


def _replaced(
    node: onnx.NodeProto, model: onnx.ModelProto, sizes: dict[str, tuple[int, ...]], rng: np.random.Generator
) -> list[onnx.NodeProto]:
    """The nodes that compute what the node did, from numbers that are kept in the model."""
    own = node.output[0]
    numbers = f"{own}_drawn"
    like = None if node.op_type in ("RandomNormal", "RandomUniform") else sizes.get(node.input[0])
    shape = attribute(node, "shape") if node.op_type in ("RandomNormal", "RandomUniform") else like
    if shape is None:
        raise _cannot(node, "the number of its values depends on the size of the image: compile with a fixed --shape")
    kind = attribute(node, "dtype")
    if node.op_type == "Bernoulli":
        _keep(model, numbers, rng.random(shape, np.float32))
        to = kind or onnx.TensorProto.FLOAT
        return [
            onnx.helper.make_node("Cast", [node.input[0]], [f"{own}_p"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Less", [numbers, f"{own}_p"], [f"{own}_less"], node.name),
            onnx.helper.make_node("Cast", [f"{own}_less"], [own], to=to),
        ]
    if node.op_type == "Multinomial":
        return _multinomial(node, model, tuple(shape), rng)
    if "Normal" in node.op_type:
        values = rng.standard_normal(shape) * attribute(node, "scale", 1.0) + attribute(node, "mean", 0.0)
    else:
        low, high = attribute(node, "low", 0.0), attribute(node, "high", 1.0)
        values = rng.random(shape) * (high - low) + low
    to = kind or onnx.TensorProto.FLOAT
    _keep(model, numbers, values.astype(np.float32))
    return [onnx.helper.make_node("Cast", [numbers], [own], node.name, to=to)]


def _multinomial(
    node: onnx.NodeProto, model: onnx.ModelProto, shape: tuple[int, ...], rng: np.random.Generator
) -> list[onnx.NodeProto]:
    """How many of the summed probabilities a number exceeds: the class that it falls into."""
    own, count = node.output[0], attribute(node, "sample_size", 1)
    _keep(model, f"{own}_drawn", rng.random((shape[0], count, 1), np.float32))
    _keep(model, f"{own}_axis", np.array([1], np.int64))
    _keep(model, f"{own}_last", np.array(shape[1] - 1, np.int64))
    _keep(model, f"{own}_one", np.array(1, np.int64))
    _keep(model, f"{own}_two", np.array(2, np.int64))
    made = onnx.helper.make_node
    return [
        made("Softmax", [node.input[0]], [f"{own}_p"], axis=1),
        made("CumSum", [f"{own}_p", f"{own}_one"], [f"{own}_sum"]),
        made("Unsqueeze", [f"{own}_sum", f"{own}_axis"], [f"{own}_row"]),
        made("Less", [f"{own}_row", f"{own}_drawn"], [f"{own}_less"]),
        made("Cast", [f"{own}_less"], [f"{own}_whole"], to=onnx.TensorProto.INT64),
        made("CumSum", [f"{own}_whole", f"{own}_two"], [f"{own}_counts"]),
        made("Gather", [f"{own}_counts", f"{own}_last"], [f"{own}_class"], axis=2),
        made("Min", [f"{own}_class", f"{own}_last"], [f"{own}_least"]),
        made("Cast", [f"{own}_least"], [own], node.name, to=attribute(node, "dtype", onnx.TensorProto.INT32)),
    ]


def _keep(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))


def _cannot(node: onnx.NodeProto, why: str) -> SourceError:
    return SourceError(
        "the random numbers of the model cannot be drawn once", code=Code.RANDOM_NUMBERS,
        because=f"{node.op_type} '{node.name or node.output[0]}': {why}", so="remove the op from the file",
    )  # fmt: skip
