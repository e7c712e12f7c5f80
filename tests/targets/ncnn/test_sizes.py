"""Sizes known at run time only: expressions, and one engine at many sizes."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

pytest.importorskip("ncnn")

from segc.errors import CompileError
from segc.graph import ir
from segc.pipeline.stages import standard
from segc.runtime.resize import resize_argmax
from segc.targets.ncnn.lower.size_expressions import SizeInputs, sizes_of
from segc.targets.ncnn.net.net import Refused
from segc.targets.ncnn.net.reshape_params import same_sizes
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import LogitsSession, Session, Settings

HEAD = '<ir_version: 9, opset_import: ["" : 20, "segc" : 1]> g (float[N,3,H,W] x) => (float[N,C,P,Q] logits)'
WEIGHTS = ", ".join(f"{v:.3f}" for v in np.random.default_rng(0).standard_normal(135))
CONSTANTS = f"""<float[5,3,3,3] w = {{{WEIGHTS}}}, int64[1] one = {{1}}, int64[1] eight = {{8}}, int64[1] two = {{2}},
    int64[1] four = {{4}}, int64[3] flat = {{0, 5, -1}}, int64 at = {{2}}, int64 across = {{3}},
    int64[1] front = {{0}}>"""
DOWN = "a = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)  kept = Shape<end = 2>(a) "
BODIES = {
    "to the input": DOWN
    + """s = Shape<start = 2>(x)  t = Concat<axis = 0>(kept, s)
        logits = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(a, , , t)""",
    "to an eighth and back": DOWN
    + """s = Shape(x)  h = Gather(s, at)  g = Unsqueeze(h, front)  i = Sub(g, one)  j = Div(i, eight)  k = Add(j, one)
        v = Gather(s, across)  r = Unsqueeze(v, front)  u = Div(r, two)  z = Max(u, one)
        t = Concat<axis = 0>(kept, k, z)
        b = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(a, , , t)
        c = segc.AdaptiveAvgPool2d<output_size = [2, 3]>(b)  m = Slice(s, two, four)
        logits = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel", axes = [2, 3]>(c, , , m)""",
    "rounded up": DOWN
    + """b = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(a)
        s = Shape<start = 2>(x)  t = Concat<axis = 0>(kept, s)
        logits = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(b, , , t)""",
    "with channels last": DOWN
    + """p = Transpose<perm = [0, 2, 3, 1]>(a)  q = Softmax<axis = 3>(p)  r = Transpose<perm = [0, 3, 1, 2]>(q)
        s = Shape<start = 2>(x)  t = Concat<axis = 0>(kept, s)
        logits = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(r, , , t)""",
    "through a row of pixels": DOWN
    + """p = Reshape(a, flat)  q = Softmax<axis = 1>(p)  s = Shape(a)  r = Reshape(q, s)  t = Mul(r, a)  m = Shape(x)
        n = Slice(m, two, four)  o = Concat<axis = 0>(kept, n)
        logits = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(t, , , o)""",
}


def model_of(body: str, sides: str = "P,Q") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD.replace('P,Q', sides)} {CONSTANTS} {{ {body} }}")


def session_of(body: str, folder: Path, mask: bool = False, sides: str = "P,Q") -> Session:
    graph = ir.from_model(model_of(body, sides))
    ir.infer_shapes(graph)
    standard(NCNN, shape=None, mask=mask, simplify=False).run(graph)
    assert [why for node in graph.nodes if (why := NCNN.why_not(node))] == []
    emitted = NCNN.emit(ir.to_model(graph, functions=False), folder, Settings())
    return NCNN.load(folder, emitted.options, 1)


def reference(body: str, x: np.ndarray) -> np.ndarray:
    graph = ir.from_model(model_of(body))
    session = onnxruntime.InferenceSession(ir.to_model(graph).SerializeToString())
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("what", BODIES)
def test_one_engine_runs_at_every_size(what: str, tmp_path: Path) -> None:
    session = session_of(BODIES[what], tmp_path)
    for shape in ((1, 3, 16, 24), (2, 3, 17, 31), (1, 3, 40, 9)):
        x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
        want, got = reference(BODIES[what], x), session.run(x)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, float(np.abs(want).max())))


