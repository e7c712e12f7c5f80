from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest

from segc.graph import ir
from segc.graph.invariants import INVARIANTS
from segc.passes.inputs.specialize_shapes import SpecializeShapes, image_input
from segc.passes.support import evaluate
from segc.pipeline.buckets import specialize
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of, text_of

UPSAMPLE = """g (float[N,3,H,W] x) => (float[N,3,A,B] y)
    <int64[1] two = {2}, int64[1] four = {4}, int64 at = {2}, int64 half = {2},
    int64[1] last = {3}, int64[1] zero = {0}> {
        small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        whole = Shape (x)
        height = Gather (whole, at)
        double = Mul (height, half)
        same = Div (double, half)
        tall = Unsqueeze (same, zero)
        wide = Slice (whole, last, four)
        outer = Slice (whole, zero, two)
        sizes = Concat <axis = 0> (outer, tall, wide)
        y = Resize <mode = "linear"> (small, , , sizes)
    }"""


def test_a_bound_graph_keeps_no_shape_arithmetic() -> None:
    graph = check_pass(
        SpecializeShapes(1, 6, 10),
        HEAD + UPSAMPLE,
        HEAD
        + """g (float[1,3,6,10] x) => (float[1,3,6,10] y) <int64[4] sizes = {1, 3, 6, 10}> {
            small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            y = Resize <mode = "linear"> (small, , , sizes)
        }""",
        changes=14,
    )
    assert SpecializeShapes(1, 6, 10).ensures == {"static shapes"}
    assert not [n for n in graph.nodes if n.op == "Shape"]


def test_a_partial_binding_folds_what_it_decides() -> None:
    graph = check_pass(SpecializeShapes(height=6, width=10), HEAD + UPSAMPLE, None, changes=10)
    assert sorted(n.op for n in graph.nodes) == ["Concat", "MaxPool", "Resize", "Shape", "Slice"]
    assert SpecializeShapes(height=6, width=10).ensures == frozenset()


def test_shape_with_start_and_end_is_understood() -> None:
    check_pass(
        SpecializeShapes(width=7),
        HEAD
        + """g (float[N,3,H,W] x) => (float[N,3,H,W] y)
        { s = Shape <start = 3> (x)  c = Cast <to = 1> (s)  y = Mul (x, c) }""",
        HEAD + "g (float[N,3,H,7] x) => (float[N,3,H,7] y) <float[1] c = {7}> { y = Mul (x, c) }",
        changes=3,
    )


def test_range_and_expand_of_known_sizes_become_constants() -> None:
    check_pass(
        SpecializeShapes(2, 1, 3),
        HEAD20
        + """g (float[N,1,H,W] x) => (float[N,1,H,W] y) <int64 from = {0}, int64 by = {1}, int64 at = {3}> {
            s = Shape (x)  w = Gather (s, at)  r = Range (from, w, by)  f = Cast <to = 1> (r)  y = Add (x, f)
        }""",
        HEAD20 + "g (float[2,1,1,3] x) => (float[2,1,1,3] y) <float[3] f = {0, 1, 2}> { y = Add (x, f) }",
        changes=9,
    )


def test_a_static_graph_gets_its_arithmetic_folded_without_binding_anything() -> None:
    check_pass(
        SpecializeShapes(),
        HEAD
        + """g (float[1,3,4,6] x) => (float[72] y) <int64[1] axes = {0}>
        { s = Size (x)  u = Unsqueeze (s, axes)  y = Reshape (x, u) }""",
        HEAD + "g (float[1,3,4,6] x) => (float[72] y) <int64[1] u = {72}> { y = Reshape (x, u) }",
        changes=2,
    )


def test_values_that_depend_on_data_stay() -> None:
    graph = graph_of(HEAD + "g (float[N,1,H,W] x) => (int64[4,K] y) { y = NonZero (x) }")
    SpecializeShapes(1, 2, 2).run(graph)
    assert [n.op for n in graph.nodes] == ["NonZero"] and graph.outputs[0].shape[0] == 4


def test_an_output_that_is_a_constant_stays_computed_and_says_why() -> None:
    text = HEAD + "g (float[1,3,4,6] x) => (int64[4] s, float[1,3,4,6] y) { s = Shape (x)  y = Relu (x) }"
    check_untouched(SpecializeShapes(1, 4, 6), text, "'s' is an output, and its value is a constant")


def test_a_static_graph_of_the_wanted_size_is_left_alone() -> None:
    text = HEAD + "g (float[1,3,4,6] x) => (float[1,3,4,6] y) { y = Relu (x) }"
    check_untouched(SpecializeShapes(1, 4, 6), text, None)


@pytest.mark.parametrize(
    ("shape", "step", "message"),
    [
        ("1,3,512,W", (1, 256, 256), "height 256 disagrees with input 'x', whose height is fixed at 512"),
        ("4,3,H,W", (1, 256, 256), "batch 1 disagrees with input 'x', whose batch is fixed at 4"),
        ("N,3,S,S", (1, 256, 512), "width 512 disagrees with height 256: both are 'S' in input 'x'"),
    ],
)
def test_a_size_that_disagrees_is_refused_and_named(shape: str, step: tuple[int, int, int], message: str) -> None:
    graph = graph_of(HEAD + f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}")
    printed = text_of(graph)
    with pytest.raises(ValueError, match=message):
        SpecializeShapes(*step).run(graph)
    assert text_of(graph) == printed


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_refused_before_a_model_is_seen(size: int) -> None:
    with pytest.raises(ValueError, match=f"height must be at least 1, not {size}"):
        SpecializeShapes(1, size, 8)


