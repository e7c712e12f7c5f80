"""Small bundles of every kind for each target that runs on any machine: compiled ones, and changes of their manifests.

A dynamic convolution is whole; told to slide over a crop it is slide; with its argmax left to segc's runtime it is
host-mask; with an operator in the middle that the target lacks it is hybrid.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import segc
from segc import targets
from segc.bundle.manifest import Decode, Manifest
from segc.bundle.store import write_bundle
from segc.hybrid.options import Partitioning
from segc.targets import registry
from tests.helpers.tiny_models import onnx_file

TARGETS = ("onnxruntime", "openvino", "ncnn")
KINDS = ("whole", "slide", "host-mask", "hybrid")
CASES = [(target, kind) for target in TARGETS for kind in KINDS if (target, kind) != ("onnxruntime", "hybrid")]
SIZE = 24, 40  # of what cannot be dynamic

CONV = """g (float[1,3,H,W] x) => (float[1,4,H,W] y)
    <float[6,3,3,3] w = {WEIGHTS}, float[4,6,1,1] v = {MORE}> {
    a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = MIDDLE(a)  y = Conv(b, v) }"""


def model(folder: Path, kind: str) -> Path:
    """The ONNX file: 3 channels to 4 classes, Relu in the middle, or for hybrid Erf, which the target is to lack."""
    weights = ", ".join(f"{(7 * i % 19 - 9) / 10}" for i in range(6 * 27))
    more = ", ".join(f"{(5 * i % 11 - 5) / 10}" for i in range(24))
    text = CONV.replace("WEIGHTS", weights).replace("MORE", more)
    if kind == "hybrid":
        text = text.replace("MIDDLE", "Erf").replace("H,W", f"{SIZE[0]},{SIZE[1]}")
    return onnx_file(folder, text.replace("MIDDLE", "Relu"), name=f"{kind}.onnx")


def bundle(target: str, kind: str, folder: Path) -> Path:
    """A bundle of this kind below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    out, path = folder / f"{target}-{kind}", model(folder, kind)
    if kind == "hybrid":
        with without_erf(target):
            segc.compile(path, target=target, out=out, partitioning=Partitioning(work_per_byte=0, min_share=0))
        return out
    made = segc.compile(path, target=target, out=folder / f"{target}-{kind}-plain", dynamic=True)
    return rewritten(made.path, out, changed(made.manifest, kind))


def changed(manifest: Manifest, kind: str) -> Manifest:
    """The manifest of a dynamic bundle with logits, as that of this kind."""
    if kind == "slide":
        inference = dataclasses.replace(manifest.inference, mode="slide", crop=(16, 16), stride=(10, 11))
        return dataclasses.replace(manifest, inference=inference)
    if kind == "host-mask":
        output = dataclasses.replace(manifest.output, kind="mask", dtype="uint8", decode=Decode(resize=True))
        return dataclasses.replace(manifest, output=output)
    return manifest


def rewritten(path: Path, out: Path, manifest: Manifest) -> Path:
    """A copy of a bundle with another manifest."""
    with write_bundle(out) as staging:
        for name in manifest.files:
            (staging.directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path / name, staging.directory / name)
        staging.manifest = manifest
    return out


@contextmanager
def without_erf(name: str) -> Iterator[None]:
    """The target without its row for Erf, if it has one; ONNX Runtime under its name stays whole for the host."""
    whole = registry.get(name)
    smaller = dataclasses.replace(whole, ops={op: checks for op, checks in whole.ops.items() if op != "Erf"})
    with mock.patch.object(targets, "get", lambda asked: smaller if asked == name else registry.get(asked)):
        yield
