"""ONNX's own node tests through `segc opt`, plain and for each target: the same numbers, or a refusal with a reason."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from segc import targets
from segc.commands.optimize import optimize
from tests.helpers.onnx_backend import cases, counts, outcome

PIPELINES = (None, *targets.names())
FEW = (
    "test_resize_downsample_scales_linear_align",
    "test_averagepool_2d_same_upper",
    "test_softmax_axis_1",
    "test_swish",
)


def test_a_few_of_them_keep_their_numbers(tmp_path: Path) -> None:
    found = [outcome(case, tmp_path, "openvino") for case in cases(of=FEW)]
    assert len(found) >= 5
    assert {each.kind for each in found} <= {"same", "not run"}, found
    assert counts(found)["same"] >= 4


def test_optional_values_are_refused_by_name(tmp_path: Path) -> None:
    (found,) = [outcome(case, tmp_path) for case in cases(of=("test_if_opt",))]
    assert found.kind == "refused" and "optional type" in found.why


def test_tensors_of_a_sequence_are_compared(tmp_path: Path) -> None:
    """Those of a file whose opset is raised too, which is compared before it is optimized."""
    names = ("test_split_to_sequence_nokeepdims", "test_if_seq")
    found = [outcome(case, tmp_path) for case in cases(of=names)]
    assert [each.kind for each in found] == ["same", "same"], [each.why for each in found]


def test_a_file_whose_only_output_is_a_sequence_is_checked_after_each_pass(tmp_path: Path) -> None:
    (case,) = cases(of=("test_if_seq",))
    onnx.save(case.model, tmp_path / "given.onnx")
    made = optimize(tmp_path / "given.onnx", check=True, out=tmp_path / "out.onnx")
    assert [judged.error for judged in made.written] == [0.0]


def test_a_dilated_pool_without_an_older_form_is_no_fault(tmp_path: Path) -> None:
    names = ("test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",)
    (found,) = [outcome(case, tmp_path, "pplnn") for case in cases(of=names)]
    assert found.kind == "same", found.why


def test_inputs_that_are_sizes_are_given_those_that_the_file_declares(tmp_path: Path) -> None:
    """With a side of 1, two of Resize's coordinates differ that are the same for the file's sides."""
    found = [outcome(case, tmp_path, "pplnn") for case in cases(of=("test_resize_upsample_sizes_cubic",))]
    assert [each.kind for each in found] == ["same"], found


def test_sequences_of_a_branch_keep_the_opset_that_has_them(tmp_path: Path) -> None:
    (found,) = [outcome(case, tmp_path, "pplnn") for case in cases(of=("test_if_seq",))]
    assert found.kind == "same", found.why


@pytest.mark.slow
@pytest.mark.parametrize("target", PIPELINES)
def test_all_of_them(tmp_path: Path, target: str | None) -> None:
    """A quarter of an hour for each pipeline."""
    found = [outcome(case, tmp_path, target) for case in cases()]
    assert [each for each in found if each.kind in ("changed", "fault")] == []
    assert all(each.why for each in found if each.kind == "refused")
    if target != "ncnn":  # which takes graphs with one image input only
        assert counts(found)["same"] > 0.8 * len(found)
