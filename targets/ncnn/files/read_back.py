"""Read the written files back: what is on the disk is what was meant, and the installed ncnn knows every layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segc.errors import CompileError
from segc.targets.ncnn.files.write import FP16_TAG, FP32_TAG, MAGIC, params
from segc.targets.ncnn.net.net import Net


@dataclass(frozen=True)
class Line:
    """One layer of a .param file."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: tuple[str, ...]


def read_param(path: Path) -> list[Line]:
    """The layers of a .param file. Raises CompileError when its own counts do not fit it."""
    magic, counts, *rest = path.read_text(encoding="ascii").splitlines()
    lines = [_line(text) for text in rest]
    layers, blobs = (int(count) for count in counts.split())
    if int(magic) != MAGIC or layers != len(lines) or blobs != sum(len(line.outputs) for line in lines):
        raise _damaged(path, f"its head says {magic}, {counts}; it holds {len(lines)} layers")
    return lines


def _line(text: str) -> Line:
    type_, name, inputs, outputs, *rest = text.split()
    first, second = int(inputs), int(inputs) + int(outputs)
    return Line(type_, name, tuple(rest[:first]), tuple(rest[first:second]), tuple(rest[second:]))


def read_back(net: Net, param: Path, binary: Path) -> None:
    """Compare both files with the net. Raises CompileError."""
    lines = read_param(param)
    meant = [
        Line(
            layer.type, layer.name, tuple(b.name for b in layer.inputs), tuple(b.name for b in layer.outputs),
            tuple(params(layer)),
        )
        for layer in net.layers
    ]  # fmt: skip
    if lines != meant:
        differing = next((got.name for got, want in zip(lines, meant, strict=False) if got != want), "its end")
        raise _damaged(param, f"it differs from the net at {differing}")
    made: set[str] = set()
    for line in lines:
        if lacking := [name for name in line.inputs if name not in made]:
            raise _damaged(param, f"{line.type} '{line.name}' reads {lacking[0]}, which no earlier layer makes")
        made.update(line.outputs)
    consumed, size = _weights(net, binary), binary.stat().st_size
    if consumed != size:
        raise _damaged(binary, f"its layers read {consumed} of {size} bytes")


def _weights(net: Net, binary: Path) -> int:
    """How many bytes the layers read, by the tags in the file, as ncnn does."""
    at = 0
    content = np.memmap(binary, np.uint8, "r") if binary.stat().st_size else np.zeros(0, np.uint8)
    for layer in net.layers:
        for weight in layer.weights:
            width = 4
            if weight.tagged:
                tag = int(content[at : at + 4].view("<u4")[0]) if at + 4 <= content.size else -1
                if tag not in (FP32_TAG, FP16_TAG):
                    raise _damaged(binary, f"layer '{layer.name}' finds no tag at byte {at}")
                at, width = at + 4, 2 if tag == FP16_TAG else 4
            at += -(-weight.values.size * width // 4) * 4
    return at


def unknown_layers(net: Net, exists: Callable[[str], bool]) -> list[str]:
    """Layer types that the installed ncnn lacks."""
    return sorted({layer.type for layer in net.layers if not exists(layer.type)})


def _damaged(path: Path, why: str) -> CompileError:
    return CompileError(f"{path.name} does not hold what was written", because=why, so="please report the model")
