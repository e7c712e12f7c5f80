from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.masks.append_argmax import AppendArgMax
from segc.passes.support import evaluate
from segc.runtime.masks.sigmoid_threshold import cutoff
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

MASK = "i = ArgMax <axis = 1, keepdims = 0> (y)  mask = Cast <to = 2> (i)"


def logits(shape: str, dtype: str = "float") -> str:
    return HEAD + f"g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{ y = Neg (x) }}"


def mask_of(step: AppendArgMax, x: np.ndarray) -> np.ndarray:
    """The mask for logits `x` (N, C, H, W); the model negates its input."""
    graph = graph_of(logits(",".join(map(str, x.shape)), {"float32": "float", "float16": "float16"}[x.dtype.name]))
    assert step.run(graph).changes == 1
    return evaluate.outputs(graph, {"x": -x})["mask"]


def test_several_classes_become_an_argmax() -> None:
    check_pass(
        AppendArgMax(),
        logits("N,19,H,W"),
        HEAD
        + """g (float[N,19,H,W] x) => (uint8[N,H,W] mask) {
            y = Neg (x)  mask_index = ArgMax <axis = 1, keepdims = 0> (y)  mask = Cast <to = 2> (mask_index)
        }""",
        same_outputs=False,
    )


def test_one_class_is_compared_with_the_logit_of_the_threshold() -> None:
    check_pass(
        AppendArgMax(0.5),
        logits("N,1,H,W"),
        HEAD
        + """g (float[N,1,H,W] x) => (uint8[N,H,W] mask) <float mask_cutoff = {0}, int64[1] mask_plane_axes = {1}> {
            y = Neg (x)  mask_above = Greater (y, mask_cutoff)
            mask_plane = Squeeze (mask_above, mask_plane_axes)  mask = Cast <to = 2> (mask_plane)
        }""",
        same_outputs=False,
    )


@pytest.mark.parametrize(("classes", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_the_type_holds_every_class_and_the_numbers_are_those_of_argmax(classes: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((2, classes, 3, 5)).astype(np.float32)
    x[:, -1, 0, 0] = 9
    mask = mask_of(AppendArgMax(), x)
    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask, x.argmax(1))


def test_the_lowest_index_wins_a_tie_as_in_torch() -> None:
    assert not mask_of(AppendArgMax(), np.ones((1, 3, 2, 2), np.float32)).any()


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1e-9, 0.3, 0.5, 0.9, 1 - 1e-9, 1.0, 1.5])
def test_one_class_agrees_with_sigmoid_in_double_precision(threshold: float) -> None:
    x = np.array([-60, -20, -2, -0.8473, -0.8472, 0, 0.1, 2, 19, 60], np.float32).reshape(1, 1, 2, 5)
    if 0 < threshold < 1e-6 or 1 - 1e-6 < threshold < 1:
        x = np.clip(x, -10, 10)  # beyond, a float sigmoid is no longer what it says
    want = 1 / (1 + np.exp(-x.astype(np.float64))) > threshold
    np.testing.assert_array_equal(mask_of(AppendArgMax(threshold), x), want[:, 0])


def test_a_threshold_where_sigmoid_saturates_keeps_the_sigmoid() -> None:
    graph = check_pass(AppendArgMax(1e-9), logits("1,1,2,2"), None, same_outputs=False)
    assert [n.op for n in graph.nodes] == ["Neg", "Sigmoid", "Greater", "Squeeze", "Cast"]


def test_no_threshold_of_a_number_holds_for_nan() -> None:
    x = np.full((1, 1, 1, 1), np.nan, np.float32)
    assert not any(mask_of(AppendArgMax(t), x).any() for t in (-1.0, 0.0, 0.3, 1.0))


@given(st.floats(1e-4, 1 - 1e-4), st.sampled_from(["float32", "float16"]))
def test_the_cutoff_is_the_last_value_that_is_not_above_the_threshold(threshold: float, name: str) -> None:
    dtype = np.dtype(name)
    cut = cutoff(threshold, dtype)
    if cut is None:
        assert name == "float16" and min(threshold, 1 - threshold) < 1e-3
        return
    exact = math.log(threshold) - math.log1p(-threshold)
    assert cut <= exact < float(np.nextafter(dtype.type(cut), dtype.type(np.inf)))


def test_half_precision_logits_work() -> None:
    x = np.array([[-2, 2], [0, -0.5]], np.float16).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(mask_of(AppendArgMax(0.3), x)[0], [[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (logits("N,1,H,W"), "one channel needs a threshold"),
        (logits("N,C,H,W"), "the number of channels is unknown"),
        (logits("N,70000,H,W"), "70000 classes do not fit uint16"),
        (f"{HEAD} g (float[N,2,H,W] x) => (float[N,2,H,W] y, uint8[N,H,W] mask) {{ y = Neg (x) {MASK} }}", "2 outputs"),
        (f"{HEAD} g (float[N,2,H,W] x) => (uint8[N,H,W] mask, float[N,2,H,W] y) {{ y = Neg (x) {MASK} }}", "2 outputs"),
        (logits("N,3"), r"the output has shape ['N', 3]"),
        (
            HEAD + "g (float[1,2,3,4] x) => (float[1,2,3,4] y, float[1,2,3,4] z) { y = Neg (x)  z = Abs (x) }",
            "2 outputs",
        ),
        (HEAD + "g (float[1,2,3,4] mask) => (float[1,2,3,4] y) { y = Neg (mask) }", "an input has the name 'mask'"),
    ],
)
def test_what_is_no_logits_map_is_left_alone_and_says_why(text: str, reason: str) -> None:
    check_untouched(AppendArgMax(), text, reason)


def test_a_tensor_that_is_called_mask_already_makes_room() -> None:
    text = HEAD + "g (float[1,2,3,4] x) => (float[1,2,3,4] y) { mask = Neg (x)  y = Abs (mask) }"
    graph = check_pass(AppendArgMax(), text, None, same_outputs=False)
    assert [t.name for t in graph.outputs] == ["mask"]


def test_a_graph_that_ends_in_a_mask_already_is_left_alone() -> None:
    text = HEAD + f"g (float[N,2,H,W] x) => (uint8[N,H,W] mask) {{ y = Neg (x) {MASK} }}"
    check_untouched(AppendArgMax(), text, None)
