"""Models of which PPLNN runs a part: segments in opsets of their own, with any inputs and outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

import segc as package
from segc import targets
from segc.compilation.settings import settings_of
from segc.errors import LegalityError
from segc.graph import ir
from segc.hybrid.emit import model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.split import split_graph
from segc.legality import report
from segc.targets import registry
from segc.targets.onnxruntime.target import ONNXRUNTIME
from segc.targets.pplnn.target import PPLNN
from tests.helpers.calls import refused, segc
from tests.helpers.pplnn_patterns import violations
from tests.helpers.tiny_models import changed, onnx_file, parsed, source

FAKE = Path(__file__).parent / "fake_pplnn"
WEIGHTS = "float[8,8,3,3] w = {" + ", ".join(f"{0.01 * (i % 17 - 8):.2f}" for i in range(8 * 8 * 9)) + "}"
MIXED = f"""g (float[1,8,16,16] x) => (float[1,8,16,16] y)
    <{WEIGHTS}, int64[1] one = {{1}}, int64[2] parts = {{3, 5}}, int64[2] sides = {{2, 3}}> {{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    s = HardSwish(a)
    m = Softmax <axis = 1> (s)
    n = ReduceMean <keepdims = 1> (m, sides)
    c = Mul(m, n)
    f = Transpose <perm = [0, 2, 3, 1]> (c)
    flow, f2, f3, f4 = Split <axis = 3, num_outputs = 4> (f)
    b = GridSample <mode = "cubic"> (a, flow)
    p, q = Split <axis = 1> (b, parts)
    r = Concat <axis = 1> (q, p)
    t = ReduceMax <keepdims = 0> (r, one)
    u = Unsqueeze(t, one)
    v = Add(r, u)
    y = Conv <pads = [1, 1, 1, 1]> (v, w)
}}"""
DYNAMIC = MIXED.replace("1,8,16,16", "N,8,H,W")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A module pyppl.nn on the path."""
    monkeypatch.syspath_prepend(str(FAKE))
    return monkeypatch


def test_a_model_that_it_runs_in_part_is_split(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    weights = ", ".join(f"{0.01 * (i % 17 - 8):.2f}" for i in range(8 * 8 * 9))
    text = f"""g (float[1,8,16,16] x) => (float[1,8,16,16] y) <float[8,8,3,3] w = {{{weights}}}>
        {{ a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = Atan(a)  y = Conv <pads = [1, 1, 1, 1]> (b, w) }}"""
    bundle = package.compile(onnx_file(tmp_path, text), target="pplnn", out=tmp_path / "b")
    assert bundle.report["hybrid"] and bundle.report["status"] == "ok"
    y = package.load(bundle.path).run(np.ones((1, 8, 16, 16), np.float32))["logits"]
    assert y.shape == (1, 8, 16, 16)


def segments_of(bundle: package.driver.Bundle) -> list[tuple[str, onnx.ModelProto]]:
    found = [(s.target, onnx.load(bundle.path / s.directory / "model.onnx")) for s in bundle.manifest.segments]
    for _, model in found:
        onnx.checker.check_model(model, full_check=True)
    return found


def require_legal(model: onnx.ModelProto, device: str = "x86") -> None:
    """The file, as it was written, is inside the table, and has none of PPLNN's patterns."""
    assert violations(model, device) == []
    target = PPLNN.configure(PPLNN, settings_of(PPLNN, "fp32", {"device": device}))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 11)]
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    assert not report.refusals(graph, target)


