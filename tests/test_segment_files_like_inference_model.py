"""`segment` on files of every kind of sensor and config equals `mmseg.apis.inference_model` on the same files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

import onnx_graphsurgeon as gs
import torch

from segc import targets
from segc.compilation import file_gate, manifest_builder
from segc.frontend.model import Source
from segc.frontend.source import open_source
from segc.parity.limits import Limits
from segc.runtime.engine import Engine
from segc.runtime.own_transforms import load_own
from segc.targets.protocol import Settings
from tests.helpers.tiny_bundles import photograph

NET = """
norm = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder', data_preprocessor=PREPROCESSOR,
    backbone=dict(
        type='UNet', in_channels=CHANNELS, base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,), norm_cfg=norm),
    decode_head=dict(
        type='FCNHead', in_channels=4, in_index=1, channels=4, num_convs=1, num_classes=4, dropout_ratio=0.1,
        norm_cfg=norm, align_corners=False, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False)),
    test_cfg=dict(MODE))
test_pipeline = [PIPELINE dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
"""
IMAGENET = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True"
LOAD, RAW = "dict(type='LoadImageFromFile'),", "dict(type='LoadImageFromFile', color_type='unchanged'),"
EVEN = "dict(type='Resize', scale=(96, 64), keep_ratio=False),"  # of a UNet's sides
OWN = """
import cv2
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS


@MODELS.register_module(force=True)
class UnitPreProcessor(SegDataPreProcessor):
    def forward(self, data, training=False):
        return super().forward({**data, 'inputs': [x.float() / 255 for x in data['inputs']]}, training)
"""
OWN += """

@TRANSFORMS.register_module(force=True)
class Sharpened(BaseTransform):
    def __init__(self, amount):
        self.amount = amount

    def transform(self, results):
        image = results['img']
        results['img'] = cv2.addWeighted(image, 1 + self.amount, cv2.blur(image, (5, 5)), -self.amount, 0)
        return results
"""


def stock(settings: str = IMAGENET) -> str:
    return f"dict(type='SegDataPreProcessor', {settings})"


def even(channels: int, mean: float, std: float) -> str:
    return stock(f"mean={[mean] * channels}, std={[std] * channels}")


# preprocessor, pipeline, mode, channels, type of the pixels
CASES: dict[str, tuple[str, str, str, int, type]] = {
    "usual": (stock(), LOAD + EVEN, "mode='whole'", 3, np.uint8),
    "16 bits": (
        stock("mean=[20000., 20500., 21000.], std=[12000., 12500., 13000.], bgr_to_rgb=True"),
        "dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True)," + EVEN, "mode='whole'", 3, np.uint16,
    ),
    "a preprocessor of one's own": (
        "dict(type='UnitPreProcessor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], rgb_to_bgr=True)",
        LOAD + EVEN, "mode='whole'", 3, np.uint8,
    ),
    "to multiples": (
        stock(),
        LOAD + "dict(type='Resize', scale=(97, 65), keep_ratio=True), dict(type='ResizeToMultiple', size_divisor=8),",
        "mode='whole'", 3, np.uint8,
    ),
    "grey": (
        even(1, 110.0, 55.0), "dict(type='LoadImageFromFile', color_type='grayscale')," + EVEN, "mode='whole'", 1,
        np.uint8,
    ),
    "grey into colour": (
        stock(), "dict(type='LoadImageFromFile', color_type='grayscale')," + EVEN, "mode='whole'", 3, np.uint8,
    ),
    "four bands": (even(4, 100.0, 50.0), RAW + EVEN, "mode='whole'", 4, np.uint8),
    "six bands of floating point": (
        even(6, 0.4, 0.2), "dict(type='LoadImageFromFile', imdecode_backend='tifffile')," + EVEN, "mode='whole'", 6,
        np.float32,
    ),
    "a chain": (
        "dict(type='SegDataPreProcessor')",
        LOAD + "dict(type='CLAHE', clip_limit=2.0), dict(type='ResizeShortestEdge', scale=64, max_size=90),"
        " dict(type='AdjustGamma', gamma=1.2), dict(type='Pad', size_divisor=16),"
        " dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),",
        "mode='whole'", 3, np.uint8,
    ),
    "a transform of one's own": (
        stock(), LOAD + "dict(type='Sharpened', amount=1.5)," + EVEN, "mode='whole'", 3, np.uint8,
    ),
    "sliding": (
        stock(), LOAD + "dict(type='Resize', scale_factor=0.77, keep_ratio=True), dict(type='Rerange'),",
        "mode='slide', crop_size=(32, 48), stride=(22, 32)", 3, np.uint8,
    ),
}  # fmt: skip


def opened(folder: Path, name: str) -> tuple[Path, Source, Engine]:
    """The config, its source with weights, and an engine whose runtime is PyTorch."""
    preprocessor, pipeline, mode, channels, _ = CASES[name]
    text = NET.replace("PREPROCESSOR", preprocessor).replace("PIPELINE", pipeline).replace("MODE", mode)
    text = text.replace("CHANNELS", str(channels))
    if "UnitPreProcessor" in preprocessor or "Sharpened" in pipeline:
        (folder / "unit_preprocessor_of_a_test.py").write_text(OWN)
        text += "custom_imports = dict(imports=['unit_preprocessor_of_a_test'], allow_failed_imports=False)\n"
    (folder / "configs").mkdir()
    config = folder / "configs" / "a_config.py"
    config.write_text(text)
    return of_config(config)


def of_config(config: Path) -> tuple[Path, Source, Engine]:
    source = open_source(config)
    spread(source)
    info, module = source.info, source.module
    assert module is not None
    made = gs.Graph(
        inputs=[gs.Variable("x", np.float32, ("N", info.in_channels, "H", "W"))],
        outputs=[gs.Variable("y", np.float32, ("N", info.channels, "H", "W"))],
    )
    manifest = manifest_builder.manifest(
        info, made, [], target=targets.get("onnxruntime"), runtime="1", options={}, settings=Settings(), output="logits"
    )

    own = load_own(manifest.preprocessing.chain, allowed=True, where="")
    return config, source, Engine(manifest, TorchSession(module), own=own)


class TorchSession:
    """The source's network as an engine."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def run(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = self._module(torch.from_numpy(x)).numpy()
        return logits


def spread(source: Source) -> None:
    """Random heads favour one class everywhere: give each its share of the pixels."""
    module = source.module
    assert module is not None
    torch.manual_seed(0)
    with torch.no_grad():
        y = module(torch.randn(1, source.info.in_channels, 64, 96))
        last: Any = module.segmentor.decode_head.conv_seg  # type: ignore[union-attr]
        std = y.std(dim=(0, 2, 3)).clamp_min(1e-4)
        last.weight /= std[:, None, None, None]
        last.bias.copy_((last.bias - y.mean(dim=(0, 2, 3))) / std)


def picture(folder: Path, channels: int, kind: type, grey: bool) -> Path:
    image = photograph(71, 113).astype(np.float64)
    bands = np.dstack([np.roll(image, 5 * at, 1)[..., at % 3] for at in range(channels)])
    scaled = (bands * {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[kind]).astype(kind)
    if channels == 6:
        import tifffile

        tifffile.imwrite(folder / "a.tif", scaled, photometric="minisblack", planarconfig="contig")
        return folder / "a.tif"
    cv2.imwrite(str(folder / "a.png"), scaled[..., 0] if grey else scaled)
    return folder / "a.png"


def expected_mask(config: Path, source: Source, path: Path, folder: Path) -> np.ndarray:
    """mmseg's own way, from the config and a checkpoint."""
    from mmseg.apis import inference_model, init_model

    assert source.module is not None
    state = {key.removeprefix("segmentor."): value for key, value in source.module.state_dict().items()}
    meta = {"dataset_meta": {"classes": source.info.classes, "palette": source.info.palette}}
    torch.save({"state_dict": state, "meta": meta}, folder / "w.pth")
    model = init_model(str(config), str(folder / "w.pth"), device="cpu")
    keep = [step for step in model.cfg.test_pipeline if "LoadAnnotations" not in str(step["type"])]
    model.cfg.test_pipeline = keep
    mask: np.ndarray = inference_model(model, str(path)).pred_sem_seg.data[0].numpy()
    return mask


def require_equal(config: Path, source: Source, engine: Engine, path: Path, folder: Path) -> None:
    expected = expected_mask(config, source, path, folder)
    mask = engine.segment(engine.read(path)).mask
    assert mask.shape == expected.shape
    assert len(np.unique(expected)) >= 2
    assert float((mask == expected).mean()) >= 0.999
    assert source.on_files is not None
    found = file_gate.check(engine, source.on_files, Limits(1e-3, 0.999))
    assert found.cases and not found.failures and not found.notes


@pytest.mark.parametrize("name", CASES)
def test_masks_of_files_equal_inference_model(tmp_path: Path, name: str) -> None:
    *_, channels, kind = CASES[name]
    if channels == 6:
        pytest.importorskip("tifffile")
    config, source, engine = opened(tmp_path, name)
    require_equal(config, source, engine, picture(tmp_path, channels, kind, channels == 1), tmp_path)


LAZY = """
from mmcv.transforms import LoadImageFromFile, Resize
from mmseg.datasets import LoadAnnotations, PackSegInputs
from mmseg.models import CrossEntropyLoss, EncoderDecoder, FCNHead, SegDataPreProcessor, UNet
from torch.nn import SyncBatchNorm

default_scope = 'mmseg'
norm = dict(type=SyncBatchNorm, requires_grad=True)
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type=UNet, in_channels=3, base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,), norm_cfg=norm),
    decode_head=dict(
        type=FCNHead, in_channels=4, in_index=1, channels=4, num_convs=1, num_classes=4, dropout_ratio=0.1,
        norm_cfg=norm, align_corners=False, loss_decode=dict(type=CrossEntropyLoss, use_sigmoid=False)),
    test_cfg=dict(mode='whole'))
test_pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 64), keep_ratio=False),
    dict(type=LoadAnnotations), dict(type=PackSegInputs)]
"""


@pytest.mark.parametrize("ending", ["as written", ".py", ".json", ".yaml"])
def test_python_style_configs_and_their_dumps_are_read_like_others(tmp_path: Path, ending: str) -> None:
    from mmengine import Config

    config = tmp_path / "lazy_config.py"
    config.write_text(textwrap.dedent(LAZY))
    if ending != "as written":
        dumped = tmp_path / f"dumped{ending}"
        Config.fromfile(str(config)).dump(str(dumped))
        config = dumped
    _, source, engine = of_config(config)
    require_equal(config, source, engine, picture(tmp_path, 3, np.uint8, False), tmp_path)
