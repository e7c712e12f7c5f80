"""Ops whose definition changed between opsets 7 and 17: the raised graph gives the numbers of the graph as given."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import pytest

from segc.errors import SourceError
from segc.graph import ir
from segc.graph.invariants import OLDEST_OPSET
from segc.graph.raise_opset import RULES, raise_opset
from segc.runtime.ort import open_session

MAP = "g (float[1,2,7,9] x) => (float[a,b,c,d] y)"
TABLE = "g (float[3,5] x) => (float[a,b] y)"
BN = """<float[2] s = {1, 2}, float[2] b = {1, -2}, float[2] m = {0.5, 2}, float[2] v = {1, 2}>
    { y = BatchNormalization <epsilon = 0.001, SPATIAL> (x, s, b, m, v) }"""
PLACES = """g (float[3,2,1,2] x) => (float[a,b,c,d] y)
    <float[2,1,2] s = {1, 2, 3, 4}, float[2,1,2] b = {1, 2, 3, 4}, float[2,1,2] m = {1, 2, 3, 5},
     float[2,1,2] v = {1, 2, 3, 6}> { y = BatchNormalization <epsilon = 0.01, spatial = 0> (x, s, b, m, v) }"""
SCALES = MAP + " <float[4] s = {1, 1, H, W}> { y = OP <mode = MODE> (x, s) }"


def scaled(op: str, mode: str, height: float, width: float) -> str:
    text = SCALES.replace("OP", op).replace("MODE", f'"{mode}"')
    return text.replace("H,", f"{height},").replace("W}", f"{width}}}")


# name: opset, text, ops of the raised graph
CASES = {
    "Upsample-7 nearest": (7, MAP + '{ y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]> (x) }', "Resize"),
    "Upsample-7 linear": (8, MAP + '{ y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 3.0]> (x) }', "Resize"),
    "Upsample-9 nearest": (9, scaled("Upsample", "nearest", 2.5, 3), "Resize"),
    "Upsample-9 linear": (9, scaled("Upsample", "linear", 2.5, 3), "Resize"),
    "Resize-10 enlarges": (10, scaled("Resize", "nearest", 2.3, 3), "Resize"),
    "Resize-10 shrinks": (10, scaled("Resize", "nearest", 0.6, 0.35), "Resize"),
    "Resize-10 does both": (10, scaled("Resize", "nearest", 0.6, 1.7), "Resize Resize"),
    "Resize-10 linear": (10, scaled("Resize", "linear", 0.6, 1.7), "Resize"),
    "Resize-10 computed": (
        10,
        'g (float[1,2,7,9] x, float[4] s) => (float[a,b,c,d] y) { y = Resize <mode = "nearest"> (x, s) }',
        "Max Min Resize Resize",
    ),
    "Resize-11": (
        11,
        MAP + """<float[4] s = {1, 1, 1.7, 0.6}, float[0] r = {}>
        { y = Resize <mode = "nearest", coordinate_transformation_mode = "tf_half_pixel_for_nn",
          nearest_mode = "floor"> (x, r, s) }""",
        "Resize",
    ),
    "Pad-2": (9, MAP + "{ y = Pad <value = 1.5, pads = [0, 0, 1, 2, 0, 0, 0, -1]> (x) }", "Pad"),
    "Pad-2 reflect": (10, MAP + '{ y = Pad <mode = "reflect", pads = [0, 0, 1, 2, 0, 0, 0, 1]> (x) }', "Pad"),
    "Slice-1": (9, MAP + "{ y = Slice <starts = [1, -2], ends = [1000, -1], axes = [2, 3]> (x) }", "Slice"),
    "Slice-1 without axes": (7, TABLE + "{ y = Slice <starts = [1, 1], ends = [3, 4]> (x) }", "Slice"),
    "Clip-6": (7, MAP + "{ y = Clip <min = -0.5, max = 0.25> (x) }", "Clip"),
    "Clip-6 above": (9, MAP + "{ y = Clip <max = 0.25> (x) }", "Clip"),
    "Clip-6 below": (10, MAP + "{ y = Clip <min = 0.25> (x) }", "Clip"),
    "BatchNormalization-7": (7, MAP + BN.replace("SPATIAL", "spatial = 1"), "BatchNormalization"),
    "BatchNormalization-9": (9, MAP + BN.replace("SPATIAL", "momentum = 0.9"), "BatchNormalization"),
    "BatchNormalization-7 by place": (8, PLACES, "Add Sqrt Sub Div Mul Add"),
    "Dropout-7": (7, "g (float[2,3] x) => (float[2,3] y) { y = Dropout <ratio = 0.3> (x) }", "Dropout"),
    "Dropout-7 mask": (
        8, "g (float[2,3] x) => (float[2,3] y, float[2,3] m) { y, m = Dropout <ratio = 0.3> (x) }",
        "Shape Dropout ConstantOfShape",
    ),
    "Dropout-10 mask": (
        10, "g (float[2,3] x) => (float[2,3] y, bool[2,3] m) { y, m = Dropout (x) }", "Shape Dropout ConstantOfShape"
    ),
    "Dropout-12 mask": (12, "g (float[2,3] x) => (float[2,3] y, bool[2,3] m) { y, m = Dropout (x) }", "Dropout"),
    "Softmax-11": (11, MAP + "{ y = Softmax <axis = 1> (x) }", "Flatten Softmax Reshape"),
    "Softmax-11 of any size": (
        11, "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Softmax (x) }", "Shape Flatten Softmax Reshape"
    ),
    "Softmax-1 of all": (8, MAP + "{ y = Softmax <axis = 0> (x) }", "Flatten Softmax Reshape"),
    "Softmax-1 of vectors": (9, "g (float[2,3,1,1] x) => (float[2,3,1,1] y) { y = Softmax (x) }", "Softmax"),
    "LogSoftmax-11": (12, MAP + "{ y = LogSoftmax <axis = -2> (x) }", "Flatten LogSoftmax Reshape"),
    "LogSoftmax-11 last": (12, MAP + "{ y = LogSoftmax <axis = -1> (x) }", "LogSoftmax"),
    "Hardmax-11": (12, MAP + "{ y = Hardmax (x) }", "Flatten Hardmax Reshape"),
    "Squeeze-1": (
        9, "g (float[1,3,1,5] x) => (float[a,b,c] y) "
        "{ q = Squeeze <axes = [0, 2]> (x) y = Unsqueeze <axes = [1]> (q) }",
        "Squeeze Unsqueeze",
    ),
    "Squeeze-11 of all": (12, "g (float[1,3,1,5] x) => (float[a,b] y) { y = Squeeze (x) }", "Squeeze"),
    "ReduceSum-11": (12, MAP + "{ y = ReduceSum <axes = [1, -1]> (x) }", "ReduceSum"),
    "ReduceSum-1 of all": (7, "g (float[2,3] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }", "ReduceSum"),
    "ReduceMean-1": (9, MAP + "{ y = ReduceMean <axes = [1, 3]> (x) }", "ReduceMean"),
    "TopK-1": (9, "g (float[3,5] x) => (float[a,b] y, int64[a,b] i) { y, i = TopK <k = 2, axis = 1> (x) }", "TopK"),
    "TopK-10": (
        10, "g (float[3,5] x) => (float[a,b] y, int64[a,b] i) <int64[1] k = {2}> { y, i = TopK <axis = 1> (x, k) }",
        "TopK",
    ),
    "Cast-6": (8, TABLE + "{ q = Cast <to = 7> (x) y = Cast <to = 1> (q) }", "Cast Cast"),
    "Split-2": (11, "g (float[3,5] x) => (float[2,5] y) { q, p = Split <axis = 0, split = [1, 2]> (x) y = Neg (p) }",
                "Split Neg"),
    "Split-11 in halves": (12, "g (float[4,5] x) => (float[2,5] y) { q, p = Split (x) y = Neg (p) }", "Split Neg"),
    "Scatter-9": (
        9, TABLE + "<int64[1,3] i = {0, 2, 1}, float[1,3] u = {9, 8, 7}> { y = Scatter <axis = 0> (x, i, u) }",
        "ScatterElements",
    ),
    "RoiAlign-10": (
        11, MAP + """<float[1,4] r = {1, 1, 5, 6}, int64[1] i = {0}>
        { y = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (x, r, i) }""", "RoiAlign",
    ),
    "MaxPool-8": (8, "g (float[1,2,7,7] x) => (float[a,b,c,d] y, int64[a,b,c,d] i) "
                  "{ y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }", "MaxPool"),
    "AveragePool-7": (
        7, MAP + '{ y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER"> (x) }',
        "AveragePool",
    ),
    "in a subgraph": (
        9, """g (float[1,4] x, bool c) => (float[1,4] y) { y = If <
        then_branch = t () => (float[1,4] p) { q = Relu (x) p = Clip <min = 0.1, max = 0.3> (q) },
        else_branch = e () => (float[1,4] r) { u = Squeeze <axes = [0]> (x) r = Unsqueeze <axes = [0]> (u) }> (c) }""",
        "If",
    ),
}  # fmt: skip
WITHOUT_FORM = {
    "two outputs of BatchNormalization": (
        9, MAP + BN.replace("y =", "y, more =").replace("SPATIAL", "momentum = 0.9"), "training mode"
    ),
    "Resize of opset 11": (
        11, CASES["Resize-11"][1].replace("floor", "ceil"), "tf_half_pixel_for_nn"
    ),
    "opset 6": (6, "g (float[2] x) => (float[2] y) { y = Relu (x) }", "opset 7 and newer"),
}  # fmt: skip


def parsed(opset: int, text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 4, opset_import: ["" : {opset}]> {text}')


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    before = graph.opset
    assert raise_opset(graph) == [f"converted from opset {before} to {OLDEST_OPSET}"]
    made = ir.to_model(graph)
    onnx.checker.check_model(made, full_check=True)
    return made


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    rng, feeds = np.random.default_rng(0), {}
    for info in model.graph.input:
        sizes = [d.dim_value or 4 for d in info.type.tensor_type.shape.dim]
        feeds[info.name] = rng.standard_normal(sizes).astype(np.float32)
    feeds |= {"s": np.array([1, 1, 0.6, 1.7], np.float32)} if "s" in feeds else {}
    feeds |= {"c": np.array(True)} if "c" in feeds else {}
    return list(open_session(model.SerializeToString()).run(None, feeds))


@pytest.mark.parametrize("name", CASES)
def test_the_raised_graph_gives_the_same_numbers(name: str) -> None:
    opset, text, ops = CASES[name]
    model = parsed(opset, text)
    made = raised(model)
    assert [o.version for o in made.opset_import] == [OLDEST_OPSET]
    assert " ".join(node.op_type for node in made.graph.node) == ops
    for want, got in zip(outputs(model), outputs(made), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        rounded = name == "BatchNormalization-7 by place"
        np.testing.assert_allclose(got, want, rtol=1e-6 if rounded else 0, atol=1e-6 if rounded else 0)


def test_every_rule_has_a_case() -> None:
    shown = {node.op_type for opset, text, _ in CASES.values() for node in parsed(opset, text).graph.node}
    assert set(RULES) - shown == {"Scan"}, "ONNX Runtime has no Scan of opset 8"


@pytest.mark.parametrize("name", WITHOUT_FORM)
def test_what_has_no_newer_form_is_refused_with_the_reason(name: str) -> None:
    opset, text, why = WITHOUT_FORM[name]
    with pytest.raises(SourceError, match=why):
        raised(parsed(opset, text))


def test_a_scan_of_opset_8_is_refused() -> None:
    text = """g (float[1,2] s, float[1,3,2] x) => (float[1,2] f, float[1,3,2] y) {
        f, y = Scan <num_scan_inputs = 1, body =
            b (float[2] a, float[2] c) => (float[2] d, float[2] e) { d = Add (a, c) e = Identity (d) }> (, s, x) }"""
    with pytest.raises(SourceError, match="each element of a batch"):
        raised(parsed(8, text))


def test_models_of_the_oldest_ir_version_become_valid() -> None:
    """Below IR version 4 every initializer is an input too."""
    model = parsed(8, "g (float[1,3,4,4] x, float[2,3,1,1] w) => (float[1,2,4,4] y) "
                   "<float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}> { y = Conv (x, w) }")  # fmt: skip
    model.ir_version = 3
    made = raised(model)
    assert [i.name for i in made.graph.input] == ["x"]
    assert made.ir_version >= 8, "the first with opset 17"


def test_recent_opsets_stay() -> None:
    graph = ir.from_model(parsed(18, "g (float[2] x) => (float[2] y) { y = Relu (x) }"))
    assert raise_opset(graph) == [] and graph.opset == 18


def test_tensors_and_nodes_agree_about_each_other() -> None:
    """Passes cut links later, which must be there on both sides."""
    for opset, text, _ in CASES.values():
        graph = ir.from_model(parsed(opset, text))
        ir.infer_shapes(graph)
        raise_opset(graph)
        for node in graph.nodes:
            assert all(any(user is node for user in t.outputs) for t in node.inputs if not t.is_empty()), node.name
            assert all([maker is node for maker in t.inputs] == [True] for t in node.outputs), node.name
