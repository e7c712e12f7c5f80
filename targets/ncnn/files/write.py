"""Write a net as ncnn's two files: `.param`, text, and `.bin`, weights back to back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segc.targets.ncnn.net.net import Layer, Net, Param, Weight
from segc.targets.ncnn.net.params import PARAMS

MAGIC = 7767517
FP32_TAG, FP16_TAG = 0, 0x01306B47
STRING_LIMIT = 255
HALF_LARGEST = 65504.0


def write_param(net: Net, path: Path) -> None:
    """The layers, a line each. Equal nets give equal bytes."""
    blobs = sum(len(layer.outputs) for layer in net.layers)
    lines = [f"{MAGIC}", f"{len(net.layers)} {blobs}", *(line(layer) for layer in net.layers)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def line(layer: Layer) -> str:
    """One layer: type, name, numbers of inputs and outputs, their names, parameters by id."""
    names = [blob.name for blob in (*layer.inputs, *layer.outputs)]
    head = f"{layer.type:<24} {layer.name:<24} {len(layer.inputs)} {len(layer.outputs)}"
    return " ".join([head, *names, *params(layer)])


def params(layer: Layer) -> Iterator[str]:
    """`id=value`, by ascending id."""
    table = PARAMS[layer.type]
    for name, value in sorted(layer.params.items(), key=lambda item: table[item[0]][0]):
        at, kind = table[name]
        yield f"{-23300 - at}={array(value, kind)}" if kind in "IF" else f"{at}={single(value, kind)}"


def single(value: Param, kind: str) -> str:
    """A number or a quoted string. A float always has a point: an integer's text would be read as another type."""
    if kind == "s":
        assert isinstance(value, str) and len(value) <= STRING_LIMIT
        return f'"{value}"'
    assert isinstance(value, (int, float, np.integer, np.floating))
    if kind == "i":
        assert int(value) == value
        return str(int(value))
    assert np.isfinite(value)
    return f"{float(value):.8e}"


def array(value: Param, kind: str) -> str:
    """Length and elements."""
    assert not isinstance(value, (int, float, str))
    elements = [single(each, {"I": "i", "F": "f"}[kind]) for each in value]
    return ",".join([str(len(elements)), *elements])


def write_bin(net: Net, path: Path, *, kept: int | None = None) -> None:
    """The weights in the layers' order, float16 behind the first `kept` layers that could store it; None: nowhere."""
    tagged = 0
    with path.open("wb") as file:
        for layer in net.layers:
            half = kept is not None and tagged >= kept
            tagged += any(weight.tagged for weight in layer.weights)
            for weight in layer.weights:
                write_weight(file, weight, half=half)


def write_weight(file: BinaryIO, weight: Weight, *, half: bool) -> None:
    """One weight, padded to four bytes."""
    values = np.ascontiguousarray(weight.values, "<f4").reshape(-1)
    if not weight.tagged:
        file.write(values.data)
        return
    if not half:
        file.write(struct.pack("<I", FP32_TAG))
        file.write(values.data)
        return
    small = np.clip(values, -HALF_LARGEST, HALF_LARGEST).astype("<f2")
    file.write(struct.pack("<I", FP16_TAG))
    file.write(small.data)
    file.write(b"\0" * (-small.nbytes % 4))
