"""Models of other libraries in the support matrix: what it lists, and a few light ones compiled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from segc.commands.matrix import matrix
from segc.errors import UsageError
from segc.frontend import torchvision_import
from segc.support_matrix import page
from segc.support_matrix.cells import CANNOT, Job
from segc.support_matrix.elsewhere import ELSEWHERE, written
from segc.support_matrix.job import run_job

torchvision_import.prepare()
ON = ("onnxruntime", "openvino", "ncnn")


def test_the_matrix_has_forty_models_of_four_libraries() -> None:
    assert Counter(ELSEWHERE.values()) >= Counter(torchvision=6, smp=12, timm=8, transformers=14)
    assert len(ELSEWHERE) >= 40


def test_a_models_configuration_is_written_and_other_names_are_sources(tmp_path: Path) -> None:
    assert written("smp:unet/resnet18", tmp_path) == "smp:unet/resnet18"
    assert written("hf:eomt", tmp_path) == f"hf:{tmp_path / 'eomt'}"
    assert (tmp_path / "eomt" / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("hf:segformer", "transformers"),
        pytest.param("smp:unet/tu-mobilenetv3_small_100", "segmentation_models_pytorch", marks=pytest.mark.slow),
    ],
)
def test_light_models_compile_for_targets_that_run_here(name: str, module: str) -> None:
    pytest.importorskip(module)
    cells = run_job(Job(ELSEWHERE[name], name, ON, ("static",), ("logits",), (64, 64)))
    assert [cell.target for cell in cells] == list(ON)
    assert all(cell.good for cell in cells), [cell.reason for cell in cells]
    assert all((cell.error or 0) < 1e-3 for cell in cells)


def test_in_the_committed_page_every_model_that_pytorch_runs_is_good() -> None:
    cells = page.read(Path(__file__).parents[2] / "docs" / "tables" / "elsewhere.json")
    assert {cell.config for cell in cells} == {*ELSEWHERE} and len(cells) == 10 * len(ELSEWHERE) >= 400
    assert [(cell.config, cell.target, cell.reason) for cell in cells if not cell.good and cell.status != CANNOT] == []
    assert all(cell.shape == "dynamic" and cell.reason for cell in cells if cell.status == CANNOT)


def test_a_model_of_one_size_is_refused_where_sizes_change() -> None:
    pytest.importorskip("transformers")
    (cell,) = run_job(Job("transformers", "hf:eomt", ("onnxruntime",), ("dynamic",), ("logits",), (64, 64)))
    assert not cell.good and cell.status == CANNOT
    assert "runs at 64x64 only" in cell.reason
    assert page.page([cell], "segc matrix --elsewhere", {}).startswith("# Models of other libraries")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf:mobilevit", "hf:mobilenet-v2"])
def test_models_that_round_sizes_follow_the_size_of_images(name: str) -> None:
    """What a trace of one size would get wrong: patches rounded up, and padding by remainders."""
    pytest.importorskip("transformers")
    cells = run_job(Job("transformers", name, ("onnxruntime",), ("dynamic",), ("mask",), (64, 64)))
    assert [(cell.good, cell.reason) for cell in cells] == [(True, "")]


def test_unknown_names_and_other_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match="no library or source 'hf:segforme'"):
        matrix(elsewhere=True, families=["hf:segforme"])
    with pytest.raises(UsageError, match="names other models"):
        matrix(elsewhere=True, zoo=True)
