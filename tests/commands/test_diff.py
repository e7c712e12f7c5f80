"""`segc diff`: bundles, files and sources against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import segc
from segc.errors import Code, FileError, SegcError, ShapeError, UsageError
from tests.helpers import tiny_models
from tests.helpers.calls import segc as command_line

NET = """g (float[1,3,8,12] x) => (float[1,2,8,12] y)
    <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1}, float[2,4,1,1] v = {1, -2, 3, -4, 5, 6, -6, 5}> {
    a = Conv(x, w)  b = Relu(a)  c = Tanh(b)  y = Conv(c, v)
}"""
NORMED = """g (float[1,3,8,12] x) => (float[1,3,8,12] y)
    <float[3,3,1,1] w = {1, 2, 3, 4, 5, 6, 6, 5, 4}, float[3] two = {2, 2, 2}, float[3] none = {0, 0, 0},
     float[3] one = {1, 1, 1}> {
    a = Conv(x, w)  b = BatchNormalization<epsilon = 0.0>(a, two, none, none, one)  y = Relu(b)
}"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, other.onnx with another weight in its second convolution, a bundle of each."""
    folder = tmp_path_factory.mktemp("nets")
    tiny_models.onnx_file(folder, NET, name="net.onnx")
    tiny_models.onnx_file(folder, NET.replace("Tanh(b)", "Sigmoid(b)"), name="other.onnx")
    for name in ("net", "other"):
        segc.compile(folder / f"{name}.onnx", out=folder / name, keep_onnx=True)
    return folder


def test_a_file_and_its_bundle_are_equal(nets: Path) -> None:
    found = segc.diff(nets / "net.onnx", nets / "net")
    assert [case.name for case in found.cases] == ["noise", "natural image"]
    assert all(case.equal_pixels == 1.0 and case.relative_error is not None for case in found.cases)
    assert [t.b for t in found.tensors] == ["a", "b", "c", "y"]
    assert (found.first, found.notes, found.folder) == (None, (), None)
    assert found.ops == {"Conv": (2, 2), "Relu": (1, 1), "Tanh": (1, 1)}
    assert found.graph == ""


@pytest.mark.parametrize(("a", "b"), [("net.onnx", "other.onnx"), ("net", "other.onnx"), ("net", "other")])
def test_the_first_tensor_that_differs_is_named(a: str, b: str, nets: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = segc.diff(nets / a, nets / b, out=tmp_path / "d", progress=said.append)
    assert {t.b: t.verdict for t in found.tensors if t.b in "ab"} == {"a": "equal", "b": "equal"}
    assert found.first is not None and (found.first.b, found.first.op) == ("c", "Sigmoid")
    assert found.first.error > found.first.rounding > 0
    assert found.ops["Tanh"] == (1, 0) and found.ops["Sigmoid"] == (0, 1)
    assert "-c = Tanh(b)" in found.graph and "+c = Sigmoid(b)" in found.graph
    assert (tmp_path / "d" / "graph.diff").read_text() == found.graph
    for case in found.cases:
        picture = cv2.imread(str(tmp_path / "d" / case.picture))
        panels = 3 if case.name == "noise" else 4
        assert picture is not None and picture.shape == (8 + 22, panels * 120, 3)
        last = picture[22:, 120 * (panels - 1) :][:, :12]  # white where the masks differ
        assert (last == 255).all(axis=2).sum() == case.differing_pixels
    assert any("inner tensors" in line for line in said)


def test_a_tensor_with_another_meaning_is_no_fault(tmp_path: Path) -> None:
    one = tiny_models.onnx_file(tmp_path, NORMED, name="a.onnx")
    model = onnx.load(one)
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), "w"))
    model.graph.node.remove(model.graph.node[1])
    model.graph.node[1].input[0] = "a"
    onnx.save(model, tmp_path / "b.onnx")
    found = segc.diff(one, tmp_path / "b.onnx")
    assert {t.b: t.verdict for t in found.tensors} == {"a": "another meaning", "y": "equal"}
    assert found.first is None


