"""Nodes in any order become nodes in order, also in graphs within graphs and functions; sorted ones stay."""

from __future__ import annotations

import onnx
import onnx.parser

from segc.graph.node_order import sort_nodes

HEAD = '<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>'


def reverse(nodes: object) -> None:
    held = list(nodes)  # type: ignore[call-overload]
    del nodes[:]  # type: ignore[attr-defined]
    nodes.extend(held[::-1])  # type: ignore[attr-defined]


def test_sorted_nodes_stay_where_they_are() -> None:
    model = onnx.parser.parse_model(f"{HEAD} g (float[2] x) => (float[2] y) {{ b = Neg(x) a = Abs(x) y = Add(a, b) }}")
    before = model.SerializeToString()
    assert not sort_nodes(model) and model.SerializeToString() == before


def test_a_node_moves_behind_what_it_reads_also_in_its_branches() -> None:
    model = onnx.parser.parse_model(f"""{HEAD} g (float[2] x, bool c) => (float[2] y) {{
        a = Abs(x)
        y = If (c) <then_branch = t () => (float[2] r) {{ p = Neg(a) r = Relu(p) }},
                    else_branch = u () => (float[2] s) {{ s = Exp(x) }}> }}""")
    reverse(model.graph.node)
    branch = model.graph.node[0].attribute[0].g
    reverse(branch.node)
    assert sort_nodes(model)
    assert [node.op_type for node in model.graph.node] == ["Abs", "If"]
    assert [node.op_type for node in model.graph.node[1].attribute[0].g.node] == ["Neg", "Relu"]
    onnx.checker.check_model(model, full_check=True)


def test_functions_are_sorted() -> None:
    model = onnx.parser.parse_model(f"""{HEAD} g (float[2] x) => (float[2] y) {{ y = mine.Two(x) }}
        <domain: "mine", opset_import: ["" : 20]> Two (x) => (y) {{ a = Abs(x) y = Neg(a) }}""")
    reverse(model.functions[0].node)
    assert sort_nodes(model)
    assert [node.op_type for node in model.functions[0].node] == ["Abs", "Neg"]


def test_long_chains_need_no_recursion() -> None:
    nodes = [onnx.helper.make_node("Neg", [f"t{at}"], [f"t{at + 1}"]) for at in range(5000)]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes[::-1], "g", [info("t0", 1, [2])], [info("t5000", 1, [2])])
    model = onnx.helper.make_model(graph)
    assert sort_nodes(model) and [n.output[0] for n in model.graph.node] == [f"t{at + 1}" for at in range(5000)]
