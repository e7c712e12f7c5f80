"""`--precision int8`: calibrated on images of a folder, judged by others, refused beyond the limit."""

from __future__ import annotations

from dataclasses import replace
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


@pytest.mark.parametrize(("target", "nodes"), [("onnxruntime", 1), ("openvino", 2), ("ncnn", 2)])
def test_an_engine_computes_in_integers_and_is_judged_by_images(
    target: str, nodes: int, net: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip(target)
    asked: dict[str, Any] = {"target": target, "output": "logits"}
    made = segc.compile(net, precision="int8", calibration=images, out=tmp_path / "int8", **asked)
    assert made.manifest.precision == "int8"
    cases = made.report["parity"]["cases"]
    assert [case["name"] for case in cases] == ["01.png 24x40", "06.png 24x40", "11.png 24x40"]
    assert any(f"{nodes} node" in note and "of 9 images; in each of 3 others" in note for note in made.report["notes"])
    assert made.report["ops"]["after"]["QuantizeLinear"] >= 1
    exact = segc.compile(net, out=tmp_path / "fp32", **asked)
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


@pytest.fixture(scope="module")
def labels(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels for all images but the last one: class 1 in the lower half, and a corner that is no class."""
    folder = tmp_path_factory.mktemp("labels")
    label = np.repeat(np.arange(24) // 12, 40).reshape(24, 40).astype(np.uint8)
    label[:4, :4] = 200
    for path in sorted(images.iterdir())[:-1]:
        cv2.imwrite(str(folder / path.name), label)
    return folder


def test_labels_say_what_int8_costs_and_what_each_layer_computes_in(
    net: Path, images: Path, labels: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    asked: dict[str, Any] = {
        "precision": "int8", "calibration": images, "calibration_labels": labels, "state": tmp_path / "state",
    }  # fmt: skip
    made = segc.compile(net, out=tmp_path / "a", max_drop=100, progress=said.append, **asked)
    scores, how = made.report["labels"], made.report["quantization"]
    assert scores["images"] == 5 and scores["limit"] == 100
    assert scores["drop"] == pytest.approx(100 * (scores["miou"][0] - scores["miou"][1]))
    assert {row["precision"] for row in how["layers"]} == {"int8"} and how["chosen"] == how["trials"][-1]["trial"]
    assert all(row["drop"] is not None for row in how["trials"])
    found = [line for line in said if line.startswith("int8, minmax: at least")]
    assert len(found) == 1 and "points of mIoU lost" in found[0]
    kept = (tmp_path / "state").read_text().splitlines()
    segc.compile(net, out=tmp_path / "b", max_drop=100, **asked)
    assert (tmp_path / "state").read_text().splitlines() == kept  # nothing was measured again


def test_an_engine_that_loses_more_miou_than_allowed_is_not_published(net: Path, images: Path, tmp_path: Path) -> None:
    """The labels are the masks of the float32 engine, so that any change is a loss."""
    exact = segc.load(segc.compile(net, out=tmp_path / "fp32").path)
    (tmp_path / "labels").mkdir()
    for path in images.iterdir():
        cv2.imwrite(str(tmp_path / "labels" / path.name), exact.segment(cv2.imread(str(path))).mask)
    asked: dict[str, Any] = {"calibration": images, "calibration_labels": tmp_path / "labels", "max_drop": 0.0}
    made = segc.compile(net, out=tmp_path / "same", **asked)
    assert made.report["labels"]["drop"] == 0 and "quantization" not in made.report
    with pytest.raises(ParityError) as raised:
        segc.compile(net, precision="int8", min_agreement=0.2, out=tmp_path / "b", **asked)
    assert "mIoU of 6 labelled images drops from 100.00" in str(raised.value) and not (tmp_path / "b").exists()


def test_wrong_requests_are_refused(net: Path, images: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    single.mkdir()
    cv2.imwrite(str(single / "a.png"), photograph(24, 40))
    other_size, no_state = tmp_path / "other", tmp_path / "no-state"
    other_size.mkdir()
    for path in images.iterdir():
        cv2.imwrite(str(other_size / path.name), np.zeros((12, 20), np.uint8))
    no_state.write_text("anything")
    alone = onnx_file(tmp_path)  # one convolution, before the mask
    given: dict[str, Any] = {"source": net, "precision": "int8", "calibration": images, "out": tmp_path / "b"}
    changes: list[tuple[dict[str, Any], type[SegcError], Code]] = [
        ({"calibration": None}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"precision": "fp32"}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"dynamic": True}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"max_drop": 0.2}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"max_drop": -1, "calibration_labels": images}, UsageError, Code.INVALID_NUMBER),
        (
            {"calibration": None, "precision": "fp32", "calibration_labels": images},
            UsageError,
            Code.CONFLICTING_OPTIONS,
        ),
        ({"precision": "fp32", "calibration_labels": images, "dynamic": True}, UsageError, Code.CONFLICTING_OPTIONS),
        ({"calibration_labels": other_size}, FileError, Code.LABEL_SIZE),
        ({"state": no_state}, FileError, Code.OTHER_STATE),
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
        "compile", net, "--target", "pplnn", "--precision", "int8", "--calibration", images, "-o", tmp_path / "b"
    )
    refused(done, 2, "pplnn does not offer int8", "PPLNN reads no QuantizeLinear")


def test_auto_takes_the_fastest_precision_that_keeps_the_limits(
    net: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are set, since engines this small are equally fast: int8 would be the fastest, but is beyond the limit."""
    from segc.commands import auto_precision

    pytest.importorskip("openvino")
    ms = {"int8": 1.0, "bf16": 2.0, "fp32": 3.0}
    monkeypatch.setattr(
        auto_precision, "_timed",
        lambda tried, _: [replace(o, milliseconds=ms[o.precision] if o.bundle else None) for o in tried],
    )  # fmt: skip
    asked: dict[str, Any] = {"target": "openvino", "precision": "auto", "calibration": images}
    first = segc.compile(net, out=tmp_path / "a", **asked)
    assert first.manifest.precision == "int8" and [one["precision"] for one in first.report["auto"]] == list(ms)
    second = segc.compile(net, out=tmp_path / "b", min_agreement=1.0, **asked)
    rows = {one["precision"]: one for one in second.report["auto"]}
    assert second.manifest.precision != "int8" and "limit 100.00%" in rows["int8"]["reason"]
    assert any("is the fastest that keeps the limits: int8 " in note for note in second.report["notes"])
    assert segc.load(tmp_path / "b").segment(photograph(24, 40)).mask.shape == (24, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    ms["fp32"] = 1.04  # as fast as int8, but for noise
    assert segc.compile(net, out=tmp_path / "c", **asked).manifest.precision == "fp32"


def test_auto_times_engines_and_refuses_what_it_cannot_time(net: Path, tmp_path: Path) -> None:
    made = segc.compile(net, precision="auto", out=tmp_path / "a")
    assert made.manifest.precision == "fp32" and made.report["auto"][0]["milliseconds"] > 0
    with pytest.raises(UsageError) as raised:
        segc.compile(net, precision="auto", dynamic=True, out=tmp_path / "b")
    assert raised.value.code == Code.CONFLICTING_OPTIONS