def test_masks_too(tmp_path: Path) -> None:
    session = session_of(BODIES["to the input"], tmp_path, mask=True)
    for shape in ((1, 3, 16, 24), (2, 3, 17, 31)):
        x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
        assert (session.run(x) == reference(BODIES["to the input"], x).argmax(1)).mean() > 0.999


@pytest.mark.parametrize("what", ["to the input", "to an eighth and back", "with channels last"])
def test_the_net_of_a_mask_gives_the_logits_before_its_last_resize_too(what: str, tmp_path: Path) -> None:
    session = cast(LogitsSession, session_of(BODIES[what], tmp_path, mask=True, sides="H,W"))
    for shape in ((1, 3, 16, 24), (2, 3, 17, 31)):
        x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
        small, mask = session.run_logits(x), session.run(x)
        assert small.shape[:2] == (shape[0], 5) and small.shape[2:] != mask.shape[1:]
        made = np.stack([resize_argmax(one, (shape[2], shape[3]), align_corners=False) for one in small])
        assert (made == mask).mean() > 0.999
        assert (made == reference(BODIES[what], x).argmax(1)).mean() > 0.999


BYPASSED = (
    DOWN
    + """s = Shape<start = 2>(x)  t = Concat<axis = 0>(kept, s)
    b = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(a, , , t)
    c = Conv<pads = [1, 1, 1, 1]>(x, w)  logits = Add(b, c)"""
)


def test_logits_that_are_no_resize_are_given_at_their_own_size(tmp_path: Path) -> None:
    session = cast(LogitsSession, session_of(BYPASSED, tmp_path, mask=True, sides="H,W"))
    x = np.random.default_rng(0).standard_normal((1, 3, 17, 31)).astype(np.float32)
    np.testing.assert_allclose(session.run_logits(x), reference(BYPASSED, x), atol=2e-4)
    np.testing.assert_array_equal(session.run_logits(x).argmax(1), session.run(x))


@pytest.mark.parametrize("mask", [False, True])
def test_there_are_none_beside_logits_or_where_sizes_are_not_the_inputs(mask: bool, tmp_path: Path) -> None:
    graph = ir.from_model(model_of(BODIES["to the input"]))
    ir.infer_shapes(graph)
    standard(NCNN, shape=None, mask=mask, simplify=False).run(graph)
    emitted = NCNN.emit(ir.to_model(graph, functions=False), tmp_path, Settings())
    assert emitted.beside is None and "logits" not in emitted.options


TOKENS = "<int64[1] from = {%d}, int64[1] to = {%d}, int64[1] along = {2}, int64[1] step = {%d}>"
LAST = 2**63 - 1


def sliced(side: str, start: int, end: int, step: int = 1) -> onnx.ModelProto:
    """A Slice of axis 2 of x (1, 2, side, 6)."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1,2,P,6] x) => (float[1,2,Q,6] y)
            {TOKENS % (start, end, step)} {{ y = Slice(x, from, to, along, step) }}"""
    )
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = side
    return model


@pytest.mark.parametrize(
    ("start", "end"), [(0, -3), (1, LAST), (2, 2**31), (1, -2), (3, -1), (-3, LAST), (-2, -1), (0, 2), (1, 4), (4, -5)]
)
def test_ends_of_a_side_known_at_run_time_only_are_cut_off(start: int, end: int, tmp_path: Path) -> None:
    """Class tokens, before and behind those of the patches."""
    model = sliced("h*w + 9", start, end)
    emitted = NCNN.emit(model, tmp_path, Settings())
    session = NCNN.load(tmp_path, emitted.options, 1)
    for side in (10, 13, 40):
        x = np.random.default_rng(side).standard_normal((1, 2, side, 6)).astype(np.float32)
        np.testing.assert_array_equal(session.run(x), x[:, :, start:end], strict=True)


