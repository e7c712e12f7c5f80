"""ONNX files that no exporter writes: refused with a reason, before a library or memory is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest

from segc.commands.optimize import read
from segc.errors import FileError, SegcError, SourceError
from segc.frontend.onnx_file import open_onnx
from segc.graph.external_weights import read_graph
from segc.graph.onnx_border import LARGEST_TENSOR
from segc.graph.onnx_reader import parse_model, read_model
from tests.helpers.tiny_models import CONV, onnx_file, parsed

Change = Callable[[onnx.ModelProto], object]


def written(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def base() -> onnx.ModelProto:
    return parsed("""g (float[1,3,8,12] x) => (float[1,2,4,6] y) <float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}>
        { a = Conv(x, w)  y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a) }""")


def set_attribute(model: onnx.ModelProto, node: int, name: str, value: object) -> None:
    kept = [a for a in model.graph.node[node].attribute if a.name != name]
    del model.graph.node[node].attribute[:]
    model.graph.node[node].attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def swap_to_cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def typed_otherwise(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].type = onnx.AttributeProto.FLOAT


def function_that_calls_itself(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("F", ["x"], ["y"], domain="own")
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    model.functions.append(onnx.helper.make_function("own", "F", ["x"], ["y"], [node], opsets))


CHANGES: dict[str, tuple[Change, str]] = {
    "more dims than values": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 31), "it needs"),
    "a negative size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -2), "has the shape"),
    "dims beyond all files": (lambda m: m.graph.initializer[0].dims.extend([1 << 40] * 3), "larger than files are"),
    "no type": (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "does not know"),
    "an unknown type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "does not know"),
    "values of another type": (lambda m: m.graph.initializer[0].int64_data.append(1), "of another type"),
    "one value too few": (lambda m: m.graph.initializer[0].float_data.pop(), "it needs 6"),
    "bytes too few": (lambda m: setattr(m.graph.initializer[0], "raw_data", b"1"), "values twice"),
    "an output beyond all memory": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 1 << 40), "can be computed",
    ),
    "strides of 0": (lambda m: set_attribute(m, 1, "strides", [2, 0]), "strides [2, 0]"),
    "a kernel of 2^40": (lambda m: set_attribute(m, 1, "kernel_shape", [1 << 40, 1]), "too large"),
    "a group of 0": (lambda m: set_attribute(m, 0, "group", 0), "group [0]"),
    "dilations below 0": (lambda m: set_attribute(m, 0, "dilations", [-1, 1]), "dilations [-1, 1]"),
    "an attribute twice": (
        lambda m: m.graph.node[1].attribute.append(m.graph.node[1].attribute[0]), "twice"
    ),
    "an attribute of no type": (lambda m: setattr(m.graph.node[1].attribute[0], "type", 0), "no known type"),
    "an attribute typed otherwise": (typed_otherwise, "values of another type"),
    "an attribute without a name": (lambda m: setattr(m.graph.node[1].attribute[0], "name", ""), "without a name"),
    "a graph that is not there": (
        lambda m: m.graph.node[1].attribute.add(name="g", type=onnx.AttributeProto.GRAPH), "without a value"
    ),
    "a cycle": (swap_to_cycle, "needs what only it leads to"),
    "a node without outputs": (lambda m: m.graph.node[1].output.pop(), "has no output"),
    "a node without an op": (lambda m: setattr(m.graph.node[1], "op_type", ""), "no op"),
    "an input that is missing": (lambda m: m.graph.node[0].input.__setitem__(1, "nowhere"), "nothing writes"),
    "two nodes that write one name": (lambda m: m.graph.node[1].output.__setitem__(0, "a"), "is there already"),
    "two inputs of one name": (lambda m: m.graph.input.append(m.graph.input[0]), "two inputs"),
    "two initializers of one name": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]), "two initializers"
    ),
    "an input without a name": (lambda m: setattr(m.graph.input[0], "name", ""), "has no name"),
    "an initializer without a name": (lambda m: setattr(m.graph.initializer[0], "name", ""), "has no name"),
    "no output": (lambda m: m.graph.output.pop(), "no output"),
    "an output that nothing writes": (lambda m: setattr(m.graph.output[0], "name", "z"), "written by no node"),
    "an opset of 0": (lambda m: setattr(m.opset_import[0], "version", 0), "version 0"),
    "an opset of 2^40": (lambda m: setattr(m.opset_import[0], "version", 1 << 40), "version 1099"),
    "an opset twice": (lambda m: m.opset_import.append(m.opset_import[0]), "2 times"),
    "no ops of ONNX": (lambda m: setattr(m.opset_import[0], "domain", "own"), "no version of ONNX's own"),
    "a function that calls itself": (function_that_calls_itself, "needs what only it leads to"),
    "an input of unknown type": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77), "does not know"
    ),
    "a size below -1": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -9), "has the shape"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_cannot_be_a_model_is_named(tmp_path: Path, what: str) -> None:
    change, words = CHANGES[what]
    model = base()
    del model.opset_import[1]
    parse_model(written(tmp_path, model))
    change(model)
    path = written(tmp_path, model)
    for reader in (parse_model, open_onnx, read):
        with pytest.raises(SourceError) as caught:
            reader(path)
        assert words in str(caught.value), caught.value


def sparse(values: list[float], places: list[list[int]] | list[int], dims: list[int]) -> onnx.SparseTensorProto:
    made = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [len(values)], values)
    at = onnx.numpy_helper.from_array(np.asarray(places, np.int64), "places")
    return onnx.helper.make_sparse_tensor(made, at, dims)


@pytest.mark.parametrize(
    ("places", "dims", "words"),
    [([0, 1 << 40], [4], "outside"), ([-1, 0], [4], "outside"), ([0, 1], [1 << 40], "too large"),
     ([[0, 0]], [2, 2], "2] values at"), ([0, 1], [0], "has the shape"), ([[0, 3], [1, 1]], [2, 2], "outside")],
)  # fmt: skip
def test_sparse_values_outside_of_their_shape_are_refused(
    tmp_path: Path, places: list[int], dims: list[int], words: str
) -> None:
    model = base()
    model.graph.sparse_initializer.append(sparse([1.0, 2.0], places, dims))
    with pytest.raises(SourceError, match="not a valid ONNX model") as caught:
        parse_model(written(tmp_path, model))
    assert words in str(caught.value)


def test_graphs_within_graphs_have_a_bottom(tmp_path: Path) -> None:
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    for _ in range(30):
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = onnx.helper.make_graph([node], "g", [], graph.output)
        if len(graph.SerializeToString()) > 1 << 20:
            break
    inner = onnx.helper.make_graph(
        graph.node, "g", [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])], graph.output
    )
    path = written(tmp_path, onnx.helper.make_model(inner, opset_imports=[onnx.helper.make_opsetid("", 17)]))
    with pytest.raises(SourceError):
        parse_model(path)


# --- external data


def with_data(folder: Path, **entries: str) -> Path:
    model = onnx.load(onnx_file(folder))
    tensor = model.graph.initializer[0]
    (folder / "e.data").write_bytes(onnx.numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in ({"location": "e.data"} | entries).items():
        tensor.external_data.add(key=key, value=value)
    (folder / "e.onnx").write_bytes(model.SerializeToString())
    return folder / "e.onnx"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": str(2**63)}, "ends at byte 9223372036854775832"),
        ({"offset": str(2**70)}, "offset '1180591620717411303424'"),
        ({"offset": "-4"}, "offset '-4'"),
        ({"offset": "four"}, "offset 'four'"),
        ({"offset": "\u0664"}, "offset"),
        ({"offset": "8"}, "which has 24"),
        ({"length": "1"}, "has 1 bytes, its shape asks for 24"),
        ({"length": str(2**62)}, "its shape asks for 24"),
        ({"location": "n" * 300}, "names no file"),
        ({"location": ""}, "names no file"),
        ({"location": "a\0b"}, "names no file"),
        ({"location": "../e.data"}, "outside its folder"),
        ({"location": "/etc/passwd"}, "outside its folder"),
        ({"location": "sub\\..\\..\\e.data"}, "outside its folder"),
        ({"location": "."}, "is missing"),
        ({"location": "loop"}, "cannot be found|is missing"),  # Python resolves a circle from 3.13 on
        ({"location": "fifo"}, "is missing"),
        ({"location": "away"}, "outside its folder"),
        ({"location": "gone.data"}, "is missing"),
    ],
)
def test_external_data_that_is_not_where_it_should_be_is_refused(
    tmp_path: Path, entries: dict[str, str], words: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "loop").symlink_to("loop")
    (tmp_path / "e.data").write_bytes(b"0" * 24)
    (folder / "away").symlink_to(tmp_path / "e.data")
    os.mkfifo(folder / "fifo")
    path = with_data(folder, **entries)
    for reader in (read_model, read_graph, open_onnx, read):
        with pytest.raises(SourceError) as caught:
            reader(path)
        assert re.search(words, str(caught.value)), caught.value


# --- files that are none


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_bytes(b"")
    names = ("fifo.onnx", "loop.onnx", "zero.onnx", "folder.onnx", "n" * 300 + ".onnx", "a\0b.onnx", "file/b.onnx")
    for name in names:
        for reader in (parse_model, open_onnx, read):
            with pytest.raises(FileError):
                reader(tmp_path / name)


def test_any_cut_of_a_file_is_a_message(tmp_path: Path) -> None:
    content = onnx_file(tmp_path, CONV).read_bytes()
    path = tmp_path / "cut.onnx"
    refused = 0
    for end in range(len(content)):
        path.write_bytes(content[:end])
        try:
            open_onnx(path)
        except SegcError:
            refused += 1
    assert refused > len(content) * 3 // 4  # what is cut off behind the graph is not needed


def test_the_largest_shape_is_judged_in_values() -> None:
    assert LARGEST_TENSOR == 1 << 40


@pytest.mark.parametrize("field", ["graph", "node", "tensor", "dimension", "doc"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, field: str) -> None:
    model = base()
    del model.opset_import[1]
    named = {
        "graph": lambda name: setattr(model.graph, "name", name),
        "node": lambda name: setattr(model.graph.node[0], "name", name),
        "tensor": lambda name: setattr(model.graph.initializer[0], "doc_string", name),
        "dimension": lambda name: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", name),
        "doc": lambda name: setattr(model, "doc_string", name),
    }
    named[field]("nameqqq")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString().replace(b"nameqqq", b"name\x80qq"))
    with pytest.raises(SourceError, match="is not text: b'name"):
        parse_model(tmp_path / "m.onnx")
