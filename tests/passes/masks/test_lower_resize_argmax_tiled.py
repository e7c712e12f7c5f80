"""The fast lowerings of segc.ResizeArgMax, this one and by cells, give torch's masks in the runtimes they serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc import targets
from segc.graph import ir
from segc.passes.base import Pass
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.masks.lower_resize_argmax_cells import LowerResizeArgMaxCells
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.passes.support import evaluate
from segc.passes.support.resize_argmax_site import weights
from segc.targets.protocol import Settings
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of, text_of
from tests.helpers.mask_lowerings import MODES, STEPS, assert_masks, expected, lowered, tail

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("end", ["mask", "index", "kept"])
def test_the_result_keeps_its_shape_and_type(step: Pass, end: str) -> None:
    check_pass(step, tail(1, 5, 6, 7, (12, 14), end=end), None)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_batches_work(step: Pass) -> None:
    check_pass(step, tail(3, 4, 5, 6, (20, 18)), None)


@settings(max_examples=60, deadline=None)
@given(
    step=st.sampled_from(sorted(STEPS)), mode=st.sampled_from(MODES), c=st.integers(2, 6), h=st.integers(1, 9),
    w=st.integers(1, 9), tall=st.integers(0, 30), wide=st.integers(0, 30), whole=st.booleans(), ties=st.booleans(),
)  # fmt: skip
def test_any_size_equals_torch(
    step: str, mode: str, c: int, h: int, w: int, tall: int, wide: int, whole: bool, ties: bool
) -> None:
    size = (h * (1 + tall % 6), w * (1 + wide % 6)) if whole else (h + tall, w + wide)
    x = np.random.default_rng(h * w).standard_normal((1, c, h, w)).astype(np.float32)
    if ties and whole and mode != "align_corners" and size[0] // h in (1, 2, 4) and size[1] // w in (1, 2, 4):
        x = np.round(x)  # whole numbers and weights that are eighths: nothing is rounded, every tie is one
    graph = lowered(STEPS[step], tail(1, c, h, w, size, mode))
    assert_masks(evaluate.outputs(graph, {"x": x})["y"], x, size, mode)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_map_of_one_class_or_of_noise_leaves_no_cell_or_all_mixed(step: Pass) -> None:
    graph = lowered(step, tail(1, 7, 16, 16, (64, 64)))
    x = np.zeros((1, 7, 16, 16), np.float32)
    assert not evaluate.outputs(graph, {"x": x})["y"].any()
    x[:, 3] = 1
    assert (evaluate.outputs(graph, {"x": x})["y"] == 3).all()
    x = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    assert_masks(evaluate.outputs(graph, {"x": x})["y"], x, (64, 64), "half_pixel")


@pytest.mark.parametrize(("target", "step"), [("onnxruntime", "cells, small"), ("openvino", "tiled, small")])
@pytest.mark.parametrize("classes", [2, 19, 300])
def test_the_runtime_itself_gives_the_lowest_of_equals(target: str, step: str, classes: int, tmp_path: Path) -> None:
    pytest.importorskip(target)
    text = tail(1, classes, 12, 16, (48, 64))
    text = text.replace("uint8", "uint16").replace("to = 2", "to = 4") if classes > 256 else text
    runtime = targets.get(target)
    emitted = runtime.emit(ir.to_model(lowered(STEPS[step], text), functions=False), tmp_path, Settings())
    session = runtime.load(tmp_path, emitted.options, 1)
    for seed in range(3):
        x = np.round(np.random.default_rng(seed).standard_normal((1, classes, 12, 16))).astype(np.float32)
        large, want = expected(x, (48, 64), "half_pixel")
        assert ((large == large.max(1)).sum(1) > 1).mean() > 0.01, "no ties"
        np.testing.assert_array_equal(session.run(x), want)


def test_the_targets_use_them() -> None:
    assert isinstance(targets.get("onnxruntime").mask_lowering, LowerResizeArgMaxCells)
    assert isinstance(targets.get("openvino").mask_lowering, LowerResizeArgMaxTiled)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_what_they_cannot_do_becomes_resize_and_argmax(step: Pass) -> None:
    text = f"""{HEAD20} g (float[N,3,H,W] x) => (int64[N,1,A,B] y) <int64[2] add = {{3, 4}}, int64[1] two = {{2}},
        int64[1] four = {{4}}> {{ s = Shape (x)  i = Slice (s, two, four)  size = Add (i, add)
        y = segc.ResizeArgMax <coordinate_transformation_mode = "half_pixel"> (x, size) }}"""
    graph = check_pass(step, text, None, skips="is not static")
    assert [n.op for n in graph.nodes][-2:] == ["Resize", "ArgMax"]
    check_pass(step, tail(1, 3, 8, 8, (4, 9)), None, skips="smaller than the logits")
    half = tail(1, 3, 4, 4, (8, 8)).replace("float[", "float16[")
    plain, graph = graph_of(half), graph_of(half)
    assert "float16" in step.run(graph).skips[0].reason
    LowerResizeArgMax().run(plain)
    assert text_of(graph) == text_of(plain)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_graph_without_the_op_is_left_alone(step: Pass) -> None:
    check_untouched(step, HEAD + "g (float[N,3] x) => (int64[N,1] y) { y = ArgMax <axis = 1> (x) }", None)


def test_large_logits_are_never_there_as_a_whole() -> None:
    from segc.graph.analysis.liveness import peak_memory

    full = 4 * 150 * 256 * 256
    for last in (False, True):
        step = LowerResizeArgMaxTiled(strip_kb=1024, columns=128, classes_last=last)
        graph = lowered(step, tail(1, 150, 32, 32, (256, 256)))
        ir.infer_shapes(graph)
        assert peak_memory(graph).peak < full / 5
    plain = graph_of(tail(1, 150, 32, 32, (256, 256)))
    LowerResizeArgMax().run(plain)
    assert peak_memory(plain).peak > full


def test_asymmetric_coordinates_keep_their_meaning() -> None:
    for step in (STEPS["tiled, small"], STEPS["cells"]):
        check_pass(step, tail(1, 4, 5, 6, (20, 18), "asymmetric"), None)


def test_weights_are_torchs() -> None:
    for side, out, mode in ((128, 1024, "half_pixel"), (333, 1333, "pytorch_half_pixel"), (65, 513, "align_corners")):
        align = mode == "align_corners"
        eye = torch.eye(side)[:, None, :]
        want = torch.nn.functional.interpolate(eye, size=out, mode="linear", align_corners=align)[:, 0].numpy().T
        np.testing.assert_allclose(weights(side, out, mode), want, atol=1e-7)


@pytest.mark.parametrize("step", ["tiled", "cells"])
def test_an_opset_before_13_gets_a_resize_and_an_argmax(step: str) -> None:
    text = tail(1, 3, 4, 5, (8, 10), end="kept").replace('"" : 20', '"" : 12')
    graph = check_pass(
        STEPS[step], text, None, same_outputs=False, skips="this lowering needs opset 13, the graph has 12"
    )
    assert [n.op for n in graph.nodes] == ["Resize", "ArgMax"]
