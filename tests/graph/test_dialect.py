"""Reference bodies of the dialect, run by ONNX Runtime, against torch; and their shape rules."""

from __future__ import annotations

import numpy as np
import onnx.checker
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import dialect, ir
from tests.helpers.run_graph import run
from tests.helpers.tiny_models import parsed


def pooled(x: np.ndarray, size: tuple[int, int], opset: int = 20) -> np.ndarray:
    attribute = f"output_size = [{size[0]}, {size[1]}]"
    text = f"g (float[N,C,H,W] x) => (float[N,C,A,B] y) {{ y = segc.AdaptiveAvgPool2d<{attribute}>(x) }}"
    return run(ir.from_model(parsed(text, opset)), {"x": x})[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 23), st.integers(1, 23), st.integers(1, 9), st.integers(1, 9))
def test_the_pool_equals_torchs_for_every_size(height: int, width: int, rows: int, columns: int) -> None:
    x = np.random.default_rng(height * 31 + width).standard_normal((2, 3, height, width)).astype(np.float32)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x), (rows, columns)).numpy()
    np.testing.assert_allclose(pooled(x, (rows, columns)), expected, atol=1e-6)


@pytest.mark.parametrize("opset", [15, 17, 20])
def test_a_kept_side_is_torchs_none_at_every_opset(opset: int) -> None:
    x = np.random.default_rng(1).standard_normal((1, 2, 7, 5)).astype(np.float32)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x), (3, None)).numpy()
    np.testing.assert_allclose(pooled(x, (3, -1), opset), expected, atol=1e-6)
    np.testing.assert_array_equal(pooled(x, (-1, -1), opset), x)


@pytest.mark.parametrize("size", [(7, 11), (16, 9), (3, 5), (1, 1), (13, 2)])
@pytest.mark.parametrize("mode, align", [("half_pixel", False), ("align_corners", True)])
def test_resize_then_argmax_equals_torchs(size: tuple[int, int], mode: str, align: bool) -> None:
    x = np.random.default_rng(2).standard_normal((2, 4, 5, 3)).astype(np.float32)
    text = f"""g (float[N,C,H,W] x) => (int64[N,1,A,B] y) {{
        size = Constant<value_ints = [{size[0]}, {size[1]}]>()
        y = segc.ResizeArgMax<coordinate_transformation_mode = "{mode}">(x, size) }}"""
    large = F.interpolate(torch.from_numpy(x), size=size, mode="bilinear", align_corners=align)
    np.testing.assert_array_equal(run(ir.from_model(parsed(text)), {"x": x})[0], large.argmax(1, keepdim=True).numpy())


def test_the_lowest_class_wins_a_tie() -> None:
    text = """g (float[1,3,2,2] x) => (int64[1,1,4,4] y) {
        size = Constant<value_ints = [4, 4]>()
        y = segc.ResizeArgMax<coordinate_transformation_mode = "half_pixel">(x, size) }"""
    assert not run(ir.from_model(parsed(text)), {"x": np.ones((1, 3, 2, 2), np.float32)})[0].any()


def test_shapes_are_inferred_as_the_bodies_give_them() -> None:
    for size in [(2, 3), (-1, 4), (5, -1)]:
        attribute = f"output_size = [{size[0]}, {size[1]}]"
        text = f"g (float[2,3,9,13] x) => (y) {{ y = segc.AdaptiveAvgPool2d<{attribute}>(x) }}"
        graph = ir.from_model(parsed(text))
        ir.infer_shapes(graph)
        assert tuple(graph.outputs[0].shape) == pooled(np.zeros((2, 3, 9, 13), np.float32), size).shape


def test_every_op_has_a_valid_body_a_summary_and_a_rule() -> None:
    for name, op in dialect.OPS.items():
        function = dialect.function(name, 20)
        context = onnx.checker.C.CheckerContext()
        context.ir_version, context.opset_imports = 10, {"": 20, dialect.DOMAIN: 1}
        onnx.checker.check_function(function, context)
        assert (function.domain, function.name, bool(op.summary)) == (dialect.DOMAIN, name, True)
    with pytest.raises(KeyError):
        dialect.function("Nope", 20)
