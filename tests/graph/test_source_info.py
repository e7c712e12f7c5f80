"""Origins: read from what torch's exporter writes, kept under segc's keys, handed on by passes."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs
import pytest

from segc.graph import source_info
from segc.graph.source_info import Adoption, Origin

TRACE = """
  File "/usr/lib/python3/dist-packages/app/main.py", line 3, in run
  File "/opt/env/lib/python3.11/site-packages/mmseg/models/heads/psp.py", line 66, in forward
  File "/opt/env/lib/python3.11/site-packages/torch/nn/functional.py", line 9, in relu
"""


@pytest.mark.parametrize(
    "trace, line",
    [
        (TRACE, "mmseg/models/heads/psp.py:66 forward"),
        ('File "/home/me/net.py", line 4, in forward', "net.py:4 forward"),
        (
            'File "/opt/site-packages/torch/nn/a.py", line 5, in f',
            "torch/nn/a.py:5 f",
        ),
        ("no frame at all", ""),
        ("", ""),
    ],
)
def test_the_innermost_frame_outside_torch_counts(trace: str, line: str) -> None:
    assert source_info.source_line(trace) == line


def node(**props: str) -> onnx.NodeProto:
    made = onnx.NodeProto(op_type="Relu")
    for key, value in props.items():
        made.metadata_props.add(key=key.replace("__", "."), value=value)
    return made


def test_torchs_metadata_gives_line_and_module() -> None:
    read = source_info.read(
        node(pkg__torch__onnx__stack_trace=TRACE, pkg__torch__onnx__name_scopes="['', 'head.conv', 'r']")
    )
    assert read == Origin("mmseg/models/heads/psp.py:66 forward", "head.conv")
    assert str(read) == "mmseg/models/heads/psp.py:66 forward in head.conv"


def test_scopes_that_are_no_list_are_left_out() -> None:
    assert source_info.read(node(pkg__torch__onnx__name_scopes="[broken")) == Origin()
    assert str(Origin()) == "unknown origin"


def test_what_is_written_is_read_back_and_replaces_the_rest() -> None:
    made = node(pkg__torch__onnx__stack_trace=TRACE)
    want = Origin("net.py:4 forward", "head", "fold")
    source_info.write(made, want)
    assert source_info.read(made) == want
    assert {p.key for p in made.metadata_props} == {"segc.source", "segc.scope", "segc.pass"}
    assert str(want) == "net.py:4 forward in head (by fold)"


def test_new_nodes_take_the_origin_of_what_they_replace_or_of_their_consumer() -> None:
    x, a, y = gs.Variable("x"), gs.Variable("a"), gs.Variable("y")
    old = gs.Node("Gelu", inputs=[x], outputs=[y])
    source_info.put(old, Origin("net.py:9 forward"))
    graph = gs.Graph(nodes=[old], inputs=[x], outputs=[y])
    adoption = Adoption(graph)
    old.outputs.clear()
    first, second = gs.Node("Erf", inputs=[x], outputs=[a]), gs.Node("Mul", "mine", inputs=[a], outputs=[y])
    graph.nodes = [first, second]
    adoption.adopt(graph, "lower-gelu")
    assert source_info.of(first) == source_info.of(second) == Origin("net.py:9 forward", made_by="lower-gelu")
    assert (first.name, second.name) == ("lower-gelu/a", "mine")
