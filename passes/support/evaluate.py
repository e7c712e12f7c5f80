"""Run single nodes and whole graphs, for constant folding and for passes that compare outputs before and after.

ONNX Runtime receives weights as inputs, so that no model is serialized together with its weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx_graphsurgeon as gs

from segc.errors import SegcError
from segc.graph import ir
from segc.isolation import native
from segc.parity.difference import largest_difference
from segc.runtime.ort import run_once

Arrays = dict[str, np.ndarray]
SIDES = (64, 96, 128, 224, 256, 512)  # pixels, to try where a graph leaves its sizes open: the first that it accepts


class CannotRun(Exception):  # noqa: N818 - callers decide whether it is an error
    """ONNX Runtime cannot run the graph. The message is the reason, in a line."""


def one_node(node: gs.Node, opset: int) -> onnx.ModelProto:
    """A model of `node` alone. The node's inputs, all constants, become inputs of the model."""
    proto = gs.exporters.onnx_exporter.OnnxExporter.export_node(node)
    given = {t.name: t for t in node.inputs if not t.is_empty()}
    inputs = [_info(t.name, t.dtype, t.shape) for t in given.values()]
    outputs = [onnx.helper.make_empty_tensor_value_info(t.name) for t in node.outputs if not t.is_empty()]
    graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
    domains = [onnx.helper.make_opsetid("", opset)]
    if node.domain:
        domains.append(onnx.helper.make_opsetid(node.domain, 1))
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)


def by_reference(node: gs.Node, opset: int) -> list[np.ndarray]:
    """The outputs of a node with constant inputs, by ONNX's reference evaluator; fast for small shape arithmetic."""
    from onnx.reference import ReferenceEvaluator

    feeds = {t.name: array(t) for t in node.inputs if not t.is_empty()}
    return [np.asarray(value) for value in ReferenceEvaluator(one_node(node, opset)).run(None, feeds)]


def by_runtime(node: gs.Node, opset: int) -> list[np.ndarray]:
    """The outputs of a node with constant inputs, by ONNX Runtime. Raises CannotRun, for a sequence too."""
    feeds = {t.name: array(t) for t in node.inputs if not t.is_empty()}
    found = run_model(one_node(node, opset), feeds)
    if unknown := [t.name for t in node.outputs if not t.is_empty() and t.name not in found]:
        raise CannotRun(f"{', '.join(unknown)} holds a sequence")
    return list(found.values())


def array(constant: gs.Constant) -> np.ndarray:
    """The value of a constant. A value that is still in its protobuf is not copied into the constant."""
    values = constant._values
    if isinstance(values, gs.ir.tensor.LazyValues) and not isinstance(values, gs.ir.tensor.SparseValues):
        return np.asarray(onnx.numpy_helper.to_array(values.tensor))
    return np.asarray(constant.values)


def outputs(graph: gs.Graph, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """The graph's outputs by name, by ONNX Runtime without its graph optimizations. Raises CannotRun."""
    model, weights = runnable_model(graph)
    return run_model(model, {**weights, **feeds})


def runnable_model(graph: gs.Graph) -> tuple[onnx.ModelProto, Arrays]:
    """The graph as a model whose large constants are inputs, and the values of these, shared with the graph."""
    model = ir.checkable_model(graph)
    inside = {t.name for t in graph.inputs}
    tensors = graph.tensors()
    return model, {info.name: array(tensors[info.name]) for info in model.graph.input if info.name not in inside}


def random_inputs(graph: gs.Graph, side: int = 64, batch: int = 1) -> Arrays:
    """Random inputs, seeded by their names. An unknown size becomes `batch` on axis 0 and `side` on other axes."""
    return {t.name: random_array(t.name, t.dtype, _sizes(t.shape, side, batch)) for t in graph.inputs}


def relative_error(before: Arrays, after: Arrays) -> float:
    """The largest relative error of all outputs, see `largest_difference`; infinite if shapes or types differ."""
    worst = 0.0
    for name, expected in before.items():
        actual = after.get(name)
        if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
            return float("inf")
        worst = max(worst, _error(expected, actual))
    return worst


def _error(expected: np.ndarray, actual: np.ndarray) -> float:
    if expected.size == 0 or np.array_equal(expected, actual):
        return 0.0
    return largest_difference(expected, actual)[1] if expected.dtype.kind == "f" else float("inf")


def random_array(name: str, dtype: Any, sizes: Sequence[int]) -> np.ndarray:
    """Random values seeded by the name: normal floats; ints 0 and 1, which are valid indices almost everywhere."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(sizes).astype(dtype)
    return rng.integers(0, 2, sizes).astype(dtype)


def _sizes(shape: Any, side: int, batch: int) -> list[int]:
    return [s if isinstance(s, int) else (batch if axis == 0 else side) for axis, s in enumerate(shape or [])]


def _info(name: str, dtype: Any, shape: Any) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def run_model(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """The outputs of a model by name, by ONNX Runtime without its graph optimizations. Raises CannotRun."""
    names = [info.name for info in model.graph.output]
    try:
        values = native.call(run_once, model.SerializeToString(), names, dict(feeds))
    except SegcError:
        raise
    except Exception as error:  # ONNX Runtime's exception types have no common base
        raise CannotRun(str(error).splitlines()[0][:200]) from error
    return dict(tensors(dict(zip(names, values, strict=True))))


def tensors(outputs: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The outputs by name; each tensor of a sequence is one."""
    for name, value in outputs.items():
        if isinstance(value, list):
            yield from tensors({f"{name}[{at}]": each for at, each in enumerate(value)})
        else:
            yield name, np.asarray(value)
