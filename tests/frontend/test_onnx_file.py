"""ONNX files from elsewhere: checked before anything else sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from segc.errors import ShapeError, SourceError
from segc.frontend.onnx_file import at_opset
from segc.frontend.source import open_source
from segc.graph.onnx_reader import read_model
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, onnx_file, parsed

CODE = SourceError.exit_code


def with_external(folder: Path, location: str, **entries: str) -> Path:
    """CONV with its weight in another file."""
    model = parsed(CONV)
    del model.opset_import[1]
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    onnx.save(model, folder / "conv.onnx")
    return folder / "conv.onnx"


def test_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    info = open_source(onnx_file(tmp_path)).info
    assert (info.shape, info.in_channels, info.batch, info.fixed) == ((8, 12), 3, 1, (8, 12))
    opened = open_source(onnx_file(tmp_path, DYNAMIC_CONV))
    free = opened.info
    assert (free.shape, free.in_channels, free.batch, free.fixed) == ((512, 512), 3, 1, (None, None))
    assert any("says nothing about preprocessing" in note for note in opened.notes)


def test_external_data_is_read_from_beside_the_file(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(b"skip" + values.tobytes())
    model = read_model(with_external(tmp_path, "weights.bin", offset="4", length="24"))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]).ravel(), values)


def test_old_opsets_are_raised_and_current_ones_copied() -> None:
    old = parsed(CONV, opset=11)
    del old.opset_import[1]
    assert [o.version for o in at_opset(old).opset_import if o.domain == ""] == [17]
    current = parsed(CONV, opset=18)
    assert at_opset(current) == current
    assert at_opset(current) is not current


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = onnx_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(segc("compile", path, "-o", tmp_path / "b"), CODE, "conv.onnx", "copy it again")


CONTENT = {
    "empty": (b"", "is empty (0 bytes)"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not an ONNX file"),
    "text": (b"not a model at all, but text\n" * 9, "is not an ONNX file"),
    "zeros": (bytes(64), "is not an ONNX file"),
    "another protobuf": (onnx.TensorProto(name="w", dims=[3]).SerializeToString(), "ONNX"),
    "no graph": (onnx.ModelProto(ir_version=9).SerializeToString(), "it holds no graph"),
}


@pytest.mark.parametrize("content, said", CONTENT.values(), ids=CONTENT.keys())
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    refused(segc("compile", path, "-o", tmp_path / "b"), CODE, "odd.onnx", said, "copy it again")
    assert not (tmp_path / "b").exists()


def test_unknown_ops_are_listed_with_their_counts(tmp_path: Path) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { a = Foo(x)  b = Foo(a)  c = mm.Bar(b)  y = Relu(c) }"
    model = parsed(text)
    model.opset_import.add(domain="mm", version=1)
    onnx.save(model, tmp_path / "odd.onnx")
    result = segc("compile", tmp_path / "odd.onnx", "-o", tmp_path / "b")
    refused(result, CODE, "odd.onnx", "Foo: 2 nodes", "mm::Bar: 1 node", "without custom operators")


def test_an_unknown_op_in_a_branch_is_refused_too(tmp_path: Path) -> None:
    text = """g (float[1,3,8,8] x) => (float[1,3,8,8] y) {
        yes = Constant<value = bool {1}>()
        y = If (yes) <then_branch = t () => (float[1,3,8,8] a) { a = Foo(x) },
                      else_branch = e () => (float[1,3,8,8] b) { b = Relu(x) }> }"""
    refused(segc("compile", onnx_file(tmp_path, text), "-o", tmp_path / "b"), CODE, "conv.onnx", "Foo")


def test_functions_of_the_file_itself_are_known_ops(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20, "mine" : 1]>
        g (float[1,3,8,12] x) => (float[1,3,8,12] y) { y = mine.Twice(x) }
        <domain: "mine", opset_import: ["" : 20]> Twice (x) => (y) { y = Add(x, x) }""")
    onnx.save(model, tmp_path / "conv.onnx")
    assert segc("compile", tmp_path / "conv.onnx", "-o", tmp_path / "b").code == 0


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "sub/../../w.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    path = with_external(tmp_path / "model", location)
    result = segc("compile", path, "-o", tmp_path / "b")
    refused(result, CODE, "conv.onnx", "points outside its folder", f"'{location}'", "tensor 'w'", "beside the model")


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "w.bin")
    path = with_external(tmp_path / "model", "w.bin")
    refused(segc("compile", path, "-o", tmp_path / "b"), CODE, "points outside its folder", "'w.bin'")


def test_missing_external_data_is_refused(tmp_path: Path) -> None:
    result = segc("compile", with_external(tmp_path, "w.bin"), "-o", tmp_path / "b")
    refused(result, CODE, "is missing", "tensor 'w' should be in 'w.bin'", "copy 'w.bin' beside the model")


@pytest.mark.parametrize("entries", [{}, {"offset": "100", "length": "24"}, {"offset": "x"}, {"offset": "-4"}])
def test_external_data_that_is_too_short_or_described_wrongly_is_refused(
    tmp_path: Path, entries: dict[str, str]
) -> None:
    (tmp_path / "w.bin").write_bytes(b"123")
    result = segc("compile", with_external(tmp_path, "w.bin", **entries), "-o", tmp_path / "b")
    refused(result, CODE, "conv.onnx", "again")


MODELS = {
    "two inputs": ("g (float[1,3,8,8] x, float[1,3,8,8] z) => (float[1,3,8,8] y) { y = Add(x, z) }", "x of rank 4, z"),
    "rank two": ("g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }", "x of rank 2"),
    "truth values": ("g (bool[1,3,8,8] x) => (float[1,3,8,8] y) { y = Cast<to = 1>(x) }", "input 'x'"),
    "no map": ("g (float[1,3,8,8] x) => (float[1,192] y) { y = Flatten(x) }", "192"),
    "not type-correct": ("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(nothing) }", "nothing"),
}


@pytest.mark.parametrize("text, said", MODELS.values(), ids=MODELS.keys())
def test_a_graph_that_is_no_segmentation_model_is_refused(tmp_path: Path, text: str, said: str) -> None:
    refused(segc("compile", onnx_file(tmp_path, text), "-o", tmp_path / "b"), CODE, said)
    assert not (tmp_path / "b").exists()


def test_opsets_beyond_what_is_known_are_refused(tmp_path: Path) -> None:
    text = """g (float[1,3,8,12] x) => (float[1,3,8,12] y) {
        a = Constant<value = int64 {2}>() y = CumProd(x, a) }"""
    newer = onnx_file(tmp_path, text, opset=26)
    refused(segc("compile", newer, "-o", tmp_path / "b"), CODE, "opset 26", "opset 20 has no CumProd")
    refused(segc("compile", onnx_file(tmp_path, opset=99), "-o", tmp_path / "b"), CODE, "opset 99", "-U onnx")


def test_a_size_the_file_fixes_is_not_changed(tmp_path: Path) -> None:
    path, out = onnx_file(tmp_path), tmp_path / "b"
    code = ShapeError.exit_code
    refused(segc("compile", path, "--shape", "16x16", "-o", out), code, "'conv' is fixed at 8 x 12", "--shape 16x16")
    refused(segc("compile", path, "--dynamic", "-o", out), code, "'conv' is fixed at 8 x 12", "--dynamic", "omit it")
    assert segc("compile", path, "--shape", "8x12", "-o", out).code == 0
