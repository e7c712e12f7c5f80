"""Write a net as ncnn's two files: `.param`, which is text, and `.bin`, the weights back to back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segc.targets.ncnn.net.net import Layer, Net, Param, Weight
from segc.targets.ncnn.net.params import PARAMS

MAGIC = 7767517  # the first line of every .param file
FP32_TAG, FP16_TAG, INT8_TAG = 0, 0x01306B47, 0x000D4B38
STRING_LIMIT = 255
MAX_FLOAT16 = 65504.0


def write_param(net: Net, path: Path) -> None:
    """Write the .param file, a line per layer. Equal nets give equal bytes."""
    blobs = sum(len(layer.outputs) for layer in net.layers)
    lines = [f"{MAGIC}", f"{len(net.layers)} {blobs}", *(layer_line(layer) for layer in net.layers)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def layer_line(layer: Layer) -> str:
    """One layer: type, name, numbers of inputs and outputs, blob names, parameters by id."""
    names = [blob.name for blob in (*layer.inputs, *layer.outputs)]
    head = f"{layer.type:<24} {layer.name:<24} {len(layer.inputs)} {len(layer.outputs)}"
    return " ".join([head, *names, *param_texts(layer)])


def param_texts(layer: Layer) -> Iterator[str]:
    """`id=value` of each parameter, by ascending id; the id of an array is -23300 - id."""
    table = PARAMS[layer.type]
    for name, value in sorted(layer.params.items(), key=lambda item: table[item[0]][0]):
        id_, kind = table[name]
        yield f"{-23300 - id_}={array_text(value, kind)}" if kind in "IF" else f"{id_}={scalar_text(value, kind)}"


def scalar_text(value: Param, kind: str) -> str:
    """A number or a quoted string. A float always has a decimal point, without which ncnn would read an integer."""
    if kind == "s":
        assert isinstance(value, str) and len(value) <= STRING_LIMIT
        return f'"{value}"'
    assert isinstance(value, (int, float, np.integer, np.floating))
    if kind == "i":
        assert int(value) == value
        return str(int(value))
    assert np.isfinite(value)
    return f"{float(value):.8e}"


def array_text(value: Param, kind: str) -> str:
    """The length and the elements, separated by commas."""
    assert not isinstance(value, (int, float, str))
    elements = [scalar_text(element, {"I": "i", "F": "f"}[kind]) for element in value]
    return ",".join([str(len(elements)), *elements])


def write_bin(net: Net, path: Path, *, fp32_layers: int | None = None) -> None:
    """Write the weights in the layers' order.

    fp32_layers: how many of the first layers with tagged weights keep float32; the later ones are stored as float16.
    None stores float32 throughout.
    """
    tagged_layers = 0
    with path.open("wb") as file:
        for layer in net.layers:
            fp16 = fp32_layers is not None and tagged_layers >= fp32_layers
            tagged_layers += any(weight.tagged for weight in layer.weights)
            for weight in layer.weights:
                write_weight(file, weight, fp16=fp16)


def write_weight(file: BinaryIO, weight: Weight, *, fp16: bool) -> None:
    """Write one weight, padded to four bytes. Only tagged weights can be float16 or int8.

    Values that float16 cannot hold are clipped to it; int8 values stay int8.
    """
    if weight.values.dtype == np.int8:
        assert weight.tagged
        file.write(struct.pack("<I", INT8_TAG))
        file.write(np.ascontiguousarray(weight.values).tobytes())
        file.write(b"\0" * (-weight.values.size % 4))
        return
    values = np.ascontiguousarray(weight.values, "<f4").reshape(-1)
    if not weight.tagged:
        file.write(values.data)
        return
    if not fp16:
        file.write(struct.pack("<I", FP32_TAG))
        file.write(values.data)
        return
    small = np.clip(values, -MAX_FLOAT16, MAX_FLOAT16).astype("<f2")
    file.write(struct.pack("<I", FP16_TAG))
    file.write(small.data)
    file.write(b"\0" * (-small.nbytes % 4))
