"""Read the written files back: they must hold exactly the net, in layers that the installed ncnn has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segc.errors import Code, CompileError
from segc.targets.ncnn.files.write import FP16_TAG, FP32_TAG, INT8_TAG, MAGIC, param_texts
from segc.targets.ncnn.net.net import Net

_WIDTHS = {FP32_TAG: 4, FP16_TAG: 2, INT8_TAG: 1}  # bytes of a number, by the tag before the weights


@dataclass(frozen=True)
class Line:
    """One layer of a .param file."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: tuple[str, ...]


def read_param(path: Path) -> list[Line]:
    """The layers of a .param file. Raises CompileError when its header does not match them."""
    magic, counts, *rest = path.read_text(encoding="ascii").splitlines()
    lines = [_line(text) for text in rest]
    layers, blobs = (int(count) for count in counts.split())
    if int(magic) != MAGIC or layers != len(lines) or blobs != sum(len(line.outputs) for line in lines):
        raise _damaged(path, f"its header says {magic}, {counts}; it holds {len(lines)} layers")
    return lines


def _line(text: str) -> Line:
    type_, name, inputs, outputs, *rest = text.split()
    inputs_end, outputs_end = int(inputs), int(inputs) + int(outputs)
    blobs = tuple(rest[:inputs_end]), tuple(rest[inputs_end:outputs_end])
    return Line(type_, name, *blobs, tuple(rest[outputs_end:]))


def read_back(net: Net, param: Path, binary: Path) -> None:
    """Raise CompileError unless the .param and the .bin file hold the net."""
    lines = read_param(param)
    expected = [
        Line(
            layer.type, layer.name, tuple(b.name for b in layer.inputs), tuple(b.name for b in layer.outputs),
            tuple(param_texts(layer)),
        )
        for layer in net.layers
    ]  # fmt: skip
    if lines != expected:
        pairs = zip(lines, expected, strict=False)
        differing = next((actual.name for actual, wanted in pairs if actual != wanted), "its end")
        raise _damaged(param, f"it differs from the net at {differing}")
    defined: set[str] = set()
    for line in lines:
        if undefined := [name for name in line.inputs if name not in defined]:
            raise _damaged(param, f"{line.type} '{line.name}' reads {undefined[0]}, which no earlier layer computes")
        defined.update(line.outputs)
    consumed, size = _weight_bytes(net, binary), binary.stat().st_size
    if consumed != size:
        raise _damaged(binary, f"its layers read {consumed} of {size} bytes")


def _weight_bytes(net: Net, binary: Path) -> int:
    """How many bytes the layers read, by the tags in the file, as ncnn reads them."""
    position = 0
    content = np.memmap(binary, np.uint8, "r") if binary.stat().st_size else np.zeros(0, np.uint8)
    for layer in net.layers:
        for weight in layer.weights:
            width = 4
            if weight.tagged:
                inside = position + 4 <= content.size
                tag = int(content[position : position + 4].view("<u4")[0]) if inside else -1
                if tag not in _WIDTHS:
                    raise _damaged(binary, f"layer '{layer.name}' finds no tag at byte {position}")
                position, width = position + 4, _WIDTHS[tag]
            position += -(-weight.values.size * width // 4) * 4  # padded to four bytes
    return position


def unknown_layers(net: Net, exists: Callable[[str], bool]) -> list[str]:
    """The net's layer types that the installed ncnn lacks. exists(type): whether it has one."""
    return sorted({layer.type for layer in net.layers if not exists(layer.type)})


def _damaged(path: Path, why: str) -> CompileError:
    return CompileError(
        f"{path.name} does not hold what was written", code=Code.EMISSION, because=why, so="please report the model"
    )