def test_renamed_tensors_are_matched_by_their_line(nets: Path, tmp_path: Path) -> None:
    paths = []
    for at, names in enumerate(({}, {"a": "a1", "b": "b1", "c": "c1"})):
        model = onnx.load(nets / "net.onnx")
        for line, node in enumerate(model.graph.node, 7):
            for ends in (node.input, node.output):
                for i, name in enumerate(ends):
                    ends[i] = names.get(name, name)
            node.metadata_props.add(key="segc.source", value=f"net.py:{line} forward")
        paths.append(tmp_path / f"{at}.onnx")
        onnx.save(model, paths[-1])
    found = segc.diff(*paths)
    assert [(t.a, t.b, t.origin) for t in found.tensors[:2]] == [
        ("a", "a1", "net.py:7 forward"), ("b", "b1", "net.py:8 forward"),
    ]  # fmt: skip
    assert found.graph == "", "names of tensors that belong together are those of A"


def test_a_source_is_traced_at_the_size_of_the_bundle(tmp_path: Path) -> None:
    source = tiny_models.source(tmp_path)
    segc.compile(source, target="openvino", shape=(32, 48), out=tmp_path / "bundle", keep_onnx=True)
    found = segc.diff(source, tmp_path / "bundle")
    assert found.first is None and found.cases[1].equal_pixels == 1.0
    assert len(found.tensors) >= 4
    assert "net.py:16 forward" in found.tensors[-1].origin


def test_an_engine_without_a_graph_is_compared_from_outside(nets: Path, tmp_path: Path) -> None:
    segc.compile(nets / "net.onnx", target="openvino", out=tmp_path / "bundle", output="mask")
    found = segc.diff(nets / "net", tmp_path / "bundle")
    assert (found.tensors, found.ops, found.graph) == ((), {}, "")
    assert "--keep-onnx" in found.notes[0]
    assert found.cases[0].relative_error is None and found.cases[0].equal_pixels == 1.0


def test_images_of_ones_own(nets: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    found = segc.diff(nets / "net", nets / "other", images=tmp_path)
    assert [case.name for case in found.cases] == ["p.png"]


def test_the_command_prints_what_differs(nets: Path, tmp_path: Path) -> None:
    shown = command_line("diff", nets / "net.onnx", nets / "other.onnx", "-o", tmp_path / "d")
    assert shown.code == 0
    assert "the first that is further apart than rounding explains: 'c'" in shown.out
    assert "Sigmoid\t0\t1" in shown.out and "0-noise.png" in shown.out
    as_json = json.loads(command_line("diff", nets / "net.onnx", nets / "net", "--json").out)
    assert as_json["first"] is None and len(as_json["tensors"]) == 4
    every = command_line("diff", nets / "net.onnx", nets / "net", "--all")
    assert "none is further apart than rounding explains" in every.out and "a\tConv\t1x4x8x12" in every.out


def refused(call: Any, kind: type[SegcError], code: Code) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert raised.value.code is code


def test_what_cannot_be_compared_is_refused(nets: Path, tmp_path: Path) -> None:
    large = tiny_models.onnx_file(tmp_path, NET.replace("8,12", "8,16"), name="large.onnx")
    refused(lambda: segc.diff(nets / "net.onnx", large), ShapeError, Code.ENGINE_SHAPE)
    refused(lambda: segc.diff(nets / "net.onnx", nets / "net", shape=(9, 9)), ShapeError, Code.ENGINE_SHAPE)
    bands = NET.replace("1,3,8,12", "1,1,8,12").replace("4,3,1,1", "4,1,1,1").replace(", 5, 6, 6, 5, 4, 3, 2, 1}", "}")
    grey = tiny_models.onnx_file(tmp_path, bands, name="grey.onnx")
    refused(lambda: segc.diff(nets / "net.onnx", grey), ShapeError, Code.ENGINE_SHAPE)
    refused(lambda: segc.diff(grey, grey, images=tmp_path), UsageError, Code.UNSUPPORTED_BY_MODEL)
    refused(lambda: segc.diff(nets / "net", nets / "net", out=large), FileError, Code.DESTINATION_TAKEN)
    refused(lambda: segc.diff(nets / "net", nets / "net", threads=-1), UsageError, Code.INVALID_NUMBER)
