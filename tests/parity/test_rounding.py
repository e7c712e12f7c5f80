"""Near ties are told from errors: what rounding explains is measured, and only the rest counts as wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segc
from segc.frontend.source import open_source
from segc.parity import metrics, rounding
from segc.parity.limits import Limits
from segc.parity.noise_floor import own_error
from segc.parity.reference import reference_of
from tests.helpers.calls import segc as command
from tests.helpers.tiny_models import onnx_file, source

X = np.random.default_rng(5).standard_normal((1, 3, 8, 12)).astype(np.float32)
REFERENCE = np.zeros((1, 2, 10, 10), np.float32)
REFERENCE[0, 0, :5], REFERENCE[0, 0, 5:] = 1e-6, 3.0  # half near ties, half decided


def case_of(flipped: tuple[slice, slice], error: float | None) -> metrics.Case:
    """An engine that decides otherwise at these pixels."""
    other = REFERENCE.copy()
    other[0, 0][flipped] = -1e-6
    return metrics.run_cases(
        lambda _: REFERENCE, lambda _: other, iter([("noise", X)]), None, lambda _: error, agreement=0.999
    )[0]


def test_pixels_that_rounding_explains_are_near_ties_and_not_wrong() -> None:
    case = case_of((slice(0, 5), slice(0, 4)), 1e-6)
    assert (case.differing_pixels, case.near_ties, case.rounding) == (20, 20, 1e-6)
    assert case.agreement == pytest.approx(0.8) and case.right == 1
    assert case.failures(Limits(None, 0.999)) == []


def test_pixels_with_a_larger_margin_are_wrong() -> None:
    case = case_of((slice(4, 6), slice(0, 10)), 1e-6)
    assert (case.differing_pixels, case.near_ties) == (20, 10)
    assert case.right == pytest.approx(0.9)
    (said,) = case.failures(Limits(None, 0.999))
    assert "80.0000% of pixels equal and 10 near ties, limit 99.90%" in said


def test_without_a_measurement_every_differing_pixel_counts() -> None:
    case = case_of((slice(0, 5), slice(0, 4)), None)
    assert (case.near_ties, case.rounding) == (None, None) and case.failures(Limits(None, 0.999))


def test_nothing_is_measured_where_enough_pixels_are_equal() -> None:
    def never(_: np.ndarray) -> float:
        raise AssertionError("measured")

    same = metrics.run_cases(lambda _: REFERENCE, lambda _: REFERENCE, iter([("noise", X)]), None, never, 0.999)
    assert same[0].near_ties is None


def test_masks_have_near_ties_too() -> None:
    mask = np.ones((1, 10, 10), np.uint8)
    case = metrics.compare("c", REFERENCE, mask, None, rounding=1e-6)
    assert (case.differing_pixels, case.near_ties) == (100, 50)


def test_the_bound_of_a_pytorch_model_is_that_of_float64(tmp_path: Path) -> None:
    opened = open_source(source(tmp_path))
    found = rounding.bound(opened, X)
    assert found is not None and 0 < found < 1e-4
    half = nn.Conv2d(3, 2, 1).to(torch.float16)
    assert own_error(half, X) is None


def test_the_bound_of_an_onnx_file_is_at_least_the_spacing_of_its_logits(tmp_path: Path) -> None:
    opened = open_source(onnx_file(tmp_path))
    found = rounding.bound(opened, X)
    assert found is not None
    largest = np.abs(reference_of(opened)(X)).max()
    assert rounding.SLACK * 2**-23 * largest <= found < 1e-4


def test_half_precision_has_no_near_ties(tmp_path: Path) -> None:
    assert rounding.measure(open_source(onnx_file(tmp_path)), "fp16", images=False) is None


def the_same_scores_twice(folder: Path) -> Path:
    """Two classes whose scores are one sum in two orders: every pixel is a tie, which rounding decides."""
    rng, order = np.random.default_rng(1), np.random.default_rng(2).permutation(32)
    first, last = (rng.standard_normal(shape).astype(np.float32) for shape in ((32, 3, 3, 3), (1, 32, 3, 3)))

    def given(kind: str, name: str, values: np.ndarray) -> str:
        return f"float[{kind}] {name} = {{{', '.join(f'{v:.9g}' for v in values.ravel())}}}"

    weights = ", ".join((
        given("32,3,3,3", "k", first), given("32,3,3,3", "l", first[order]), given("1,32,3,3", "u", last),
        given("1,32,3,3", "v", last[:, order]),
    ))  # fmt: skip
    conv = "Conv<pads = [1, 1, 1, 1]>"
    return onnx_file(folder, f"""g (float[1,3,24,32] x) => (float[1,2,24,32] y) <{weights}> {{
        a = {conv}(x, k) b = {conv}(x, l) r = Relu(a) s = Relu(b) p = {conv}(r, u) q = {conv}(s, v)
        y = Concat<axis = 1>(p, q) }}""")  # fmt: skip


def test_a_network_of_ties_is_published_and_its_near_ties_are_counted(tmp_path: Path) -> None:
    path = the_same_scores_twice(tmp_path)
    bundle = segc.compile(path, target="openvino", out=tmp_path / "b")
    for case in bundle.report["parity"]["cases"]:
        assert case["agreement"] < 0.9 and case["near_ties"] == case["differing_pixels"]
    again = command("verify", bundle.path, path)
    assert again.code == 0 and "near ties)" in again.out, again.err
