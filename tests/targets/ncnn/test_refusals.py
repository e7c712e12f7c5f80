"""What cannot be compiled for ncnn ends in an error that says why, and leaves nothing behind."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import onnx
import pytest

from tests.helpers.tiny_models import CONV, onnx_file, parsed

pytest.importorskip("ncnn")

import segc
from segc.errors import CompileError, LegalityError, MissingPackageError, SegcError
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Settings

INSTALL = "pip install 'segc[ncnn]'"


def refused(folder: Path, text: str, error: type[SegcError]) -> str:
    """The message; nothing but the source may be left."""
    source = onnx_file(folder, text)
    with pytest.raises(error) as raised:
        segc.compile(source, target="ncnn", out=folder / "b", hybrid=False, simplify=False)
    assert [path.name for path in folder.iterdir()] == [source.name]
    return str(raised.value)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str, real: object = importlib.metadata.version) -> str:
        if name == "ncnn":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)  # type: ignore[operator, no-any-return]

    monkeypatch.setattr(importlib.metadata, "version", version)
    message = refused(tmp_path, CONV, MissingPackageError)
    assert "target 'ncnn' needs the package 'ncnn'" in message and INSTALL in message


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)  # what the import statement takes for absent
    message = refused(tmp_path, CONV, MissingPackageError)
    assert "ncnn cannot be imported" in message and INSTALL in message


def test_a_bundle_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = segc.compile(onnx_file(tmp_path), target="ncnn", out=tmp_path / "b", threads=1)
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MissingPackageError) as raised:
        segc.load(bundle.path)
    assert INSTALL in str(raised.value)


def test_a_layer_that_the_installed_ncnn_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ncnn

    real = ncnn.create_layer
    monkeypatch.setattr(ncnn, "create_layer", lambda type_: None if type_ == "Convolution" else real(type_))
    assert "the installed ncnn has no layer Convolution" in refused(tmp_path, CONV, CompileError)


LARGE = """g (float[1,3,8,12] x) => (float[1,3,30000,30000] y) <int64[4] s = {1, 3, 30000, 30000}>
    { y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , , s) }"""
INTEGERS = """g (float[1,3,8,12] x) => (float[1,3,8,12] y) <int64 big = {16777217}>
    { i = Cast<to = 7>(x)  j = Add(i, big)  y = Cast<to = 1>(j) }"""
DOUBLE = """g (float[1,3,8,12] x) => (float[1,3,8,12] y) { d = Cast<to = 11>(x)  e = Exp(d)  y = Cast<to = 1>(e) }"""
UNKNOWN = "g (float[1,3,8,12] x) => (float[1,3,8,12] y) { y = Softsign(x) }"
FOREIGN = CONV.replace("y = Conv(x, w)", "c = Conv(x, w)  y = Shrink(c)")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LARGE, "ncnn's limit is 2^31 - 1"),
        (INTEGERS, "holds 16777217, which float32 cannot represent exactly"),
        (DOUBLE, "is float64, ncnn's layers compute in float32"),
        (UNKNOWN, "no Softsign in ncnn"),
        (FOREIGN, "no Shrink in ncnn"),
    ],
)
def test_what_ncnn_cannot_hold_or_compute_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    assert reason in refused(tmp_path, text, LegalityError)


def test_a_side_that_no_image_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegcError, match="limit"):
        NCNN.emit(parsed("g (float[1,3,65536,65536] x) => (float[1,3,65536,65536] y) { y = Relu(x) }"), tmp_path,
                  Settings())  # fmt: skip
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[1,3,8,12] x) => (float[1,3,8,12] y, float[1,3,8,12] z) { y = Relu(x)  z = Abs(x) }", "2 outputs"),
        ("g (float[1,3,8,12] x, float[1,3,8,12] w) => (float[1,3,8,12] y) { y = Add(x, w) }", "2 inputs"),
        ("g (float[3,8,12] x) => (float[3,8,12] y) { y = Relu(x) }", "ncnn takes one image at a time"),
        ("g (float[1,3,4,8,12] x) => (float[1,3,4,8,12] y) { y = Relu(x) }", "ncnn takes one image at a time"),
    ],
)
def test_a_graph_of_another_form_is_refused_by_the_emitter(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=reason):
        NCNN.emit(parsed(text), tmp_path, Settings())
    assert not any(tmp_path.iterdir())


def test_a_node_that_reads_what_nobody_makes_is_refused(tmp_path: Path) -> None:
    model = parsed("g (float[1,3,8,12] x) => (float[1,3,8,12] y) { a = Relu(x)  y = Add(a, x) }")
    model.graph.node[1].input[1] = "nobody"
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    with pytest.raises(SegcError, match="nobody"):
        segc.compile(path, target="ncnn", out=tmp_path / "b")
    assert [found.name for found in tmp_path.iterdir()] == ["broken.onnx"]
