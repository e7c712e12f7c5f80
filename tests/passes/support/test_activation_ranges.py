"""Ranges by ONNX Runtime's quantizer against NumPy."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from segc.passes.support.activation_ranges import METHODS, activation_ranges
from segc.passes.support.evaluate import CannotRun
from tests.helpers.checks import HEAD20

TEXT = HEAD20 + "g (float[1,3,16,16] x) => (float[1,3,16,16] z) { y = Relu (x)  z = Neg (y) }"


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 1, (1, 3, 16, 16)).astype(np.float32) for _ in range(6)]


def test_minmax_is_the_smallest_and_largest_value_of_all_inputs() -> None:
    found = activation_ranges(onnx.parser.parse_model(TEXT), pictures(), "minmax", ["Relu"])
    values = np.stack(pictures())
    assert found["x"] == pytest.approx((values.min(), values.max()))
    assert found["y"] == pytest.approx((0, values.max())) and "z" not in found


@pytest.mark.parametrize("method", METHODS[1:])
def test_the_other_methods_cut_off_outliers(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = pictures()
    inputs[3][0, 0, 0, 0] = 1000
    low, high = activation_ranges(onnx.parser.parse_model(TEXT), inputs, method, ["Relu"])["x"]
    assert low < high < 999 and capsys.readouterr().out == ""


def test_what_onnx_runtime_refuses_is_said() -> None:
    with pytest.raises(CannotRun):
        activation_ranges(onnx.parser.parse_model(TEXT), [np.zeros((1, 2, 16, 16), np.float32)], "minmax", ["Relu"])
