from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.support.resize_matrix import (
    COORDINATES,
    ROUNDINGS,
    interpolation_matrix,
    nearest_cells,
    output_size,
)

sides = st.integers(1, 70)
KNOWN = [c for c in COORDINATES if c != "half_pixel_symmetric"]  # its float32 steps are not known, see the module


def runtime(size: int, out: int, mode: str, scale: float | None = None, **attrs: Any) -> np.ndarray:
    """ONNX Runtime's matrix: Resize of the identity, whose rows are maps of one row."""
    ort = pytest.importorskip("onnxruntime")
    lone = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Resize", ["x", "", "scales" if scale else "", "" if scale else "sizes"], ["y"])
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in {"mode": mode, **attrs}.items())
    given_ = np.array([1, 1, 1, scale], np.float32) if scale else np.array([size, 1, 1, out], np.int64)
    kind = onnx.TensorProto.FLOAT if scale else onnx.TensorProto.INT64
    inputs = [
        lone("x", onnx.TensorProto.FLOAT, [size, 1, 1, size]),
        lone("scales" if scale else "sizes", kind, [4]),
    ]
    graph = onnx.helper.make_graph([node], "g", inputs, [lone("y", onnx.TensorProto.FLOAT, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.eye(size, dtype=np.float32).reshape(size, 1, 1, size)
    y: np.ndarray = session.run(None, {"x": x, inputs[1].name: given_})[0]
    return y.reshape(size, -1).T


@settings(max_examples=300, deadline=None)
@given(sides, sides, st.sampled_from(KNOWN), st.sampled_from(ROUNDINGS))
def test_nearest_copies_the_cells_that_the_runtime_copies(size: int, out: int, where: str, rounding: str) -> None:
    want = runtime(size, out, "nearest", coordinate_transformation_mode=where, nearest_mode=rounding)
    np.testing.assert_array_equal(interpolation_matrix(size, out, "nearest", where, rounding=rounding), want)


@settings(max_examples=300, deadline=None)
@given(sides, sides, st.sampled_from(COORDINATES))
def test_linear_agrees_with_the_runtime(size: int, out: int, where: str) -> None:
    want = runtime(size, out, "linear", coordinate_transformation_mode=where)
    np.testing.assert_allclose(interpolation_matrix(size, out, "linear", where), want, atol=3e-5)


@settings(max_examples=300, deadline=None)
@given(sides, sides, st.sampled_from(COORDINATES), st.sampled_from([-0.75, -0.5]), st.booleans())
def test_cubic_agrees_with_the_runtime(size: int, out: int, where: str, a: float, exclude: bool) -> None:
    attrs: dict[str, Any] = {
        "coordinate_transformation_mode": where,
        "cubic_coeff_a": a,
        "exclude_outside": int(exclude),
    }
    want = runtime(size, out, "cubic", **attrs)
    got = interpolation_matrix(size, out, "cubic", where, cubic_coeff_a=a, exclude_outside=exclude)
    np.testing.assert_allclose(got, want, atol=1e-4)


@settings(max_examples=300, deadline=None)
@given(sides, st.floats(0.125, 4, width=32), st.sampled_from(["nearest", "linear", "cubic"]), st.sampled_from(KNOWN))
def test_scales_that_are_not_the_quotient_of_the_sizes_agree_too(
    size: int, scale: float, mode: str, where: str
) -> None:
    if (out := output_size(size, scale)) in (0, size):  # the runtime copies what keeps its size, whatever the scale
        return
    want = runtime(size, out, mode, scale, coordinate_transformation_mode=where)
    np.testing.assert_allclose(interpolation_matrix(size, out, mode, where, scale=scale), want, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.booleans(), st.sampled_from(["bilinear", "bicubic"]))
def test_linear_and_cubic_agree_with_torch(size: int, out: int, align: bool, mode: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.eye(size).reshape(size, 1, 1, size).expand(size, 1, 2, size)
    want = torch.nn.functional.interpolate(x, (2, out), mode=mode, align_corners=align)[:, 0, 0].numpy().T
    kind = {"bilinear": "linear", "bicubic": "cubic"}[mode]
    got = interpolation_matrix(size, out, kind, "align_corners" if align else "pytorch_half_pixel")
    if out == 1 and not align:  # torch makes no difference for one cell, ONNX's pytorch_half_pixel does
        got = interpolation_matrix(size, out, kind, "half_pixel")
    np.testing.assert_allclose(got, want, atol=1e-4)


@given(sides, sides, st.sampled_from(["linear", "cubic", "nearest"]), st.sampled_from(COORDINATES))
def test_rows_sum_to_one(size: int, out: int, mode: str, where: str) -> None:
    matrix = interpolation_matrix(size, out, mode, where)
    assert matrix.shape == (out, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-9)


@given(sides, st.sampled_from(["linear", "cubic", "nearest"]), st.sampled_from(COORDINATES))
def test_the_same_size_is_the_identity_unless_one_cell_is_special(size: int, mode: str, where: str) -> None:
    np.testing.assert_array_equal(interpolation_matrix(size, size, mode, where), np.eye(size))


def test_halves_go_where_the_rounding_says() -> None:
    assert nearest_cells(2, 1, rounding="round_prefer_floor").tolist() == [0]
    assert nearest_cells(2, 1, rounding="round_prefer_ceil").tolist() == [1]
    assert nearest_cells(2, 4, "asymmetric", rounding="floor").tolist() == [0, 0, 1, 1]
    assert nearest_cells(2, 4, "asymmetric", rounding="ceil").tolist() == [0, 1, 1, 1]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="mode 'area' is none of"):
        interpolation_matrix(2, 3, "area")
    with pytest.raises(ValueError, match="coordinates 'tf_crop_and_resize' are none of"):
        interpolation_matrix(2, 3, "linear", "tf_crop_and_resize")
    with pytest.raises(ValueError, match="rounding 'away' is none of"):
        interpolation_matrix(2, 3, "nearest", rounding="away")
