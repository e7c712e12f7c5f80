"""`segc.explain`: conditions of a target's table, passes that serve an op, and what becomes of one node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import segc
from segc import targets
from segc.errors import Code, UsageError
from segc.targets.checks import condition
from tests.helpers import tiny_models
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command
from tests.helpers.tiny_models import onnx_file

GRID = """g (float[1,3,8,12] x, float[1,4,4,2] grid) => (float[1,3,4,4] y) {
    a = Identity(x)  s = GridSample<mode="bilinear">(a, grid)  y = HardSwish(s)
}"""
PRELU = """g (float[1,3,8,12] x) => (float[1,2,8,12] y)
    <float[16,3,1,1] w = {W}, float[16,1,1] slopes = {S}, float[2,16,1,1] v = {V}> {
    a = Conv(x, w)  b = PRelu(a, slopes)  y = Conv(b, v) }"""
PRELU = (
    PRELU.replace("W", ", ".join(map(str, range(48)))).replace("S", ", ".join(["-2"] * 16))
    .replace("V", ", ".join(["1", "2"] * 16))
)  # fmt: skip


@pytest.mark.parametrize("target", targets.names())
def test_every_condition_of_every_table_has_words(target: str) -> None:
    speechless = {op for op, checks in targets.get(target).ops.items() if not all(map(condition, checks))}
    assert speechless == set()


def test_an_op_that_the_target_has() -> None:
    found = segc.explain("reducel1", target="openvino")
    assert (found.op, found.listed, found.table) == ("ReduceL1", True, "targets/openvino/target.py")
    assert any("Axes are an input" in words for words in found.accepted)
    assert "onnxruntime" in found.others and "openvino" not in found.others


def test_an_op_that_a_pass_serves() -> None:
    found = segc.explain("GridSample", target="pplnn")
    assert not found.listed and found.accepted == ()
    assert [rewrite.name for rewrite in found.rewrites] == ["legalize-grid-sample"]
    assert set(found.others) == {"onnxruntime", "openvino", "ncnn", "tensorrt"}


def test_a_condition_of_pplnn_quotes_the_measured_fact() -> None:
    accepted = segc.explain("Conv", target="pplnn").accepted
    assert any("symmetric" in words and "notes x86 Conv" in words for words in accepted)


def test_what_becomes_of_a_node(tmp_path: Path) -> None:
    found = segc.explain("s", target="pplnn", source=onnx_file(tmp_path, GRID))
    assert found.op == "GridSample" and found.node is not None
    events = found.node.events
    assert events[0] == "remove-identities changes GridSample(a, grid) to GridSample(x, grid)"
    assert events[1].startswith("legalize-grid-sample replaces GridSample 'GridSample/s' by ")
    assert any(event.startswith("legalize-gather-elements replaces GatherElements") for event in events)
    assert len(found.node.end) > 50 and all(why is None for _, why in found.node.end)


def test_a_node_that_goes_without_a_trace(tmp_path: Path) -> None:
    found = segc.explain("Identity/a", target="ncnn", source=onnx_file(tmp_path, GRID))
    assert found.node is not None and found.node.end == ()
    assert found.node.events == ("remove-identities removes Identity 'Identity/a': in its place stands x",)


def test_a_node_that_stays(tmp_path: Path) -> None:
    found = segc.explain("y", target="openvino", source=onnx_file(tmp_path, GRID))
    assert found.node is not None
    assert (found.node.events, found.node.end) == ((), (("HardSwish 'HardSwish/y'", None),))


def test_a_node_that_is_refused_says_why(tmp_path: Path) -> None:
    text = "g (float[1,3,8,12] x) => (float[1,3,8,12] y) { y = Det2(x) }".replace("Det2", "Hardmax<axis=1>")
    done = command("explain", "y", "--target", "ncnn", "--source", onnx_file(tmp_path, text))
    assert done.code == 0, done.err
    assert "refused: the target has no such op" in done.out
    assert "Hardmax 'Hardmax/y': refused, no Hardmax in ncnn" in done.out


def test_the_command_counts_what_is_accepted(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, GRID)
    done = command("explain", "s", "--target", "pplnn", "--source", path, "--shape", "8x12")
    assert "nodes that are accepted: " in done.out and "legalize-grid-sample replaces" in done.out
    found = json.loads(command("explain", "s", "--target", "pplnn", "--source", path, "--json").out)
    assert (found["op"], found["listed"]) == ("GridSample", False)


def test_what_is_unknown_is_refused_with_what_is_close(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean Conv"):
        segc.explain("Convv", target="ncnn")
    with pytest.raises(UsageError, match=r"did you mean .*HardSwish/y"):
        segc.explain("HardSwish/x", target="ncnn", source=onnx_file(tmp_path, GRID))
    with pytest.raises(UsageError, match="no target 'ncn'"):
        segc.explain("Conv", target="ncn")
    refused(command("explain", "C102", "--source", tmp_path / "a.onnx"), UsageError.exit_code, "need --target")
    refused(command("explain", "Conv"), UsageError.exit_code, "for an op or a node, name the target")


def test_a_node_of_a_traced_source(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    path = tiny_models.source(tmp_path)
    done = command("explain", "relu", "--target", "ncnn", "--source", path, "--shape", "16x24")
    assert done.code == 0, done.err
    assert "Relu(conv2d)" in done.out and "net.py:15 forward" in done.out
    assert "no pass changed it" in done.out and "accepted" in done.out
    refused(command("explain", "relus", "--target", "ncnn", "--source", path), 2, "did you mean")


def test_a_node_of_a_bundle(tmp_path: Path) -> None:
    net = onnx_file(tmp_path, PRELU, name="net.onnx")
    segc.compile(net, out=tmp_path / "kept", keep_onnx=True)
    found = segc.explain("b", source=tmp_path / "kept")
    assert found.target == "onnxruntime" and found.node is not None
    assert found.node.events == ("expand-prelu made it",)
    assert "in final.onnx" in found.node.what
    shown = command("explain", "y", "--source", tmp_path / "kept")
    assert shown.code == 0 and "Conv on onnxruntime" in shown.out and "accepted" in shown.out


def test_what_a_bundle_cannot_say(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    net = onnx_file(tmp_path, PRELU, name="net.onnx")
    segc.compile(net, target="openvino", out=tmp_path / "bundle")
    for call, code in (
        (lambda: segc.explain("b", source=tmp_path / "bundle"), Code.UNSUPPORTED_BY_TARGET),
        (lambda: segc.explain("b", source=tmp_path / "bundle", target="ncnn"), Code.CONFLICTING_OPTIONS),
        (lambda: segc.explain("Conv"), Code.CONFLICTING_OPTIONS),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert raised.value.code is code
