"""Quantized files in float32: the values that their integers stand for, with the clips and without the rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import segc
from segc import targets
from segc.errors import LegalityError, SourceError
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command
from tests.helpers.foreign_models import run
from tests.helpers.tiny_models import onnx_file

HEAD = "g (float[1,3,8,12] x) => (float[1,2,8,12] y)"
Q = "int8[2,3,1,1] q = {10, -20, 127, -128, 5, 60}"
EACH = "float[2] e = {0.01, 0.02}, int8[2] n = {0, 3}"
IN = "float s = {0.05}, uint8 z = {128}"
OUT = "float r = {0.04}, uint8 o = {0}"  # nothing below 0: a folded ReLU
BIAS = "int32[2] b = {400, -900}, float[2] c = {0.0005, 0.001}, int32[2] d = {0, 0}"
WEIGHT = np.array([[10, -20, 127], [-131, 2, 57]], np.float32) * np.array([[0.01], [0.02]], np.float32)
SHIFT = np.array([0.2, -0.9], np.float32)
FILES = {
    "pairs": (
        f"{HEAD} <{Q}, {EACH}, {IN}, {OUT}, {BIAS}> {{ a = QuantizeLinear(x, s, z) f = DequantizeLinear(a, s, z)"
        " w = DequantizeLinear<axis = 0>(q, e, n) k = DequantizeLinear<axis = 0>(b, c, d) p = Conv(f, w, k)"
        " t = QuantizeLinear(p, r, o) y = DequantizeLinear(t, r, o) }",
        lambda a: np.clip(a + SHIFT[:, None, None], 0, 255 * 0.04),
    ),
    "integer convolution": (
        f"{HEAD} <{Q}, {IN}, {OUT}, {BIAS}, {EACH}> {{ a = QuantizeLinear(x, s, z)"
        " p = QLinearConv(a, s, z, q, e, n, r, o, b) y = DequantizeLinear(p, r, o) }",
        lambda a: np.clip(a + SHIFT[:, None, None], 0, 255 * 0.04),
    ),
    "dynamic": (
        f"{HEAD} <{Q}, int8 n = {{0}}, float[1,2,1,1] e = {{0.01, 0.02}}> {{ a, s, z = DynamicQuantizeLinear(x)"
        " i = ConvInteger(a, q, z, n) f = Cast<to = 1>(i) m = Mul(s, e) y = Mul(f, m) }",
        None,
    ),
}  # fmt: skip


def image() -> np.ndarray:
    return np.random.default_rng(4).uniform(-6, 6, (1, 3, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("name", FILES)
def test_the_numbers_are_what_the_integers_stand_for(tmp_path: Path, name: str) -> None:
    text, limited = FILES[name]
    path = onnx_file(tmp_path, text)
    bundle = segc.compile(path, out=tmp_path / "b", dequantize=True)
    assert bundle.manifest.source.dequantized
    assert any("--dequantize computes" in note for note in bundle.report["notes"])
    assert set(bundle.report["ops"]["after"]) <= {"Conv", "Clip", "Mul"}
    x, weight = image(), WEIGHT
    if limited is None:
        weight = np.array([[10, -20, 127], [-128, 5, 60]], np.float32) * np.array([[0.01], [0.02]], np.float32)
    given = np.clip(x, -128 * 0.05, 127 * 0.05) if limited is not None else x
    want = np.einsum("oc,nchw->nohw", weight, given)
    got = segc.load(bundle.path).run(x)["logits"]
    np.testing.assert_allclose(got, want if limited is None else limited(want), atol=1e-5)
    np.testing.assert_allclose(got, run(path, x=x)["y"], atol=0.12)  # the quantized file, with its rounding
    assert segc.verify(bundle.path, source=path).cases[0].agreement == 1


@pytest.mark.parametrize("target", targets.names())
def test_every_target_takes_a_dequantized_file(tmp_path: Path, target: str) -> None:
    path = onnx_file(tmp_path, FILES["dynamic"][0])
    bundle = segc.compile(path, target=target, out=tmp_path / "b", dequantize=True, output="logits")
    assert not bundle.manifest.segments


def test_onnx_runtime_takes_it_as_it_is_and_others_name_the_option(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, FILES["dynamic"][0])
    bundle = segc.compile(path, out=tmp_path / "b")
    assert "ConvInteger" in bundle.report["ops"]["after"] and not bundle.manifest.source.dequantized
    with pytest.raises(LegalityError, match="--dequantize"):
        segc.compile(path, target="ncnn", out=tmp_path / "c")


def test_a_quantized_sigmoid_at_the_end_is_found(tmp_path: Path) -> None:
    text = """g (float[1,3,8,12] x) => (float[1,1,8,12] y)
        <float[1,3,1,1] w = {1, -2, 3}, float s = {0.00392156}, uint8 z = {0}> {
        a = Conv(x, w) p = Sigmoid(a) q = QuantizeLinear(p, s, z) y = DequantizeLinear(q, s, z) }"""
    bundle = segc.compile(onnx_file(tmp_path, text), out=tmp_path / "b")
    assert any("by a Sigmoid" in note for note in bundle.report["notes"])


REFUSED = {
    "sums of integers": (
        f"{HEAD} <{Q}, float s = {{1}}, int8 z = {{0}}, float[2,3,1,1] w = {{1, 2, 3, 4, 5, 6}}> {{ a = QuantizeLinear"
        "(x, s, z) m = Max(a, z) f = DequantizeLinear(m, s, z) y = Conv(f, w) }", "the integers themselves",
    ),
    "a scale that is computed": (
        f"{HEAD} <float s = {{1}}, uint8 z = {{0}}, float[2,3,1,1] w = {{1, 2, 3, 4, 5, 6}}> {{ m = ReduceMax<keepdims"
        " = 0>(x) t = Abs(m) a = QuantizeLinear(x, t, z) f = DequantizeLinear(a, t, z) y = Conv(f, w) }",
        "computed at run time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text, said", REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_form_in_floats_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    result = command("compile", onnx_file(tmp_path, text), "--dequantize", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "cannot be dequantized", said)