def test_a_known_side_may_be_cut_along_with_it(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 20]> g (float[1,2,P,6] x) => (float[1,2,Q,3] y)
            <int64[2] from = {1, 2}, int64[2] to = {-1, 5}, int64[2] along = {2, 3}>
            { y = Slice(x, from, to, along) }"""
    )
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "P + 2"
    session = NCNN.load(tmp_path, NCNN.emit(model, tmp_path, Settings()).options, 1)
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 6)).astype(np.float32)
    np.testing.assert_array_equal(session.run(x), x[:, :, 1:-1, 2:5], strict=True)


def test_a_cut_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    """Of an image too small for a single patch ONNX leaves an empty tensor, which ncnn knows not."""
    session = NCNN.load(tmp_path, NCNN.emit(sliced("P//16 + 1", 1, LAST), tmp_path, Settings()).options, 1)
    with pytest.raises(CompileError):
        session.run(np.ones((1, 2, 1, 6), np.float32))


@pytest.mark.parametrize(
    ("side", "start", "end", "step", "reason"),
    [
        ("P", -3, LAST, 1, "may be shorter than 3 cells"),
        ("P + 1", 0, -3, 1, "may be shorter than 3 cells"),
        ("P + 1", 2, -3, 1, "may be shorter than 5 cells"),
        ("P", 0, 4, 1, "may be shorter than 4 cells"),
        ("P + 9", -3, 2, 1, "its result may be empty"),
        ("P + 9", 3, 2, 1, "its result may be empty"),
        ("P + 9", -2, -3, 1, "its result may be empty"),
        ("P + 9", 0, -1, 2, "step 2 along a side"),
        ("P + 9", -1, -LAST, -1, "step -1 along a side"),
    ],
)
def test_cuts_that_a_short_side_would_clip_are_refused(side: str, start: int, end: int, step: int, reason: str) -> None:
    graph = ir.from_model(sliced(side, start, end, step))
    assert reason in str(NCNN.why_not(graph.nodes[0]))


def expression(body: str, tensor: str) -> str:
    graph = ir.from_model(model_of(f"{body} logits = Conv(x, w)"))
    ir.infer_shapes(graph)
    made = next(t for node in graph.nodes for t in node.outputs if t.name == tensor)
    return SizeInputs(graph.inputs[0]).expression(sizes_of(made))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("s = Shape<start = 2, end = 4>(x) t = Identity(s)", "0h,0w"),
        ("s = Shape<start = 3>(x) t = Div(s, eight)", "//(0w,8)"),
        ("s = Shape<start = 3>(x) m = Neg(one) n = Identity(one) t = Sub(s, n)", "-(0w,1)"),
        ("s = Shape<start = 3>(x) u = Mul(s, two) v = Min(u, eight) t = Add(v, s)", "+(min(*(0w,2),8),0w)"),
        ("t = Shape<start = 1, end = 2>(x)", "3"),
    ],
)
def test_shape_arithmetic_becomes_an_expression(body: str, wanted: str) -> None:
    assert expression(body, "t") == wanted


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = Shape<start = 3>(x) t = Div(eight, s)", "divided by a number that is not a positive constant"),
        ("s = Shape<start = 3>(x) t = Mod(s, eight)", "computed by Mod"),
        ("f = ReduceMax<keepdims = 0>(x) u = Cast<to = 7>(f) t = Unsqueeze(u, front)", "computed from data"),
    ],
)
def test_what_is_no_size_is_refused(body: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        expression(body, "t")


def test_shapes_that_differ_by_ones_need_no_numbers() -> None:
    assert same_sizes((5, None, None), (5, 1, None, None)) == "0w,0h,1,0c"
    assert same_sizes((1, None, None), (None, 1, None)) == "0w,1,0h"
    with pytest.raises(Refused, match="known at run time only"):
        same_sizes((5, None, None), (5, None, 2, None))


def test_channels_that_onnx_knows_and_ncnn_computes_feed_a_convolution(tmp_path: Path) -> None:
    """A Reshape by an expression leaves the channels to -1; the exporter said how many they are."""
    body = """p = Reshape(x, line)  q = Softmax<axis = 2>(p)  n = Shape<end = 1>(x)  s = Shape<start = 2>(x)
        t = Concat<axis = 0>(n, rest, s)  r = Reshape(q, t)  logits = Conv<pads = [1, 1, 1, 1]>(r, w)"""
    known = "float[N,3,H,W] r, int64[1] rest = {-1}, int64[3] line = {0, 3, -1}>"
    model = onnx.parser.parse_model(f"{HEAD} {CONSTANTS[:-1]}, {known} {{ {body} }}")
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    standard(NCNN, shape=None, simplify=False).run(graph)
    emitted = NCNN.emit(ir.to_model(graph, functions=False), tmp_path, Settings())
    x = np.random.default_rng(0).standard_normal((1, 3, 9, 14)).astype(np.float32)
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(NCNN.load(tmp_path, emitted.options, 1).run(x), want, atol=2e-5)
