"""A bundle's JSON as somebody else may have written it: refused by name, before a runtime sees any of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import segc
from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import Manifest, self_digest
from segc.bundle.report import read_report
from segc.bundle.store import read_bundle, read_manifest
from segc.errors import BundleError, FileError
from tests.helpers.tiny_bundles import REPORT, bundle, manifest


def signed(path: Path, **changes: Any) -> None:
    """Change fields of segc.json, `a__b=1` for {"a": {"b": 1}}, and sign it again."""
    value = json.loads((path / "segc.json").read_bytes())
    del value["sha256"]
    for dotted, new in changes.items():
        *folders, last = dotted.split("__")
        part = value
        for key in folders:
            part = part[key]
        part[last] = new
    (path / "segc.json").write_bytes(canonical({**value, "sha256": self_digest(value)}))


NCNN = {
    "input": "in0", "output": "out0", "rank": 3, "dtype": "float32", "use_fp16_packed": False,
    "use_fp16_storage": False, "use_fp16_arithmetic": False, "use_bf16_storage": False,
    "use_winograd63_convolution": False,
}  # fmt: skip


@pytest.mark.parametrize("target", ["ncnn", "openvino", "onnxruntime", "pplnn", "tensorrt"])
@pytest.mark.parametrize(
    "options",
    [{"input": None}, {**NCNN, "input": None}, {**NCNN, "rank": 2**40}, {**NCNN, "dtype": "O"}, {"CACHE_DIR": "/tmp"},
     {"INFERENCE_PRECISION_HINT": None}, {"time_limit": None}, {"in_child": True}, {"onnx": "../../model.onnx"},
     {"deferred": "yes"}],
)  # fmt: skip
def test_options_that_a_target_never_writes_reach_no_runtime(
    tmp_path: Path, target: str, options: dict[str, object]
) -> None:
    path = bundle(tmp_path / "b")
    signed(path, target__name=target, target__options=options)
    with pytest.raises(BundleError, match="cannot be loaded"):
        segc.load(path)


def test_a_precision_that_segc_does_not_know_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b")
    signed(path, precision="int4")
    with pytest.raises(BundleError, match="cannot be used: precision") as caught:
        segc.load(path)
    assert "fp32 or fp16" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"1" * 5000, b"NaN", b'"\\ud800"', b"\xff\xfe", b"{}", b"[]",
     b'{"format": 1e400}', b'{"format": true}', b"null", b'{"format": 1, "format": 1}'],
)  # fmt: skip
def test_json_of_any_shape_is_a_message(tmp_path: Path, content: bytes) -> None:
    path = bundle(tmp_path / "b")
    (path / "segc.json").write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(path)
    (path / "report.json").write_bytes(content)
    with pytest.raises(BundleError):
        read_report(path)


@pytest.mark.parametrize("depth", [400, 20_000])
def test_a_field_of_any_depth_is_a_message_or_is_read(tmp_path: Path, depth: int) -> None:
    path = bundle(tmp_path / "b")
    text = (path / "segc.json").read_bytes()
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    (path / "segc.json").write_bytes(text.replace(b'"mode": "whole"', b'"mode": ' + deep, 1))
    with pytest.raises(BundleError):
        read_bundle(path)


@pytest.mark.parametrize("name", ["segc.json", "report.json", "model.onnx"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = bundle(tmp_path / "b")
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises((BundleError, FileError)):
        read_bundle(path)
    if name == "report.json":
        with pytest.raises(FileError, match="cannot be read"):
            read_report(path)


def test_a_manifest_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b")
    with (path / "segc.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no disk
    with pytest.raises(FileError, match="cannot be read"):
        read_manifest(path)


def test_a_report_is_checked_where_it_is_read(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b")
    assert read_report(path) == REPORT
    (path / "report.json").write_bytes(canonical({**REPORT, "timings": None}))
    with pytest.raises(BundleError, match="cannot be used: timings"):
        read_report(path)
    (path / "report.json").unlink()
    with pytest.raises(FileError):
        read_report(path)


def test_a_manifest_in_the_making_is_checked_too() -> None:
    made = manifest()
    with pytest.raises(BundleError, match="classes"):
        Manifest(**{**vars(made), "classes": ("one",)})
