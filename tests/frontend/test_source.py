"""What SOURCE may be, how it is told apart, and what is said when it is nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segc.errors import FileError, SourceError
from segc.frontend.mmseg_env import config_root
from segc.frontend.source import is_mmseg_config, open_source, zoo_names
from segc.suggestions import closest
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import CONV, NET, onnx_file, source

needs_mmseg = pytest.mark.skipif(config_root() is None, reason="mmseg is not installed")


def test_a_file_that_assigns_plain_data_is_a_config_and_one_that_builds_a_model_is_a_program(tmp_path: Path) -> None:
    cases = {
        "_base_ = ['a.py']": True,
        "model = dict(type='EncoderDecoder')": True,
        "model = {'type': 'EncoderDecoder'}": True,
        "from mmengine.config import read_base\nwith read_base():\n    from .a import *": True,
        "model = build()": False,
        "with open('weights') as f:\n    f.read()\nmodel = build()": False,
        "def build_model():\n    model = dict(a=1)": False,
        NET: False,
        "": False,
    }
    for text, is_config in cases.items():
        assert is_mmseg_config(source(tmp_path, text)) is is_config, text


def test_telling_config_and_program_apart_runs_nothing(tmp_path: Path) -> None:
    path = source(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n{NET}")
    assert not is_mmseg_config(path)
    assert not (tmp_path / "ran").exists()


def test_files_open_as_what_they_are(tmp_path: Path) -> None:
    python, model = open_source(source(tmp_path)), open_source(onnx_file(tmp_path))
    assert (python.info.kind, python.info.name) == ("python", "net")
    assert python.module is not None and python.onnx_model is None
    assert (model.info.kind, model.info.name) == ("onnx", "conv")
    assert model.onnx_model is not None and model.module is None


@needs_mmseg
def test_every_config_of_the_zoo_has_a_name_that_leads_to_its_file() -> None:
    names = zoo_names()
    assert len(names) > 600
    assert all(path.is_file() and path.stem == name for name, path in names.items())
    assert not any("_base_" in path.parts for path in names.values())


def test_closest_completes_beginnings_then_corrects_spelling() -> None:
    known = ["pspnet_r50-d8_ade20k", "pspnet_r101-d8_ade20k", "fcn_r50-d8_ade20k"]
    assert closest("pspnet_r50", known)[0] == "pspnet_r50-d8_ade20k"
    assert closest("pspnett_r101-d8_ade20k", known)[0] == "pspnet_r101-d8_ade20k"
    assert closest("zzz", known) == []
    assert closest("", known) == []
    assert len(closest("pspnet", known, count=1)) == 1


@needs_mmseg
def test_an_unknown_zoo_name_is_answered_with_the_closest(tmp_path: Path) -> None:
    almost = "fast_scnn_8xb4-160k_cityscape-512x1024"
    result = segc("compile", almost, "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, almost, "did you mean", "fast_scnn_8xb4-160k_cityscapes-512x1024")
    assert not any(tmp_path.iterdir())


@needs_mmseg
def test_the_beginning_of_a_zoo_name_is_completed(tmp_path: Path) -> None:
    result = segc("compile", "pspnet_r50-d8", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "'pspnet_r50-d8'", "did you mean pspnet_r50-d8")


def test_a_name_like_nothing_says_to_check_the_spelling() -> None:
    refused(segc("compile", "qqqqqqqqq"), SourceError.exit_code, "'qqqqqqqqq'")


def test_folders_weights_and_engines_are_no_sources(tmp_path: Path) -> None:
    refused(segc("compile", tmp_path), SourceError.exit_code, str(tmp_path), "is a folder", "config file")
    for name in ("weights.pth", "model.engine"):
        refused(segc("compile", name), SourceError.exit_code, name, "not a model source", "--checkpoint")


@pytest.mark.parametrize("name", ["photo.jpg", "photo.PNG", "scan.tif"])
def test_an_image_is_sent_to_segc_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(256)))
    refused(segc("compile", tmp_path / name), SourceError.exit_code, name, "is an image", "segc run")


def test_a_bundle_is_sent_to_segc_run(tmp_path: Path) -> None:
    (tmp_path / "segc.json").write_text("{}")
    refused(segc("compile", tmp_path), SourceError.exit_code, "is a bundle", f"segc run {tmp_path} IMAGE")


def test_invalid_python_names_file_and_line(tmp_path: Path) -> None:
    result = segc("compile", source(tmp_path, "x = 1\ndef :\n", "odd.py"))
    refused(result, SourceError.exit_code, "odd.py", "not valid Python", "line 2")


def test_a_binary_file_called_py_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_bytes(bytes(range(128, 256)))
    refused(segc("compile", tmp_path / "odd.py"), SourceError.exit_code, "odd.py", "not valid Python")


def test_a_checkpoint_beside_an_onnx_file_is_refused(tmp_path: Path) -> None:
    result = segc("compile", onnx_file(tmp_path), "--checkpoint", "w.pth")
    refused(result, SourceError.exit_code, "holds its own weights", "w.pth", "omit --checkpoint")


def test_a_missing_onnx_file_is_a_file_error(tmp_path: Path) -> None:
    refused(segc("compile", tmp_path / "no.onnx"), FileError.exit_code, "no.onnx")
    (tmp_path / "folder.onnx").mkdir()
    refused(segc("compile", tmp_path / "folder.onnx"), FileError.exit_code, "folder.onnx", "it is a folder")


def test_equal_files_have_equal_digests_wherever_they_lie(tmp_path: Path) -> None:
    first = onnx_file(tmp_path, CONV)
    (tmp_path / "sub").mkdir()
    second = shutil.copy(first, tmp_path / "sub" / "other.onnx")
    other = onnx_file(tmp_path, CONV.replace("-6", "6"), name="changed.onnx")
    digests = [open_source(path).info.sha256 for path in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("exists", [True, False])
def test_weights_are_no_source_whether_they_lie_there_or_not(exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "fcn.pth"
    if exists:
        path.write_bytes(b"\x80\x02weights")
    refused(segc("compile", path, "-o", tmp_path / "b"), SourceError.exit_code, "fcn.pth", "--checkpoint")
