"""A wrong constant planted in each of many passes is found, to the pass and to the node."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.compilation.settings import settings_of
from segc.diagnosis import states
from segc.diagnosis.states import State, States
from segc.graph import ir
from segc.passes.base import PassResult
from segc.pipeline import stages
from segc.pipeline.hooks import Silent
from segc.pipeline.pipeline import Entry
from segc.runtime.ort import outputs_of
from tests.helpers.differential import SIZE, model_of

# pass -> a random model on which it makes a node or a constant: target, kind, seed
MODELS = {
    "break-conv-add-fusion": ("pplnn", "nets", 142),
    "expand-prelu": ("onnxruntime", "ops", 27),
    "fold-constants": ("pplnn", "nets", 65),
    "fuse-conv-batchnorm": ("pplnn", "nets", 3),
    "legalize-argmax": ("ncnn", "nets", 0),
    "legalize-arithmetic": ("pplnn", "ops", 6),
    "legalize-defaults": ("pplnn", "ops", 7),
    "legalize-inner-reductions": ("pplnn", "ops", 40),
    "legalize-instance-normalization": ("pplnn", "ops", 2),
    "legalize-layer-normalization": ("pplnn", "nets", 33),
    "legalize-operand-ranks": ("pplnn", "ops", 22),
    "legalize-repeated-operands": ("pplnn", "ops", 2),
    "legalize-resize": ("pplnn", "ops", 5),
    "lower-adaptive-avg-pool": ("pplnn", "nets", 17),
    "lower-opset": ("pplnn", "ops", 28),
    "lower-resize-argmax": ("pplnn", "nets", 52),
    "lower-resize-argmax-cells": ("onnxruntime", "nets", 52),
    "lower-resize-argmax-pairwise": ("tensorrt", "nets", 52),
    "lower-resize-argmax-tiled": ("openvino", "nets", 52),
    "specialize-shapes": ("pplnn", "nets", 68),
}


@dataclass
class Plant(Silent):
    """Makes a float wrong that the named pass made: a constant that is read, else what a new node gives.

    planted: the tensors behind which numbers are wrong.
    """

    name: str
    planted: set[str] = field(default_factory=set)
    _before: list[object] = field(default_factory=list)

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        constants = [each for each in graph.tensors().values() if isinstance(each, gs.Constant)]
        self._before = [*graph.nodes, *constants]

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        if entry.step.name == self.name and result.changes and not self.planted:
            self._constant(graph) or self._node(graph)

    def _is_new(self, thing: object) -> bool:
        return all(thing is not each for each in self._before)

    def _constant(self, graph: gs.Graph) -> bool:
        """The greatest new constant: an epsilon changes little."""
        read = [tensor for node in graph.nodes for tensor in node.inputs if isinstance(tensor, gs.Constant)]
        new = [tensor for tensor in read if self._is_new(tensor) and _floats(tensor).size]
        if not new:
            return False
        chosen = max(new, key=lambda tensor: _floats(tensor).size)
        chosen.values = (-2 * _floats(chosen) - 0.7).astype(chosen.values.dtype)
        self.planted |= {out.name for reader in chosen.outputs for out in reader.outputs}
        return True

    def _node(self, graph: gs.Graph) -> None:
        for node in graph.nodes:
            out = node.outputs[0]
            if self._is_new(node) and out.dtype is not None and np.dtype(out.dtype).kind == "f" and out.outputs:
                factor = gs.Constant("planted_factor", np.array(-2, out.dtype))
                wrong = gs.Variable("planted", out.dtype, out.shape)
                for reader in list(out.outputs):
                    reader.inputs = [wrong if each is out else each for each in reader.inputs]
                graph.nodes.append(gs.Node("Mul", "planted", inputs=[out, factor], outputs=[wrong]))
                graph.toposort()
                self.planted.add("planted")
                return


def _floats(tensor: gs.Constant) -> np.ndarray:
    values = np.asarray(tensor.values)
    return values if values.dtype.kind == "f" else np.zeros(0)


def feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    given = model.graph.input[0]
    dims = [d.dim_value for d in given.type.tensor_type.shape.dim]
    size = [side or free for side, free in zip(dims, SIZE, strict=True)]
    return {given.name: np.random.default_rng(0).standard_normal(size).astype(np.float32)}


def run(target: str, kind: str, seed: int, plant: Plant | None) -> list[State]:
    """The states of a random model in a target's pipeline."""
    graph = ir.from_model(model_of(kind, seed, target))
    ir.infer_shapes(graph)
    plain = targets.get(target)
    configured = plain.configure(plain, settings_of(plain, "fp32", {}))
    (x,) = feeds(ir.to_model(graph)).values()
    watching = States()
    pipeline = stages.standard(configured, shape=(x.shape[0], *x.shape[2:]), mask=kind == "nets" and seed % 2 == 0)
    pipeline.run(graph, [*([] if plant is None else [plant]), watching])
    return watching.found


def differs(state: State, wanted: np.ndarray) -> bool:
    (got,) = state.snapshot.run(feeds(state.snapshot.model)).values()
    if got.ndim == wanted.ndim:
        return not np.allclose(got, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    return float(np.mean(wanted.argmax(1) != got)) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_constant_is_found_to_the_node(name: str) -> None:
    plant = Plant(name)
    found = run(*MODELS[name], plant)
    assert plant.planted
    target, kind, seed = MODELS[name]
    model = ir.to_model(ir.from_model(model_of(kind, seed, target)))
    wanted = next(iter(outputs_of(model.SerializeToString(), feeds(model)).values()))
    assert not differs(found[0], wanted)
    assert differs(found[-1], wanted), "the planted fault changes nothing"
    lines: list[str] = []
    at = states.first_wrong(found, lambda state: differs(state, wanted), lines.append)
    entry = found[at].entry
    assert entry is not None and entry.step.name == name
    assert len(lines) <= np.ceil(np.log2(len(found)))
    region = states.region(found[at - 1], found[at], feeds)
    assert region is not None and region.error > 1e-3
    inside = {out for node in region.after.graph.node for out in node.output}
    assert inside & plant.planted, (plant.planted, inside)
    made = [outputs_of(m.SerializeToString(), _given(m, region)) for m in (region.before, region.after)]
    np.testing.assert_array_equal(made[0][region.value], region.expected)
    assert not np.allclose(made[1][region.value], region.expected, rtol=1e-4, atol=1e-5)


def _given(model: onnx.ModelProto, region: states.Region) -> dict[str, np.ndarray]:
    return {i.name: region.inputs[i.name] for i in model.graph.input}


def test_there_are_twenty_of_them() -> None:
    assert len(MODELS) >= 20


def test_a_right_pipeline_has_no_region() -> None:
    found = run("pplnn", "ops", 2, None)
    assert len(found) > 3
    assert all(states.region(a, b, feeds) is None for a, b in pairwise(found))


def test_weights_are_shared_between_states() -> None:
    weights = gs.Constant("w", np.ones((64, 64, 1, 1), np.float32))
    x, a, y = (gs.Variable(name, np.float32, (1, 64, 2, 2)) for name in ("x", "a", "y"))
    nodes = [gs.Node("Conv", inputs=[x, weights], outputs=[a]), gs.Node("Identity", inputs=[a], outputs=[y])]
    graph = gs.Graph(nodes, [x], [y], opset=17)
    watching = States()
    stages.standard(targets.get("onnxruntime"), shape=None).run(graph, [watching])
    assert len(watching.found) == 2
    first, second = (state.snapshot.weights["w"] for state in watching.found)
    assert first is second
