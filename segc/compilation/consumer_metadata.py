"""Preprocessing and classes as the programs read them that run ONNX files: OpenVINO's ModelAPI and QGIS's deepness."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from segc.bundle.preprocessing import SIZING
from segc.frontend.model import ModelInfo


def of(info: ModelInfo, size: Sequence[object], *, images: bool) -> dict[str, str]:
    """Keys and values for an ONNX file's metadata_props.

    size: (height, width) of the input, of other types where they are open. images: the graph normalizes uint8 images.
    """
    found = {
        "model_type": json.dumps("Segmentor"),
        "class_names": json.dumps({str(at): name for at, name in enumerate(info.classes)}, ensure_ascii=False),
        "model_info model_type": "Segmentation",
        "model_info labels": " ".join(name.replace(" ", "_") for name in info.classes),
        "model_info reverse_input_channels": str(info.channel_order == "RGB" and not images),
    }
    if isinstance(size[1], int) and size[0] == size[1]:
        found["tile_size"] = json.dumps(size[1])  # deepness cuts squares
    if info.threshold is not None:  # deepness compares what the engine gives
        found["seg_thresh"] = json.dumps(round(math.log(info.threshold / (1 - info.threshold)), 9))
    if images or info.table is not None or not all(isinstance(step, SIZING) for step in info.chain):
        return found  # mean and std alone would be wrong
    mean, std = (v if len(v) == info.in_channels else (v[0],) * info.in_channels for v in (info.mean, info.std))
    found["model_info mean_values"] = " ".join(f"{value:.9g}" for value in mean)
    found["model_info scale_values"] = " ".join(f"{value:.9g}" for value in std)
    if info.channel_order == "RGB":  # the order that deepness feeds, divided by 255
        found["standardization_mean"] = json.dumps([float(f"{value / 255:.9g}") for value in mean])
        found["standardization_std"] = json.dumps([float(f"{value / 255:.9g}") for value in std])
    return found
