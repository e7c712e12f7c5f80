"""Preprocessing and names of ONNX and Python sources: from the user, from metadata, from files beside the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import segc
from segc.errors import FileError, SourceError, UsageError
from segc.frontend.given import class_names, colours
from segc.frontend.model import ModelInfo
from segc.frontend.source import open_source
from segc.parity.metrics import mask_of
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command
from tests.helpers.tiny_models import CONV, onnx_file

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def with_props(folder: Path, **props: str) -> Path:
    path = onnx_file(folder)
    model = onnx.load(path)
    for key, value in props.items():
        model.metadata_props.add(key=key.replace("__", " "), value=value)
    onnx.save(model, path)
    return path


def info_of(path: Path) -> ModelInfo:
    return open_source(path).info


def is_imagenet(info: ModelInfo) -> None:
    np.testing.assert_allclose(info.mean, IMAGENET[0], rtol=1e-7)
    np.testing.assert_allclose(info.std, IMAGENET[1], rtol=1e-7)


@pytest.mark.parametrize(
    "words",
    [
        ["--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"],
        ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--scale", "1/255"],
    ],
)
def test_the_command_line_gives_preprocessing_names_and_colours(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "names.txt").write_text("sky\nstreet\n")
    (tmp_path / "colours.txt").write_text("#0000ff\n10, 20, 30\n")
    files = ["--classes", tmp_path / "names.txt", "--palette", tmp_path / "colours.txt", "--channel-order", "bgr"]
    outcome = command("compile", onnx_file(tmp_path), *words, *files, "-o", tmp_path / "b")
    assert outcome.code == 0, outcome.err
    assert "says nothing about preprocessing" not in outcome.out
    manifest = segc.load(tmp_path / "b").manifest
    np.testing.assert_allclose(manifest.preprocessing.mean, IMAGENET[0], rtol=1e-7)
    np.testing.assert_allclose(manifest.preprocessing.std, IMAGENET[1], rtol=1e-7)
    assert manifest.preprocessing.channel_order == "BGR"
    assert (manifest.classes, manifest.palette) == (("sky", "street"), ((0, 0, 255), (10, 20, 30)))


def test_the_engine_says_it_in_the_words_of_those_who_run_onnx_files(tmp_path: Path) -> None:
    options: dict[str, Any] = {"classes": ["sky", "wet street"], "mean": [0.485, 0.456, 0.406]}
    bundle = segc.compile(onnx_file(tmp_path), out=tmp_path / "b", std=[0.25], scale=1 / 255, **options)
    props = {p.key: p.value for p in onnx.load(bundle.path / "model.onnx").metadata_props}
    assert json.loads(props["class_names"]) == {"0": "sky", "1": "wet street"}
    assert json.loads(props["model_type"]) == "Segmentor"
    np.testing.assert_allclose(json.loads(props["standardization_mean"]), [0.485, 0.456, 0.406], rtol=1e-7)
    np.testing.assert_allclose(json.loads(props["standardization_std"]), [0.25] * 3, rtol=1e-7)
    assert props["model_info labels"] == "sky wet_street" and props["model_info reverse_input_channels"] == "True"
    assert props["model_info mean_values"] == "123.675 116.28 103.53"
    again = info_of(bundle.path / "model.onnx")
    np.testing.assert_allclose((again.mean, again.std), (bundle.manifest.preprocessing.mean, [63.75] * 3), rtol=1e-7)


def test_a_threshold_of_one_channel(tmp_path: Path) -> None:
    one = CONV.replace("1,2,8,12", "1,1,8,12").replace(
        "float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}", "float[1,3,1,1] w = {1, -2, 3}"
    )
    bundle = segc.compile(onnx_file(tmp_path, one), out=tmp_path / "b", threshold=0.25, classes=["leaf"])
    assert (bundle.manifest.output.threshold, bundle.manifest.classes) == (0.25, ("background", "leaf"))
    text = one.replace(
        "y = Conv(x, w)",
        "z = Conv(x, w) a = Constant<value_float = 0.0>() b = Constant<value_float = 1.0>() y = Clip(z, a, b)",
    )
    clipped = segc.compile(onnx_file(tmp_path, text), out=tmp_path / "c", threshold=0.25)
    engine, x = segc.load(clipped.path), np.full((1, 3, 8, 12), 0.13, np.float32)  # the probability is 0.26
    assert mask_of(engine.run(x)["logits"], engine.manifest.output.threshold).all()
    assert not mask_of(engine.run(x * 0.9)["logits"], engine.manifest.output.threshold).any()


def test_metadata_of_model_api(tmp_path: Path) -> None:
    props = {"mean_values": "123.675 116.28 103.53", "scale_values": "58.395 57.12 57.375", "labels": "a b",
             "reverse_input_channels": "YES"}  # fmt: skip
    path = with_props(tmp_path, **{f"model_info__{key}": value for key, value in props.items()})
    opened = open_source(path)
    is_imagenet(opened.info)
    assert (opened.info.channel_order, opened.info.classes) == ("RGB", ("a", "b"))
    assert any("that of ModelAPI's metadata: RGB, mean 123.675" in note for note in opened.notes)
    (tmp_path / "bgr").mkdir()
    assert info_of(with_props(tmp_path / "bgr", model_info__reverse_input_channels="False")).channel_order == "BGR"


def test_metadata_of_deepness_and_of_ultralytics(tmp_path: Path) -> None:
    info = info_of(with_props(
        tmp_path, model_type='"Segmentor"', class_names='{"0": "a", "1": "b"}',
        standardization_mean="[0.485, 0.456, 0.406]", standardization_std="[0.229, 0.224, 0.225]",
    ))  # fmt: skip
    is_imagenet(info)
    assert info.classes == ("a", "b")
    (tmp_path / "plain").mkdir()
    plain = info_of(with_props(tmp_path / "plain", model_type='"Segmentor"'))
    assert (plain.mean, plain.std) == ((0.0,) * 3, (255.0,) * 3)
    (tmp_path / "names").mkdir()
    named = info_of(with_props(tmp_path / "names", names="{0: 'a', 1: 'b'}"))
    assert (named.classes, named.std) == (("a", "b"), (1.0, 1.0, 1.0))


def test_files_of_hugging_face_beside_the_model(tmp_path: Path) -> None:
    config = {"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
              "do_rescale": True, "rescale_factor": 1 / 255, "size": {"height": 64, "width": 96}}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "b", "0": "a"}}))
    opened = open_source(onnx_file(tmp_path))
    is_imagenet(opened.info)
    assert (opened.info.classes, opened.info.shape) == (("a", "b"), (8, 12))
    assert any("preprocessor_config.json and config.json" in note for note in opened.notes)
    free = onnx_file(tmp_path, CONV.replace("1,3,8,12", "1,3,H,W").replace("1,2,8,12", "1,2,H,W"), name="free.onnx")
    assert info_of(free).shape == (64, 96)
    (tmp_path / "preprocessor_config.json").write_text("{")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "a", "2": "b"}}')
    assert info_of(onnx_file(tmp_path)).mean == (0.0, 0.0, 0.0)


def test_what_the_user_gives_precedes_metadata(tmp_path: Path) -> None:
    path = with_props(tmp_path, model_info__mean_values="1 2 3", model_info__labels="a b")
    bundle = segc.compile(path, out=tmp_path / "b", mean=[4], classes=["c", "d"])
    assert (bundle.manifest.preprocessing.mean, bundle.manifest.classes) == ((4.0, 4.0, 4.0), ("c", "d"))


WRONG: dict[str, tuple[dict[str, Any], type[segc.SegcError], str]] = {
    "text for a number": ({"mean": ["a"]}, UsageError, "finite number"),
    "std of zero": ({"std": [1, 0, 1]}, UsageError, "none may be 0"),
    "scale of zero": ({"scale": 0}, UsageError, "larger than 0"),
    "threshold": ({"threshold": 1.5}, UsageError, "between 0 and 1"),
    "channel order": ({"channel_order": "GBR"}, UsageError, "RGB or BGR"),
    "output values": ({"output_values": "scores"}, UsageError, "probabilities"),
    "two numbers": ({"mean": [1, 2]}, UsageError, "3 channels"),
    "three names": ({"classes": ["a", "b", "c"]}, SourceError, "--classes has 3 names, the model 2 classes"),
    "one colour": ({"palette": [(1, 2, 3)]}, SourceError, "--palette has 1 colours, the model 2 classes"),
    "odd colours": ({"palette": [(1, 2), (3, 400, 5)]}, SourceError, "holds no colours"),
    "no file": ({"classes": "nowhere.txt"}, FileError, "cannot be read"),
    "an unknown output": ({"output_name": "z"}, SourceError, "its outputs are y"),
}


@pytest.mark.parametrize("options, error, said", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, Any], error: type[segc.SegcError], said: str
) -> None:  # fmt: skip
    with pytest.raises(error) as refusal:
        segc.compile(onnx_file(tmp_path), out=tmp_path / "b", **options)
    assert said in str(refusal.value)
    assert not (tmp_path / "b").exists()


def test_numbers_of_the_command_line_are_refused_by_name(tmp_path: Path) -> None:
    for option, text in (("--mean", "1;2"), ("--scale", "1/0"), ("--threshold", "half")):
        result = command("compile", onnx_file(tmp_path), option, text, "-o", tmp_path / "b")
        refused(result, UsageError.exit_code, option, "for example")


def test_scale_needs_the_numbers_that_it_scales(tmp_path: Path) -> None:
    path = with_props(tmp_path, model_info__mean_values="1 2 3")
    with pytest.raises(UsageError, match="--scale needs --mean and --std"):
        segc.compile(path, out=tmp_path / "b", scale=1 / 255)


def test_an_mmseg_config_takes_none_of_it() -> None:
    with pytest.raises(UsageError, match="--mean and --classes are for ONNX and Python sources"):
        segc.compile("unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024", mean=[1, 2, 3], classes=["a"])


def test_names_and_colours_of_files(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    good: Any
    for good in (["a", "b"], {"1": "b", "0": "a"}, {"id2label": {"0": "a", "1": "b"}}):
        file.write_text(json.dumps(good))
        assert class_names(file) == ("a", "b")
    file.write_text("[[1, 2, 3], [4, 5, 6]]")
    assert colours(file) == ((1, 2, 3), (4, 5, 6))
    odd: Any
    for odd in ({"0": "a", "2": "b"}, [], [1], "a"):
        file.write_text(json.dumps(odd))
        with pytest.raises(SourceError, match="holds no class names"):
            class_names(file)
    file.write_text("{")
    with pytest.raises(SourceError, match="holds no JSON"):
        colours(file)
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="holds no text"):
        class_names(tmp_path / "odd.txt")
