"""What every test of a pass asserts: text in, text out, and numbers."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnx.printer
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from segc.graph import ir
from segc.graph.invariants import INVARIANTS
from segc.graph.source_info import Adoption
from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate

HEAD = '<ir_version: 9, opset_import: ["" : 17, "segc" : 1]>'
HEAD20 = '<ir_version: 9, opset_import: ["" : 20, "segc" : 1]>'
ODD_SIZES = ((5, 7, 9), (2, 3, 1), (11, 4, 6))  # what dynamic sizes become, a round each


def graph_of(text: str) -> gs.Graph:
    """The graph of ONNX text, with types and shapes of all tensors."""
    graph = ir.from_model(onnx.parser.parse_model(text))
    ir.infer_shapes(graph)
    return graph


def apply(step: Pass, graph: gs.Graph) -> PassResult:
    """Run a pass as the pipeline does."""
    adoption = Adoption(graph)
    result = step.run(graph)
    if result.changes:
        ir.cleanup(graph)
        adoption.adopt(graph, step.name)
    return result


def text_of(graph: gs.Graph) -> str:
    """The graph as sorted lines: inputs, outputs, the constants in use with their values, and nodes without names."""
    lines = [f"in  {t.name} {_type(t)}" for t in graph.inputs] + [f"out {t.name} {_type(t)}" for t in graph.outputs]
    used = {t.name: t for node in ir.nodes(graph) for t in node.inputs if isinstance(t, gs.Constant)}
    lines += [f"{name} = {used[name].values.dtype} {used[name].values.tolist()}" for name in sorted(used)]
    return "\n".join([*lines, *sorted(_node(node) for node in graph.nodes)])


def _type(tensor: gs.Tensor) -> str:
    return f"{np.dtype(tensor.dtype).name if tensor.dtype is not None else '?'}{list(tensor.shape or [])}"


def _node(node: gs.Node) -> str:
    proto = OnnxExporter.export_node(node)
    proto.name = ""
    attributes = sorted(proto.attribute, key=lambda a: a.name)
    del proto.attribute[:]
    proto.attribute.extend(attributes)
    while proto.input and not proto.input[-1]:
        proto.input.pop()
    return " ".join(str(onnx.printer.to_text(proto)).split())


def check_pass(
    step: Pass,
    before: str,
    after: str | None,
    *,
    changes: int = 1,
    atol: float = 0.0,
    same_outputs: bool = True,
    skips: str | None = None,
) -> gs.Graph:
    """`step` turns `before` into `after`, validly, once, and without changing what the graph computes.

    after: None leaves the shape of the result to the caller. changes: the exact number that the pass must count.
    atol: largest difference of float outputs; 0 asks for equal numbers. same_outputs: False for passes that change what
    the graph returns. skips: part of a skip's reason.
    """
    original, graph = graph_of(before), graph_of(before)
    result = apply(step, graph)
    assert result.changes == changes, f"{step.name} counted {result.changes} changes; skips: {result.skips}"
    if after is not None:
        assert text_of(graph) == text_of(graph_of(after))
    _check_valid(step, graph)
    if skips is not None:
        assert any(skips in skip.reason for skip in result.skips), result.skips
    if same_outputs:
        for sizes in ODD_SIZES:
            check_numbers(original, graph, sizes, atol)
    check_foreign(step, before)
    printed = text_of(graph)
    assert apply(step, graph).changes == 0, "the second run changed something"
    assert text_of(graph) == printed, "the second run said it changed nothing, and did"
    return graph


def check_foreign(step: Pass, text: str) -> None:
    """An op of another library stays, whatever it is called: each node of the graph in turn becomes one.

    Where what read it went, it may go too.
    """
    for at, node in enumerate(graph_of(text).nodes):
        if node.domain:
            continue
        graph = graph_of(text)
        foreign = graph.nodes[at]
        foreign.domain = "other"
        readers = {(user.op, user.outputs[0].name) for t in foreign.outputs for user in t.outputs}
        read = any(t.name == out.name for t in foreign.outputs for out in graph.outputs)
        step.run(graph)
        kept = {(n.op, n.outputs[0].name) for n in ir.nodes(graph) if n.outputs}
        if read or readers & kept:
            found = [n.op for n in ir.nodes(graph) if n.domain == "other"]
            assert found == [node.op], f"other.{node.op} became {found or 'nothing'}"


def check_untouched(step: Pass, text: str, reason: str | None) -> None:
    """`step` leaves the graph as it is; `reason` is part of a skip's reason, None when nothing is to be recognised."""
    graph = graph_of(text)
    printed = text_of(graph)
    result = step.run(graph)
    assert result.changes == 0
    assert text_of(graph) == printed, "changes is 0, but the graph was touched"
    if reason is None:
        assert result.skips == []
    else:
        assert any(reason in skip.reason for skip in result.skips), result.skips


def _check_valid(step: Pass, graph: gs.Graph) -> None:
    onnx.checker.check_model(ir.to_model(graph), full_check=True)
    tensors = graph.tensors(check_duplicates=True)
    unknown = [t.name for t in tensors.values() if t.dtype is None or t.shape is None]
    assert not unknown, f"tensors without type or shape: {unknown}"
    names = [node.name for node in graph.nodes]
    assert all(names) and len(set(names)) == len(names), f"node names are not unique: {names}"
    broken = {name: why for name in step.ensures if (why := INVARIANTS[name](graph, step)) is not None}
    assert not broken, f"promised, but: {broken}"


def check_numbers(before: gs.Graph, after: gs.Graph, sizes: tuple[int, ...] = ODD_SIZES[0], atol: float = 0.0) -> None:
    """Both graphs compute the same from one random input, by ONNX Runtime."""
    feeds = random_feeds(after, sizes)
    want, got = evaluate.outputs(before, feeds), evaluate.outputs(after, feeds)
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        np.testing.assert_allclose(got[name], value, rtol=0, atol=atol, err_msg=name)


def random_feeds(graph: gs.Graph, sizes: tuple[int, ...] = ODD_SIZES[0]) -> dict[str, np.ndarray]:
    """Random inputs; each symbol gets the next of `sizes`, the same wherever it stands."""
    symbols: dict[str, int] = {}
    following = itertools.cycle(sizes)
    feeds = {}
    for t in graph.inputs:
        dims = [d if isinstance(d, int) else symbols.setdefault(str(d), next(following)) for d in t.shape]
        rng = np.random.default_rng(zlib.crc32(t.name.encode()))
        kind = np.dtype(t.dtype).kind
        feeds[t.name] = (rng.standard_normal(dims) if kind == "f" else rng.integers(0, 9, dims)).astype(t.dtype)
    return feeds