def test_a_graph_without_an_image_input_is_refused() -> None:
    graph = graph_of(HEAD + "g (float[3,H] x) => (float[3,H] y) { y = Relu (x) }")
    with pytest.raises(ValueError, match="no input with 4 dimensions"):
        image_input(graph)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            "t = Reshape (x, tokens)  y = Add (t, position)",
            r"height 4, width 4 does not fit the graph: Add '.*' reads 't' \[1, 16, 1\], 'position' \[1, 6, 1\];"
            " axis 1 from the right is 6 and 16",
        ),
        ("t = Reshape (x, tokens)  y = Concat <axis = 0> (t, position)", r"Concat .* axis 1 is 6 and 16"),
        ("t = Reshape (x, rows)  y = MatMul (t, square)", r"MatMul .* axis 0 of the sum is 6 and 16"),
        ("y = MaxPool <kernel_shape = [9, 1]> (x)", r"MaxPool '.*' would make 'y' of shape \[1, 1, -4, 4\]"),
    ],
)
def test_a_size_that_does_not_fit_the_weights_is_refused(nodes: str, message: str) -> None:
    """A position embedding made for 2 x 3 cells, and a window larger than the map."""
    out = "float[1,1,A,B]" if "MaxPool" in nodes else "float[A,B]" if "MatMul" in nodes else "float[A,B,1]"
    graph = graph_of(
        HEAD
        + f"""g (float[1,1,H,W] x) => ({out} y) <int64[3] tokens = {{1, -1, 1}}, int64[2] rows = {{1, -1}},
        float[1,6,1] position = {{1, 2, 3, 4, 5, 6}}, float[6,1] square = {{1, 2, 3, 4, 5, 6}}> {{ {nodes} }}"""
    )
    with pytest.raises(ValueError, match=message):
        SpecializeShapes(height=4, width=4).run(graph)


SHAPE_ONLY = {"Shape", "Size", "Range", "ConstantOfShape", "Cast", "Gather", "Floor", "Ceil", "Equal"}


@pytest.fixture(scope="module")
def dynamic() -> onnx.ModelProto:
    """What segmentation models do with sizes: upsample to another map, tokens and back, a grid of positions."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 4, 1)
            self.norm, self.linear = torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)

        def forward(self, x: Any) -> Any:
            low = self.stem(x)
            n, c, h, w = low.shape
            tokens = low.flatten(2).transpose(1, 2)
            tokens = tokens + torch.arange(h * w, device=x.device).view(1, -1, 1) / (h * w)
            tokens = self.linear(self.norm(tokens)) + torch.zeros(n, h * w, c)
            back = tokens.transpose(1, 2).reshape(n, c, h, w)
            small = torch.nn.functional.interpolate(back, scale_factor=0.5, mode="bilinear")
            fused = torch.cat([torch.nn.functional.interpolate(small, size=(h, w)), back], 1)[:, :8]
            return torch.nn.functional.interpolate(self.head(fused), size=x.shape[2:], mode="bilinear")

    torch.manual_seed(0)
    any_ = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Net().eval(),
            (torch.randn(2, 3, 20, 28),),
            dynamo=True,
            opset_version=20,
            input_names=["x"],
            dynamic_shapes={"x": {0: any_, 2: any_, 3: any_}},
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    return model


@pytest.mark.parametrize("bucket", [(1, 20, 28), (3, 33, 17)])
def test_nothing_but_layers_is_left_of_a_bound_export(dynamic: onnx.ModelProto, bucket: tuple[int, int, int]) -> None:
    source = ir.from_model(_copied(dynamic))
    ir.infer_shapes(source)
    assert SHAPE_ONLY & {n.op for n in source.nodes} >= {"Shape", "Range"}
    (graph,) = specialize(source, [bucket])
    assert not SHAPE_ONLY & {n.op for n in graph.nodes}, sorted({n.op for n in graph.nodes})
    assert INVARIANTS["static shapes"](graph) is None
    x = np.random.default_rng(0).standard_normal((bucket[0], 3, *bucket[1:])).astype(np.float32)
    want, got = (next(iter(evaluate.outputs(g, {"x": x}).values())) for g in (source, graph))
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("bucket", [(1, None, None), (None, 20, 28), (None, 20, None), (2, 20, None)])
def test_a_partly_bound_export_computes_the_same(
    dynamic: onnx.ModelProto, bucket: tuple[int | None, int | None, int | None]
) -> None:
    source = ir.from_model(_copied(dynamic))
    ir.infer_shapes(source)
    (graph,) = specialize(source, [bucket])
    size = [known or wanted for known, wanted in zip(bucket, (2, 24, 36), strict=True)]
    x = np.random.default_rng(0).standard_normal((size[0], 3, *size[1:])).astype(np.float32)
    want, got = (next(iter(evaluate.outputs(g, {"x": x}).values())) for g in (source, graph))
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert len(graph.nodes) <= len(source.nodes)


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
