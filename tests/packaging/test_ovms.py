"""`segc package --for ovms`: the server's folder, and engines that it could not use alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segc
from segc.errors import Code, SegcError
from tests.helpers.target_bundles import model
from tests.helpers.tiny_bundles import bundle, photograph

openvino = pytest.importorskip("openvino")


def compiled(folder: Path, **given: Any) -> Path:
    folder.mkdir()
    return segc.compile(model(folder, "whole"), target="openvino", out=folder / "street", **given).path


IMAGES: dict[str, Any] = {"input": "uint8", "shape": (24, 40)}


def test_the_server_gets_an_engine_that_takes_images_and_gives_masks(tmp_path: Path) -> None:
    source = compiled(tmp_path / "b", output="mask", decode="graph", **IMAGES)
    made = segc.package(source, purpose="ovms", out=tmp_path / "models").path
    (listed,) = json.loads((made / "config.json").read_text())["model_config_list"]
    config = listed["config"]
    assert (config["name"], config["base_path"]) == ("street", "/models/street")
    assert {*config} <= {"name", "base_path", "target_device", "plugin_config"}
    assert all(isinstance(value, str | bool | int | float) for value in config["plugin_config"].values())
    core = openvino.Core()
    network = core.compile_model(made / "street" / "1" / "model.xml", "CPU", config["plugin_config"])
    image = photograph(24, 40)
    (mask,) = network([image[None]]).values()
    np.testing.assert_array_equal(mask[0], segc.load(source).segment(image).mask)
    assert "images of 40x24 pixels" in (made / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"output": "mask", "decode": "graph"}, "takes normalized numbers"),
        ({**IMAGES}, "gives logits"),
        ({"output": "mask", "decode": "host", **IMAGES}, "gives logits"),
    ],
)
def test_engines_that_need_a_runtime_around_them_are_refused(
    tmp_path: Path, given: dict[str, Any], because: str
) -> None:
    source = compiled(tmp_path / "b", **given)
    with pytest.raises(SegcError) as error:
        segc.package(source, purpose="ovms", out=tmp_path / "models")
    assert error.value.code == Code.PACKAGE and because in str(error.value)
    assert not (tmp_path / "models").exists()


def test_engines_of_other_runtimes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SegcError, match="cannot become a model of OpenVINO Model Server") as error:
        segc.package(bundle(tmp_path / "b"), purpose="ovms", out=tmp_path / "models")
    assert "its engine is of onnxruntime" in str(error.value)


def test_an_option_of_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegcError, match="is for pages"):
        segc.package(bundle(tmp_path / "b"), purpose="triton", out=tmp_path / "m", onnxruntime_web=tmp_path)
