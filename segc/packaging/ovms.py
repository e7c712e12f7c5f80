"""A folder for OpenVINO Model Server: an engine of OpenVINO that takes images and gives masks by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from segc.bundle.manifest import Manifest
from segc.errors import Code, UsageError
from segc.packaging.triton import model_name

READABLE = "openvino"  # the target whose files the server reads
FILES = ("model.xml", "model.bin")
VERSION = "1"
MOUNT = "/models"  # where the README's command mounts the folder
_README = """\
# {name} for OpenVINO Model Server

    docker run --rm -p 9000:9000 -p 8000:8000 -v "$PWD:{mount}:ro" openvino/model_server:latest \\
        --config_path {mount}/config.json --port 9000 --rest_port 8000

The model takes `{input}`, uint8 {shape}: images of {width}x{height} pixels, BGR. It gives the number of the class of
each pixel. Images of other sizes are resized by whoever calls it{how}.
"""


def check(manifest: Manifest) -> None:
    """Refuse engines that need segc's runtime before or after them. Raises UsageError."""
    if manifest.segments or manifest.target.name != READABLE:
        _refuse(f"its engine is of {manifest.hybrid or manifest.target.name}", f"use --target {READABLE}")
    if manifest.input.dtype != "uint8":
        _refuse("its engine takes normalized numbers, and whoever calls it would have to know how", "use --input uint8")
    if manifest.output.kind != "mask" or manifest.output.decode is not None:
        _refuse("its engine gives logits, 4 bytes for each class and pixel", "use --output mask --decode graph")


def fill(folder: Path, bundle: Path, manifest: Manifest) -> None:
    """Write the server's configuration and the engine as version 1 of a model of the bundle's name."""
    name = model_name(bundle)
    version = folder / name / VERSION
    version.mkdir(parents=True)
    for file in FILES:
        shutil.copyfile(bundle / file, version / file)
    config = {"name": name, "base_path": f"{MOUNT}/{name}", "target_device": "CPU"}
    listed = {"config": {**config, "plugin_config": dict(manifest.target.options)}}
    (folder / "config.json").write_text(json.dumps({"model_config_list": [listed]}, indent=2) + "\n", encoding="utf-8")
    batch, channels, height, width = manifest.input.shape
    resize = manifest.preprocessing.resize
    how = "" if resize is None else ", as the model was trained with: bilinearly, as by OpenCV"
    text = _README.format(
        name=name, mount=MOUNT, input=manifest.input.name, shape=f"({batch}, {height}, {width}, {channels})",
        height=height, width=width, how=how,
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


def _refuse(because: str, so: str) -> None:
    raise UsageError(
        "the bundle cannot become a model of OpenVINO Model Server", code=Code.PACKAGE, because=because,
        so=f"compile the model again: {so}",
    )  # fmt: skip
