"""mmseg configs: what is taken over into the bundle, and which configs are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.calls import refused, segc
from tests.helpers.tiny_configs import config

pytest.importorskip("mmseg")

import torch
from torch import nn

from segc.bundle.preprocessing import ResizeStep, ResizeToMultiple
from segc.commands.compile import compile as compile_source
from segc.errors import MissingPackageError, SourceError, UsageError
from segc.frontend.mmseg_env import config_root
from segc.frontend.model import Source
from segc.frontend.source import open_source


def opened(folder: Path, **values: str) -> Source:
    return open_source(config(folder, **values))


def test_what_segment_must_repeat_is_taken_from_the_config(tmp_path: Path) -> None:
    info = opened(tmp_path).info
    assert (info.mean, info.std, info.channel_order) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "RGB")
    assert (info.resize_scale, info.keep_ratio) == ((96, 64), True)
    assert (info.shape, info.mode, info.align_corners) == ((32, 48), "whole", True)
    assert (info.channels, info.threshold, info.test_cfg) == (19, None, {"mode": "whole"})
    assert info.classes[0] == "road" and info.palette[0] == (128, 64, 128) and len(info.classes) == 19
    assert (info.pad_size, info.pad_divisor) == (None, None)  # mmseg pads at test time only when asked to


def test_without_bgr_to_rgb_images_stay_bgr(tmp_path: Path) -> None:
    assert opened(tmp_path, BGR_TO_RGB="False").info.channel_order == "BGR"


def test_padding_of_the_test_time_is_taken_over(tmp_path: Path) -> None:
    info = opened(tmp_path, TEST_CFG="test_cfg=dict(size_divisor=32)").info
    assert (info.pad_size, info.pad_divisor, info.pad_value) == (None, 32, 7.0)
    info = opened(tmp_path, TEST_CFG="test_cfg=dict(size=(64, 96))").info
    assert (info.pad_size, info.pad_divisor) == ((64, 96), None)


@pytest.mark.parametrize(
    ("base_model", "means"), [("stdc", "[100.0] * 4, std=[50.0] * 4"), ("bisenetv1_r18-d32", "None, std=None")]
)
def test_channels_are_those_of_a_backbone_within_a_backbone(tmp_path: Path, base_model: str, means: str) -> None:
    own = "" if base_model == "stdc" else ", in_channels=4"
    path = tmp_path / "four_channels.py"
    path.write_text(
        f"_base_ = [{str(base(f'models/{base_model}.py'))!r}]\n"
        f"model = dict(backbone=dict(backbone_cfg=dict(in_channels=4){own}), data_preprocessor=dict(\n"
        f"    type='SegDataPreProcessor', mean={means}, _delete_=True), test_cfg=dict(mode='whole'))\n"
        "test_pipeline = [dict(type='LoadImageFromFile', color_type='unchanged'), dict(type='PackSegInputs')]\n"
    )
    source = open_source(path)
    assert source.module is not None and source.info.in_channels == 4
    with torch.no_grad():
        assert source.module.eval()(torch.zeros(1, 4, 64, 64)).shape == (1, 19, 64, 64)


def test_custom_imports_are_found_from_the_config_and_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, working = tmp_path / "project", tmp_path / "working"
    beside = project / "configs" / "own"
    for folder in (beside, working):
        folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(working)
    places = {"beside": beside, "above": project, "working": working}
    for name, folder in places.items():
        (folder / f"own_part_{name}.py").write_text(f"PLACE = {name!r}\n")
    path = config(beside)
    names = [f"own_part_{name}" for name in places]
    path.write_text(f"{path.read_text()}\ncustom_imports = dict(imports={names}, allow_failed_imports=False)\n")
    open_source(path)
    assert [sys.modules[f"own_part_{name}"].PLACE for name in places] == [*places]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ["No module named 'own_part_that_fails'", "looked in", "PYTHONPATH"]),
        ("import a_package_of_nobody\n", ["No module named 'a_package_of_nobody'", "install 'a_package_of_nobody'"]),
        ("raise ValueError('not on this machine')\n", ["ValueError: not on this machine", "correct the module"]),
    ],
    ids=["missing", "of another package", "raising"],
)
def test_custom_imports_that_fail_are_named_with_the_whole_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: list[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = config(tmp_path)
    path.write_text(f"{path.read_text()}\ncustom_imports = dict(imports='own_part_that_fails')\n")
    if content is not None:
        (tmp_path / "own_part_that_fails.py").write_text(content)
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert not str(caught.value).rstrip().endswith("sys.path is:")


def test_steps_besides_a_resize_are_kept_in_order(tmp_path: Path) -> None:
    info = opened(tmp_path, EXTRA="dict(type='ResizeToMultiple', size_divisor=32),").info
    assert info.resize_scale is None
    assert info.steps == (ResizeStep(scale=(96, 64), keep_ratio=True), ResizeToMultiple(divisor=32))


def test_a_step_that_segment_cannot_repeat_is_refused_and_left_out_on_request(tmp_path: Path) -> None:
    path = config(tmp_path, EXTRA="dict(type='RandomCrop', crop_size=(8, 8)),")
    result = segc("compile", path, "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "'RandomCrop'", "SEGC-S114", "--skip-transform RandomCrop")
    found = open_source(path, skipped=("RandomCrop",))
    assert found.info.resize_scale == (96, 64) and any("'RandomCrop'" in note for note in found.notes)


def test_a_slide_brings_its_window(tmp_path: Path) -> None:
    info = opened(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)").info
    assert (info.mode, info.slide_crop, info.slide_stride, info.shape) == ("slide", (32, 32), (24, 20), (32, 32))
    path = config(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)")
    assert open_source(path, mode="whole").info.mode == "whole"


def test_the_segmenter_of_the_zoo_slides() -> None:
    info = open_source("segmenter_vit-t_mask_8xb1-160k_ade20k-512x512").info
    assert (info.mode, info.slide_crop, info.slide_stride) == ("slide", (512, 512), (480, 480))
    assert (info.mean, info.channel_order, info.channels) == ((127.5,) * 3, "RGB", 150)
    assert info.classes[0] == "wall"


def test_a_head_of_one_channel_brings_its_threshold(tmp_path: Path) -> None:
    info = opened(tmp_path, CLASSES="2", HEAD="out_channels=1, threshold=0.4,", USE_SIGMOID="True").info
    assert (info.channels, info.threshold, len(info.classes)) == (1, 0.4, 2)
    info = opened(tmp_path, CLASSES="2", HEAD="out_channels=1,", USE_SIGMOID="True").info
    assert info.threshold == 0.3  # mmseg's default


def test_another_number_of_classes_than_the_datasets_gets_generic_names(tmp_path: Path) -> None:
    info = opened(tmp_path, CLASSES="5").info
    assert info.classes == ("class 0", "class 1", "class 2", "class 3", "class 4") and len(info.palette) == 5


def test_sync_bn_becomes_bn_and_nothing_is_downloaded(tmp_path: Path) -> None:
    module = opened(tmp_path).module  # 'pretrained' and init_cfg lead nowhere
    assert module is not None and not module.training
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(type(m) is nn.BatchNorm2d for m in norms)


def test_random_weights_are_reproducible_calibrated_and_said_to_be_random(tmp_path: Path) -> None:
    first = opened(tmp_path)
    torch.rand(5)
    second = opened(tmp_path)
    assert first.module is not None and second.module is not None
    a, b = first.module.state_dict(), second.module.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert any(k.endswith("running_mean") and v.abs().max() > 0 for k, v in a.items())
    assert first.info.weights == "random"
    assert any("RANDOM" in note for note in first.notes)


def test_a_checkpoint_replaces_the_random_weights_and_names_the_classes(tmp_path: Path) -> None:
    module = opened(tmp_path, CLASSES="2").module
    assert module is not None
    state = {k.removeprefix("segmentor."): torch.full_like(v, 2) for k, v in module.state_dict().items()}
    meta = {"dataset_meta": {"classes": ["no", "yes"], "palette": [[0, 0, 0], [9, 9, 9]]}}
    torch.save({"state_dict": state, "meta": meta}, tmp_path / "w.pth")
    loaded = open_source(config(tmp_path, CLASSES="2"), checkpoint=tmp_path / "w.pth")
    assert loaded.module is not None
    assert all(bool((v == 2).all()) for v in loaded.module.state_dict().values())
    assert (loaded.info.classes, loaded.info.palette) == (("no", "yes"), ((0, 0, 0), (9, 9, 9)))
    assert not any("RANDOM" in note for note in loaded.notes)


def test_configs_with_equal_content_have_equal_digests(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    child = tmp_path / "sub" / "tiny_config.py"
    child.write_text("_base_ = ['../tiny_config.py']\n")
    a, b = opened(tmp_path).info.sha256, open_source(child).info.sha256
    assert a == b != opened(tmp_path, CLASSES="5").info.sha256


def base(name: str) -> Path:
    root = config_root()
    assert root is not None
    return root / "_base_" / name


CONFIGS = {
    "unknown type": ("model = dict(type='EncoderDecodr')\n", ["'EncoderDecodr'", "did you mean EncoderDecoder"]),
    "a type like none": ("model = dict(type='qqqqqq')\n", ["'qqqqqq'", "mmseg does not know"]),
    "unknown backbone": (
        "model = dict(type='EncoderDecoder', backbone=dict(type='Nope'), decode_head=dict(type='FCNHead'))\n",
        ["cannot be built", "Nope"],
    ),
    "a backbone alone": ("model = dict(type='UNet')\n", ["no segmentor", "UNet", "EncoderDecoder"]),
    "no type": ("model = dict(backbone=3)\n", ["defines no model", "complete config"]),
    "it raises": ("_base_ = []\nmodel = dict(type=nothing)\n", ["cannot be read", "NameError", "nothing"]),
    "its base is missing": ("_base_ = ['gone.py']\nmodel = dict(type='x')\n", ["cannot be read", "gone.py"]),
    "bases without a model": ("_base_ = []\nx = 1\n", ["defines no model", "_base_"]),
}


@pytest.mark.parametrize("text, said", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_without_a_segmentor_is_refused(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "odd_config.py"
    path.write_text(text)
    refused(segc("compile", path, "-o", tmp_path / "b"), SourceError.exit_code, "odd_config.py", *said)
    assert not (tmp_path / "b").exists()


def test_parts_of_another_package_that_is_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mmdet" else found(name, *a))
    with pytest.raises(MissingPackageError, match="parts of mmdet") as caught:
        open_source("mask2former_r50_8xb2-160k_ade20k-512x512")
    assert "pip install --no-deps mmdet" in str(caught.value)


def test_a_depth_estimator_of_the_zoo_is_refused(tmp_path: Path) -> None:
    result = segc("compile", "vpd_sd_4xb8-25k_nyu-512x512", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "vpd_sd_4xb8-25k_nyu-512x512", "no segmentor", "DepthEstimator")


def test_a_base_file_without_a_model_is_refused(tmp_path: Path) -> None:
    for name in ("default_runtime.py", "datasets/ade20k.py", "schedules/schedule_20k.py"):
        result = segc("compile", base(name), "-o", tmp_path / "b")
        refused(result, SourceError.exit_code, name, "defines no model", "complete")


def test_slide_without_a_window_is_refused(tmp_path: Path) -> None:
    result = segc("compile", config(tmp_path), "--mode", "slide", "-o", tmp_path / "b")
    refused(result, UsageError.exit_code, "--mode slide", "crop_size=")


def test_a_mask_asked_to_slide_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)")
    result = segc("compile", path, "--output", "mask", "--mode", "slide", "-o", tmp_path / "b")
    refused(result, UsageError.exit_code, "--output mask and --mode slide exclude", "--mode whole")


def test_another_shape_replaces_the_sliding_window(tmp_path: Path) -> None:
    path = config(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)")
    bundle = compile_source(path, shape=(64, 48), out=tmp_path / "b", verify=False)
    inference = bundle.manifest.inference
    assert (inference.mode, inference.crop, inference.stride) == ("slide", (64, 48), (48, 30))
    assert any("sliding window (32, 32)" in note for note in bundle.report["notes"])


def test_a_mask_of_a_sliding_config_runs_whole_and_says_so(tmp_path: Path) -> None:
    path = config(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)")
    bundle = compile_source(path, output="mask", out=tmp_path / "b", verify=False)
    assert bundle.manifest.inference.mode == "whole"
    assert any("cannot" in note for note in bundle.report["notes"])
