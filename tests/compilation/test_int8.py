"""`--precision int8`: calibrated on images of a folder, judged by others, refused beyond the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc
from segc.errors import Code, FileError, ParityError, SegcError, UsageError
from tests.helpers.calls import refused, segc_process
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import onnx_file, source

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(12):
        cv2.imwrite(str(folder / f"{seed:02}.png"), photograph(24, 40, seed))
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("net"))


@pytest.mark.parametrize(("target", "nodes"), [("onnxruntime", 1), ("openvino", 2)])
def test_an_engine_computes_in_integers_and_is_judged_by_images(
    target: str, nodes: int, net: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip(target)
    made = segc.compile(net, target=target, precision="int8", calibration=images, out=tmp_path / "int8")
    assert made.manifest.precision == "int8"
    cases = made.report["parity"]["cases"]
    assert [case["name"] for case in cases] == ["01.png 24x40", "06.png 24x40", "11.png 24x40"]
    assert any(f"{nodes} node" in note and "of 9 images; in each of 3 others" in note for note in made.report["notes"])
    assert made.report["ops"]["after"]["QuantizeLinear"] >= 1
    exact = segc.compile(net, target=target, out=tmp_path / "fp32")
    x = np.random.default_rng(0).uniform(0, 255, (1, 3, 24, 40)).astype(np.float32)
    a, b = (segc.load(bundle.path).run(x)["logits"] for bundle in (exact, made))
    assert 1e-3 < np.abs(a - b).max() / np.abs(a).max() < 0.05


def test_an_engine_for_images_is_calibrated_with_images(net: Path, images: Path, tmp_path: Path) -> None:
    made = segc.compile(net, precision="int8", calibration=images, input="uint8", out=tmp_path / "b")
    photo = photograph(24, 40, 3)
    assert segc.load(made.path).segment(photo).mask.shape == (24, 40)


def test_an_engine_beyond_the_limit_is_not_published(net: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError) as raised:
        segc.compile(net, precision="int8", calibration=images, min_agreement=1.0, out=tmp_path / "b")
    assert raised.value.code == Code.PARITY_GATE and "of pixels equal, limit 100.00%" in str(raised.value)
    assert not (tmp_path / "b").exists()


def test_wrong_requests_are_refused(net: Path, images: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    single.mkdir()
    cv2.imwrite(str(single / "a.png"), photograph(24, 40))
    alone = onnx_file(tmp_path)  # one convolution, before the mask
    given: dict[str, Any] = {"source": net, "precision": "int8", "calibration": images, "out": tmp_path / "b"}
    changes: list[tuple[dict[str, Any], type[SegcError], Code]] = [
        ({"calibration": None}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"precision": "fp32"}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"dynamic": True}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"calibration": single}, UsageError, Code.CALIBRATION),
        ({"calibration": tmp_path / "gone"}, UsageError, Code.CALIBRATION),
        ({"source": alone}, UsageError, Code.UNSUPPORTED_BY_MODEL),
    ]
    for change, kind, code in changes:
        asked = dict(given)
        asked.update(change)
        with pytest.raises(SegcError) as raised:
            segc.compile(**asked)
        assert (type(raised.value), raised.value.code) == (kind, code), change
    assert not (tmp_path / "b").exists()


def test_an_image_that_cannot_be_read_is_named(net: Path, images: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), photograph(24, 40))
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(FileError, match=r"c\.png"):
        segc.compile(net, precision="int8", calibration=tmp_path, out=tmp_path / "out")


def test_targets_without_integers_say_so(net: Path, images: Path, tmp_path: Path) -> None:
    done = segc_process(
        "compile", net, "--target", "ncnn", "--precision", "int8", "--calibration", images, "-o", tmp_path / "b"
    )
    refused(done, 2, "ncnn does not offer int8")
