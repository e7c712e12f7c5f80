"""An mmseg config small enough to build in a test: a UNet of two stages with SyncBN."""

from __future__ import annotations

from pathlib import Path

TINY = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
crop_size = (32, 48)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=BGR_TO_RGB, pad_val=7, seg_pad_val=255,
        TEST_CFG),
    pretrained='https://nowhere.example/weights.pth',
    backbone=dict(
        type='UNet', in_channels=3, base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,), norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')),
    decode_head=dict(
        type='FCNHead', in_channels=4, in_index=1, channels=4, num_convs=1, num_classes=CLASSES, HEAD
        dropout_ratio=0.1, norm_cfg=norm_cfg, align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=USE_SIGMOID)),
    test_cfg=dict(MODE))
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=True), EXTRA
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(dataset=dict(type='CityscapesDataset', pipeline=test_pipeline))
"""
DEFAULTS = {
    "BGR_TO_RGB": "True", "TEST_CFG": "", "CLASSES": "19", "HEAD": "", "USE_SIGMOID": "False", "MODE": "mode='whole'",
    "EXTRA": "",
}  # fmt: skip


def config(folder: Path, **values: str) -> Path:
    text = TINY
    for name, value in {**DEFAULTS, **values}.items():
        text = text.replace(name, value)
    path = folder / "tiny_config.py"
    path.write_text(text)
    return path