@pytest.mark.parametrize("device", ["x86", "cuda"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_what_has_no_older_form_runs_on_the_host_in_its_own_opset(tmp_path: Path, device: str, dynamic: bool) -> None:
    """Each segment has its own opset, and one node without a form does not keep the others from theirs."""
    bundle = package.compile(
        onnx_file(tmp_path, DYNAMIC if dynamic else MIXED), target="pplnn", options={"device": device}, dynamic=dynamic,
        trace_shape=(16, 16) if dynamic else None, out=tmp_path / "b",
    )  # fmt: skip
    (first, one), (second, host), (third, two) = segments_of(bundle)
    assert (first, second, third) == ("pplnn", "onnxruntime", "pplnn")
    assert [node.op_type for node in host.graph.node] == ["GridSample"] and host.opset_import[0].version == 20
    require_legal(one, device)
    require_legal(two, device)
    assert bundle.report["hybrid"]["summary"] == "hybrid (3 segments, 1 node on host)"
    assert bundle.report["hybrid"]["refused"] == ["no GridSample in pplnn: 1 node"]
    counts = [segment.nodes for segment in bundle.manifest.segments]
    assert counts == [len(model.graph.node) for model in (one, host, two)]


def test_a_hybrid_in_several_opsets_computes_what_the_file_says(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    path = onnx_file(tmp_path, DYNAMIC)
    bundle = package.compile(path, target="pplnn", dynamic=True, trace_shape=(16, 16), out=tmp_path / "b")
    assert bundle.report["status"] == "ok" and len(bundle.report["parity"]["cases"]) == 3
    engine, whole = package.load(bundle.path), onnxruntime.InferenceSession(path)
    for shape in ((1, 8, 16, 16), (2, 8, 13, 21)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(engine.run(x)["logits"], whole.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_without_hybrid_only_what_has_no_form_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    cubic = "F.grid_sample(y, torch.tanh(y).permute(0, 2, 3, 1)[..., :2], mode='bicubic', align_corners=False)"
    text = changed(
        "y = self.head(torch.relu(self.conv(x)))",
        f"""y = torch.softmax(self.conv(x), 1)
        y = y * y.mean((2, 3), keepdim=True)
        y = {cubic}
        y = self.head(y)""",
    )
    words = ("compile", source(tmp_path, text), "--target", "pplnn", "--shape", "64x64", "-o", tmp_path / "b")
    done = segc(*words, "--no-hybrid")
    said = (
        "pplnn cannot run 1 node of this model: GridSample",
        "net.py:17",
        "opset 11 has no GridSample",
        "--no-hybrid",
    )
    refused(done, LegalityError.exit_code, *said)
    assert "Softmax" not in done.err and "ReduceMean" not in done.err and not (tmp_path / "b").exists()


def test_sizes_at_run_time_that_opset_11_wants_written_down_go_to_the_host(tmp_path: Path) -> None:
    text = f"""g (float[1,8,H,W] x) => (float[1,8,P,W] y)
        <{WEIGHTS}, int64[1] two = {{2}}, int64[1] three = {{3}}, int64[1] zero = {{0}}, int64[1] one = {{1}}> {{
        a = Conv <pads = [1, 1, 1, 1]> (x, w)  s = Shape(a)  h = Slice(s, two, three, zero)  rest = Sub(h, one)
        parts = Concat <axis = 0> (one, rest)  top, b = Split <axis = 2> (a, parts)
        y = Conv <pads = [1, 1, 1, 1]> (b, w) }}"""
    bundle = package.compile(
        onnx_file(tmp_path, text), target="pplnn", dynamic=True, trace_shape=(16, 16), out=tmp_path / "b"
    )
    assert bundle.report["hybrid"]["refused"] == ["its split sizes are computed at run time: 1 node"]
    for target, model in segments_of(bundle):
        assert (model.opset_import[0].version, target) in {(11, "pplnn"), (20, "onnxruntime")}


def test_indices_that_cross_a_boundary_are_int64_on_cuda(tmp_path: Path) -> None:
    """The host has Trilu, which opset 11 lacks; TopK's indices are int32 on the device."""
    text = f"""g (float[1,8,16,16] x) => (float[1,8,16,4] y) <{WEIGHTS}, int64[1] k = {{4}}> {{
        a = Conv <pads = [1, 1, 1, 1]> (x, w)  v, i = TopK (a, k)  j = Trilu(i)
        b = Conv <pads = [1, 1, 1, 1]> (a, w)  y = GatherElements <axis = 3> (b, j) }}"""
    bundle = package.compile(onnx_file(tmp_path, text), target="pplnn", options={"device": "cuda"}, out=tmp_path / "b")
    files = [model for target, model in segments_of(bundle) if target == "pplnn"]
    assert any(node.op_type == "TopK" for model in files for node in model.graph.node)
    assert all(violations(model, "cuda") == [] for model in files)


def test_what_is_legal_alone_and_not_side_by_side_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that spells nodes alone and leaves them alone in company: nothing illegal is written."""
    alone = dataclasses.replace(PPLNN, configure=lambda target, _: target, ops={**PPLNN.ops, "Neg": (no_company,)})
    monkeypatch.setattr(targets, "get", lambda name: alone if name == "pplnn" else registry.get(name))
    text = MIXED.replace("v = Add(r, u)", "k = Neg(r)  v = Add(k, u)")
    with pytest.raises(LegalityError, match="each node is supported on its own, but not in one segment"):
        package.compile(onnx_file(tmp_path, text), target="pplnn", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def no_company(node: gs.Node) -> str | None:
    return "it is not alone" if node.inputs[0].inputs else None


def test_a_dynamic_hybrid_computes_sizes_where_they_are_needed(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    """The second segment reads the image for its size, and the map: two inputs."""
    pytest.importorskip("torch")
    net = changed("y = self.head(torch.relu(self.conv(x)))", "y = self.head(torch.atan(self.conv(x)))")
    net = net.replace("8, 3, stride=2, padding=1", "8, 5, stride=2, padding=2").replace(
        "8, channels, 1", "8, channels, 5"
    )
    bundle = package.compile(source(tmp_path, net), target="pplnn", dynamic=True, out=tmp_path / "b")
    assert [(s.target, len(s.inputs)) for s in bundle.manifest.segments] == [
        ("pplnn", 1), ("onnxruntime", 1), ("pplnn", 2)
    ]  # fmt: skip
    assert bundle.report["status"] == "ok" and len(bundle.report["parity"]["cases"]) == 6
    for target, model in segments_of(bundle):
        if target == "pplnn":
            require_legal(model)
    for shape in ((1, 3, 24, 40), (2, 3, 19, 31)):
        assert package.load(bundle.path).run(np.ones(shape, np.float32))["logits"].shape == (shape[0], 5, *shape[2:])
    text = (bundle.path / "segments" / "2-pplnn" / "README.md").read_text()
    assert text.count("- input `") == 2 and text.count("numpy.zeros(") == 2 and "--in-shapes 1_3_512_512,1_8" in text
    whole = (bundle.path / "README.md").read_text()
    assert "hybrid (3 segments, 1 node on host)" in whole and "`segments/1-onnxruntime` | onnxruntime" in whole
    assert "README.md" in bundle.manifest.files


@pytest.mark.parametrize("opset", [11, 20])
def test_sizes_that_nobody_knows_get_names_at_boundaries(opset: int) -> None:
    """PPLNN refuses an input with a size that has neither a number nor a name."""
    text = f"g (float[N,8,H,W] x) => (float[N,8,P,Q] y) <{WEIGHTS}> {{ a = Conv(x, w)  b = Atan(a)  y = Conv(b, w) }}"
    graph = ir.from_model(parsed(text, opset))
    ir.infer_shapes(graph)
    for step in PPLNN.legalize:
        step.run(graph)
    graph.nodes[1].outputs[0].shape = ["N", 8, None, None]
    made = split_graph(graph, PPLNN, ONNXRUNTIME, Partitioning(work_per_byte=0), (1, 16, 16), {})
    assert made is not None
    (read,) = model_of(graph, made.segments[2]).graph.input
    assert [d.WhichOneof("value") for d in read.type.tensor_type.shape.dim] == [
        "dim_param", "dim_value", "dim_param", "dim_param"
    ]  # fmt: skip


def test_several_outputs_of_a_dynamic_segment(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    """What goes around the host's node is given beside what goes through it."""
    text = DYNAMIC.replace("v = Add(r, u)", "o = Add(r, u)  v = Add(o, m)")
    path = onnx_file(tmp_path, text)
    bundle = package.compile(path, target="pplnn", dynamic=True, trace_shape=(16, 16), out=tmp_path / "b")
    assert [len(s.outputs) for s in bundle.manifest.segments] == [3, 1, 1]
    x = np.random.default_rng(0).standard_normal((2, 8, 9, 14)).astype(np.float32)
    want = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    np.testing.assert_allclose(package.load(bundle.path).run(x)["logits"], want, rtol=1e-4, atol=1e-5)
