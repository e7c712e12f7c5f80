"""`meta["predict"]` of Python sources against `segment`, on files; channels that the model or the user names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import segc
from segc.commands.compile import compile as compile_source
from segc.errors import Code, ParityError, UsageError
from segc.frontend.source import open_source
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import NET, changed, onnx_file, source

pytest.importorskip("torch")

PREDICT = """

import cv2
import numpy as np


def predict(path):
    image = cv2.imread(path, FLAG)
    image = image[..., None] if image.ndim == 2 else image
    small = cv2.resize(image, (80, 48), interpolation=cv2.INTER_LINEAR)
    small = small[..., None] if small.ndim == 2 else small
    x = torch.from_numpy(small.transpose(2, 0, 1).copy())[None].float()
    y = model(ORDER(x) / 50 - 2)
    y = F.interpolate(y, size=image.shape[:2], mode="bilinear", align_corners=False)
    return y.argmax(1)[0].numpy().astype("uint8")


meta = dict(shape=(24, 40), resize_scale=(80, 48), keep_ratio=False, predict=predict, META)
"""


def written(folder: Path, net: str = NET, *, flag: str = "1", order: str = "", meta: str) -> Path:
    order = order or "(lambda x: x[:, [2, 1, 0]])"
    own = PREDICT.replace("FLAG", flag).replace("ORDER", order).replace("META", meta)
    return source(folder, f"import torch; torch.manual_seed(0)\n{net}{own}")


def test_a_function_of_ones_own_agrees_with_segment(tmp_path: Path) -> None:
    path = written(tmp_path, meta="mean=[100] * 3, std=[50] * 3")
    bundle = compile_source(path, dynamic=True, out=tmp_path / "b")
    (case,) = bundle.report["files"]
    assert case["tensor_error"] < 1e-5 and case["agreement"] >= 0.999
    assert not any("not compared" in note for note in bundle.report["notes"])
    assert segc.verify(tmp_path / "b", source=path).files


@pytest.mark.parametrize("meta", ["mean=[90] * 3, std=[50] * 3", "mean=[100] * 3, std=[50] * 3, channel_order='BGR'"])
def test_a_meta_that_says_otherwise_is_refused(tmp_path: Path, meta: str) -> None:
    with pytest.raises(ParityError) as caught:
        compile_source(written(tmp_path, meta=meta), dynamic=True, out=tmp_path / "b")
    assert caught.value.code == Code.FILES_DIFFER


def test_an_engine_of_another_size_is_not_compared_and_says_so(tmp_path: Path) -> None:
    bundle = compile_source(written(tmp_path, meta="mean=[100] * 3, std=[50] * 3"), out=tmp_path / "b")
    assert any("fixed at 24x40" in note and "48x80" in note for note in bundle.report["notes"])


def test_a_predict_that_gives_no_mask_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, meta="mean=[100] * 3, std=[50] * 3")
    path.write_text(path.read_text().replace('.numpy().astype("uint8")', ".float()"))
    bundle = compile_source(path, dynamic=True, out=tmp_path / "b")
    assert any("class numbers" in note for note in bundle.report["notes"])


def test_a_predict_that_is_no_function_is_refused(tmp_path: Path) -> None:
    path = source(tmp_path, f"{NET}\nmeta = dict(predict='mask.png')\n")
    refused(command("compile", path, "-o", tmp_path / "b"), 3, "predict is a str")


@pytest.mark.parametrize(("channels", "flag"), [(1, "0"), (4, "-1")])
def test_channels_come_from_the_model_and_its_images_run(tmp_path: Path, channels: int, flag: str) -> None:
    net = changed("nn.Conv2d(3, 8", f"nn.Conv2d({channels}, 8")
    path = written(
        tmp_path, net, flag=flag, order="(lambda x: x)", meta=f"mean=[100] * {channels}, std=[50] * {channels}"
    )
    bundle = compile_source(path, dynamic=True, out=tmp_path / "b")
    assert bundle.manifest.input.shape[1] == channels and bundle.report["files"][0]["agreement"] >= 0.999
    image = photograph(37, 53)
    picture = image[..., 0] if channels == 1 else np.dstack([image, image[..., :1]])
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    ran = command("run", tmp_path / "b", tmp_path / "a.png", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert cv2.imread(str(tmp_path / "out" / "a_overlay.png")).shape == (37, 53, 3)


def test_the_number_of_channels_is_the_models_the_means_or_the_users(tmp_path: Path) -> None:
    four = source(tmp_path, changed("nn.Conv2d(3, 8", "nn.Conv2d(4, 8"), name="four.py")
    assert open_source(four).info.in_channels == 4
    assert open_source(source(tmp_path)).info.in_channels == 3
    mean = source(tmp_path, NET.replace("meta = dict(", "meta = dict(in_channels=5, mean=[1] * 5, std=[1] * 5, "))
    assert open_source(mean).info.in_channels == 5
    assert open_source(source(tmp_path), channels=6).info.in_channels == 6
    free = onnx_file(tmp_path, "g (float[N,C,H,W] x) => (float[N,C,H,W] y) { y = Abs(x) }", name="free.onnx")
    assert open_source(free, channels=7).info.in_channels == 7
    with pytest.raises(UsageError, match="3 channels"):
        open_source(onnx_file(tmp_path), channels=4)
