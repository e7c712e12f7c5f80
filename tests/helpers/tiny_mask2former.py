"""mmseg configs of Mask2Former and MaskFormer, with mmdet's parts, small enough to trace in a test."""

from __future__ import annotations

from pathlib import Path

_ATTENTION = "dict(embed_dims=16, num_heads=2, batch_first=True)"
_FEED = "dict(embed_dims=16, feedforward_channels=32, num_fcs=2, act_cfg=dict(type='ReLU', inplace=True))"
_DECODER = f"""dict(return_intermediate=True, num_layers=2, layer_cfg=dict(
            self_attn_cfg={_ATTENTION}, cross_attn_cfg={_ATTENTION}, ffn_cfg={_FEED}))"""
_LOSSES = """loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 5 + [0.1]),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True), loss_dice=dict(type='mmdet.DiceLoss')"""
_PIXELS = f"""dict(type='mmdet.MSDeformAttnPixelDecoder', num_outs=3, norm_cfg=dict(type='GN', num_groups=4),
            act_cfg=dict(type='ReLU'), positional_encoding=dict(num_feats=8, normalize=True),
            encoder=dict(num_layers=1, layer_cfg=dict(ffn_cfg={_FEED}, self_attn_cfg=dict(
                embed_dims=16, num_heads=2, num_levels=3, num_points=2, batch_first=True))))"""
_HEAD = """dict(type='TYPE', in_channels=[8, 16, 32, 64], feat_channels=16, out_channels=16, num_classes=5,
        num_queries=6, align_corners=False, enforce_decoder_input_project=False, OWN
        positional_encoding=dict(num_feats=8, normalize=True), transformer_decoder=DECODER, LOSSES)"""
_CONFIG = """
custom_imports = dict(imports='mmdet.models', allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120, 115, 100], std=[58, 57, 56], bgr_to_rgb=True, size=(64, 96),
        test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN')),
    decode_head=HEAD,
    test_cfg=dict(mode='whole'))
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(dataset=dict(type='CityscapesDataset', pipeline=test_pipeline))
"""
_OWN = {
    "Mask2FormerHead": f"strides=[4, 8, 16, 32], num_transformer_feat_level=3, pixel_decoder={_PIXELS},",
    "MaskFormerHead": """in_index=[0, 1, 2, 3], pixel_decoder=dict(type='mmdet.PixelDecoder',
            norm_cfg=dict(type='GN', num_groups=4), act_cfg=dict(type='ReLU')),""",
}


def config(folder: Path, head: str) -> Path:
    """A config with `head`, which is Mask2FormerHead or MaskFormerHead."""
    text = _HEAD.replace("TYPE", head).replace("OWN", _OWN[head]).replace("DECODER", _DECODER)
    path = folder / f"tiny_{head.lower()}.py"
    path.write_text(_CONFIG.replace("HEAD", text.replace("LOSSES", _LOSSES)))
    return path
