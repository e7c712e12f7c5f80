"""Models of other libraries for the support matrix: names of torchvision's and smp's, small ones of transformers.

Nothing is downloaded: weights are random from a fixed seed, and the models of transformers are made of configurations.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TORCHVISION = (
    "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50", "fcn_resnet101", "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)  # fmt: skip
_SMP = (
    "unet/resnet18", "unetplusplus/resnet18", "manet/resnet18", "linknet/resnet18", "fpn/resnet18", "pspnet/resnet18",
    "deeplabv3/resnet18", "deeplabv3plus/resnet18", "pan/resnet18", "upernet/resnet18", "segformer/mit_b0",
    "dpt/tu-vit_tiny_patch16_224",
)  # fmt: skip
_TIMM = (
    "convnext_atto", "mobilenetv3_small_100", "efficientnet_lite0", "regnety_002", "repvgg_a0", "resnest14d",
    "ghostnet_100", "edgenext_xx_small", "hrnet_w18_small", "mobilevitv2_050",
)  # fmt: skip
_IMAGENET = {
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 2,
}  # fmt: skip
_SQUARE = {"size": {"height": 64, "width": 64}}
_EDGES = {"size": {"shortest_edge": 64, "longest_edge": 96}}
_VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64}
_SWIN = {
    "model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4],
    "window_size": 4, "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
_CONVNEXT = {
    "model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
_QUERIES = {
    "mask_feature_size": 32, "hidden_dim": 32, "feature_size": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32,
    "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6,
}  # fmt: skip
_DPT = {
    **_VIT, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 16, 16], "fusion_hidden_size": 16,
    "is_hybrid": False, "patch_size": 8,
}  # fmt: skip
_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False}
_DINOV2 = {**_VIT, **_STAGES, "model_type": "dinov2", "patch_size": 8, "apply_layernorm": False}
_DINOV3 = {**_VIT, **_STAGES, "model_type": "dinov3_vit", "patch_size": 8, "apply_layernorm": False}
_EOMT = {**_VIT, "patch_size": 8, "num_blocks": 1, "num_queries": 6, "num_upscale_blocks": 1}

# Name: class, kind, configuration, processor
_TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "segformer": ("SegformerForSemanticSegmentation", "segformer", {
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16,
        "num_attention_heads": [1, 2, 2, 2]}, {"image_processor_type": "SegformerImageProcessor", **_SQUARE}),
    "upernet-convnext": ("UperNetForSemanticSegmentation", "upernet", {
        "backbone_config": _CONVNEXT, "hidden_size": 16, "auxiliary_in_channels": 32, "auxiliary_channels": 16},
        {"image_processor_type": "SegformerImageProcessor", **_SQUARE}),
    "upernet-swin": ("UperNetForSemanticSegmentation", "upernet", {
        "backbone_config": _SWIN, "hidden_size": 16, "auxiliary_in_channels": 64, "auxiliary_channels": 16},
        {"image_processor_type": "SegformerImageProcessor", **_SQUARE}),
    "beit": ("BeitForSemanticSegmentation", "beit", {
        **_VIT, "patch_size": 8, "out_indices": [1, 2, 3, 4], "auxiliary_channels": 16},
        {"image_processor_type": "BeitImageProcessor", **_SQUARE}),
    "data2vec-vision": ("Data2VecVisionForSemanticSegmentation", "data2vec-vision", {
        **_VIT, "patch_size": 8, "out_indices": [0, 1, 2, 3], "auxiliary_channels": 16},
        {"image_processor_type": "BeitImageProcessor", **_SQUARE}),
    "dpt": ("DPTForSemanticSegmentation", "dpt", _DPT, {"image_processor_type": "DPTImageProcessor", **_SQUARE}),
    "dpt-dinov2": ("DPTForSemanticSegmentation", "dpt", {**_DPT, "backbone_config": _DINOV2},
        {"image_processor_type": "DPTImageProcessor", **_SQUARE}),
    "dpt-dinov3": ("DPTForSemanticSegmentation", "dpt", {**_DPT, "backbone_config": _DINOV3},
        {"image_processor_type": "DPTImageProcessor", **_SQUARE}),
    "mobilenet-v2": ("MobileNetV2ForSemanticSegmentation", "mobilenet_v2", {"depth_multiplier": 0.35},
        {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 65},
         "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}),
    "mobilevit": ("MobileViTForSemanticSegmentation", "mobilevit", {
        "hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 32], "num_attention_heads": 2,
        "aspp_out_channels": 16, "image_size": 64},
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 70}, "do_center_crop": True,
         "crop_size": {"height": 64, "width": 64}, "do_flip_channel_order": True}),
    "mobilevitv2": ("MobileViTV2ForSemanticSegmentation", "mobilevitv2", {
        "width_multiplier": 0.5, "aspp_out_channels": 16, "image_size": 64},
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 70}, "do_center_crop": True,
         "crop_size": {"height": 64, "width": 64}, "do_flip_channel_order": True}),
    "mask2former": ("Mask2FormerForUniversalSegmentation", "mask2former", {**_QUERIES, "backbone_config": _SWIN},
        {"image_processor_type": "Mask2FormerImageProcessor", "size_divisor": 32, **_EDGES}),
    "maskformer": ("MaskFormerForInstanceSegmentation", "maskformer", {
        "fpn_feature_size": 32, "mask_feature_size": 32, "backbone_config": _SWIN, "decoder_config": {
            "model_type": "detr", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 6,
            "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}},
        {"image_processor_type": "MaskFormerImageProcessor", "size_divisor": 32, **_EDGES}),
    "eomt": ("EomtForUniversalSegmentation", "eomt", _EOMT, {
        "image_processor_type": "EomtImageProcessor", "do_split_image": True,
        "size": {"shortest_edge": 64, "longest_edge": None}}),
    "eomt-dinov3": ("EomtDinov3ForUniversalSegmentation", "eomt_dinov3", _EOMT, {
        "image_processor_type": "EomtImageProcessor", "do_split_image": True,
        "size": {"shortest_edge": 64, "longest_edge": None}}),
}  # fmt: skip

# Name in the matrix: library
ELSEWHERE: dict[str, str] = {
    **{f"torchvision:{name}": "torchvision" for name in _TORCHVISION},
    **{f"smp:{name}": "smp" for name in _SMP},
    **{f"smp:unet/tu-{name}": "timm" for name in _TIMM},
    **{f"hf:{name}": "transformers" for name in _TRANSFORMERS},
}


def written(name: str, folder: Path) -> str:
    """The source of a name in the matrix. For a model of transformers, its configuration is written to `folder`."""
    if ELSEWHERE.get(name) != "transformers":
        return name
    made, kind, config, processor = _TRANSFORMERS[name.removeprefix("hf:")]
    labels = {str(at): f"class {at}" for at in range(5)}
    said = {
        "architectures": [made], "model_type": kind, "id2label": labels,
        "label2id": {label: int(at) for at, label in labels.items()}, **config,
    }  # fmt: skip
    root = folder / name.removeprefix("hf:")
    root.mkdir()
    (root / "config.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    (root / "preprocessor_config.json").write_text(json.dumps(_IMAGENET | processor, indent=1), encoding="utf-8")
    return f"hf:{root}"
