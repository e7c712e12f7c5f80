"""`segc bisect`: faults planted in passes and in tables, and faults that runtimes really have, found to the node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_graphsurgeon as gs
import pytest

import segc
from segc import targets
from segc.commands.bisect import Bisection
from segc.commands.compile import compile_request
from segc.compilation.request import Request
from segc.errors import Code, FileError, ParityError, UsageError
from segc.parity import bisect as search
from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.fuse_conv_batchnorm import FuseConvBatchnorm
from segc.passes.performance.expand_prelu import ExpandPRelu
from segc.runtime.ort import outputs_of
from segc.targets.pplnn.runtime import importable
from tests.helpers import tiny_models
from tests.helpers.calls import segc as command_line

BODY = """<ir_version: 9, opset_import: ["" : 17]> g (float[1,3,5,5] x) => (float[1,4,5,5] y)
    <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1},
     float[4,4,1,1] v = {1, -2, 3, 4, 5, 6, -6, 5, 4, 3, -2, 1, -1, 2, 3, 1}> {
    a = Conv(x, w)  b = Relu(a)  BODY  y = Conv(c, v)
}"""


def source(folder: Path, body: str) -> Path:
    path = folder / "m.onnx"
    onnx.save(onnx.parser.parse_model(BODY.replace("BODY", body)), path)
    return path


def plant(monkeypatch: pytest.MonkeyPatch, name: str, *ops: str, without: str = "") -> None:
    """The target with a wrong row for each op, without a pass."""
    real = targets.get(name)
    passes = tuple(step for step in real.legalize if step.name != without)
    wrong = replace(real, ops={**real.ops, **dict.fromkeys(ops, ())}, legalize=passes, configure=lambda made, _: made)
    monkeypatch.setattr(targets, "get", lambda asked, get=targets.get: wrong if asked == name else get(asked))


def shows(found: Bisection) -> subprocess.CompletedProcess[str]:
    """Run the script that shows the difference."""
    assert found.folder is not None
    script = found.folder / "show.py"
    assert len(script.read_text().splitlines()) <= 30
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("target", "op", "body", "kind"),
    [
        ("openvino", "ReduceLogSumExp", "l = ReduceLogSumExp<axes=[2], keepdims=1>(b)  c = Sub(b, l)", "another shape"),
        (
            "ncnn",
            "Trilu",
            "m = Trilu(b)  c = Add(b, m)",
            "a refusal",
        ),
    ],
)
def test_a_wrong_row_of_a_table_is_found_to_the_node(
    target: str, op: str, body: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, target, op)
    said: list[str] = []
    request = Request(source(tmp_path, body), target=target, hybrid=False)
    found = segc.bisect(request, out=tmp_path / "out", progress=said.append)
    assert found.stage == "runtime"
    assert [node.split(" ")[0] for node in found.nodes] == [op]
    assert kind in found.words[0] and target in found.words[0]
    assert any("right up to value 2 of 5" in line for line in said)
    assert shows(found).returncode == 1
    kept = onnx.load(tmp_path / "out" / "part.onnx")
    (x,) = np.load(tmp_path / "out" / "inputs.npz").values()
    (want,) = outputs_of(tmp_path / "out" / "part.onnx", {kept.graph.input[0].name: x}).values()
    np.testing.assert_array_equal(want, np.load(tmp_path / "out" / "expected.npy"))
    assert json.loads((tmp_path / "out" / "result.json").read_text())["stage"] == "runtime"


@pytest.mark.skipif(not importable(), reason="needs a build of ppl.nn")
@pytest.mark.parametrize(
    ("body", "without", "op"),
    [
        ("c = Mul(b, b)", "legalize-repeated-operands", "Mul"),
        ("l = ReduceMean<axes=[1], keepdims=1>(x)  c = Sub(b, l)", "legalize-inner-reductions", "ReduceMean"),
    ],
)
def test_what_pplnn_really_gets_wrong_is_found(
    body: str, without: str, op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, "pplnn", op, without=without)
    found = segc.bisect(Request(source(tmp_path, body), target="pplnn"), out=tmp_path / "out")
    assert found.stage == "runtime"
    assert found.nodes[-1].startswith(f"{op} ")
    assert shows(found).returncode not in (0, None)


def test_segments_of_a_hybrid_are_searched_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ncnn")
    body = "h = Hardmax<axis=1>(b)  s = Add(h, b)  m = Trilu(s)  c = Add(m, s)"  # ncnn has no Hardmax
    plant(monkeypatch, "ncnn", "Trilu")
    request = Request(source(tmp_path, body), target="ncnn", partitioning=segc.Partitioning(1, 0, 0))
    found = segc.bisect(request, out=tmp_path / "out")
    assert (found.stage, found.nodes) == ("runtime", ("Trilu 'Trilu/m', unknown origin",))
    assert "segment 2 of the hybrid" in found.words


def test_ops_of_the_dialect_that_the_target_has_are_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ncnn")
    text = tiny_models.changed("torch.relu(self.conv(x))", "torch.tril(F.adaptive_avg_pool2d(self.conv(x), (3, 5)))")
    plant(monkeypatch, "ncnn", "Trilu")
    request = Request(tiny_models.source(tmp_path, text), target="ncnn", hybrid=False, output="logits", shape=(10, 18))
    found = segc.bisect(request, out=tmp_path / "out")
    assert found.stage == "runtime"
    assert found.nodes[0].startswith("Trilu ") and "net.py:15 forward" in found.nodes[0]
    assert shows(found).returncode == 1


def test_what_the_table_refuses_is_named(tmp_path: Path) -> None:
    found = segc.bisect(Request(source(tmp_path, "m = Trilu(b)  c = Add(b, m)"), target="ncnn", hybrid=False))
    assert (found.stage, found.folder) == ("table", None)
    assert "no Trilu in ncnn" in " ".join(found.words)
    assert found.nodes[0].startswith("Trilu 'Trilu/m'")


def wrong_constants(step: type[Pass], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the weights wrong that a pass writes."""
    real: Callable[..., PassResult] = step.run

    def run(self: Pass, graph: gs.Graph) -> PassResult:
        before = {id(tensor) for tensor in graph.tensors().values()}
        result = real(self, graph)
        for node in graph.nodes if result.changes else ():
            for tensor in node.inputs[1:]:
                if isinstance(tensor, gs.Constant) and id(tensor) not in before and tensor.values.dtype == np.float32:
                    tensor.values = tensor.values * np.float32(-3)
        return result

    monkeypatch.setattr(step, "run", run)


def test_a_wrong_pass_is_named_with_the_line_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_constants(ExpandPRelu, monkeypatch)
    text = tiny_models.changed("torch.relu(self.conv(x))", "self.act(self.conv(x))")
    text = text.replace("        self.head", "        self.act = nn.PReLU(16)\n        self.head", 1)
    text = text.replace("nn.Conv2d(3, 8,", "nn.Conv2d(3, 16,").replace("nn.Conv2d(8,", "nn.Conv2d(16,")
    request = Request(tiny_models.source(tmp_path, text), shape=(32, 32))
    with pytest.raises(ParityError) as raised:
        compile_request(replace(request, out=tmp_path / "bundle"))
    assert raised.value.code is Code.PARITY_GATE
    assert f"segc bisect {request.source} --target onnxruntime --shape 32x32" in str(raised.value)
    found = segc.bisect(request, out=tmp_path / "out")
    assert found.stage == "pass"
    assert "'expand-prelu'" in found.words[0]
    assert any("net.py:" in node and "expand-prelu" in node for node in found.nodes), found.nodes
    assert any("the traced graph is right" in line for line in found.ruled_out)
    ran = shows(found)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "relative error" in ran.stdout


def test_a_pass_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: object, graph: gs.Graph) -> PassResult:
        raise IndexError("planted")

    monkeypatch.setattr(FuseConvBatchnorm, "run", run)
    found = segc.bisect(Request(source(tmp_path, "c = Exp(b)"), target="ncnn"), out=tmp_path / "out")
    assert found.stage == "pass"
    assert "'fuse-conv-batchnorm'" in found.words[0] and "planted" in found.words[0]


def test_a_hang_is_a_fault_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_child(*_: object) -> search.Run:
        def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
            if any(node.op_type == "Exp" for node in model.graph.node):
                raise search.Failed("hang", ["it did not answer within 20 s"])
            (y,) = outputs_of(model.SerializeToString(), {model.graph.input[0].name: x}).values()
            return y

        return run

    monkeypatch.setattr(search, "in_child", in_child)
    found = segc.bisect(Request(source(tmp_path, "c = Exp(b)")), out=tmp_path / "out")
    assert found.nodes == ("Exp 'Exp/c', unknown origin",)
    assert "no answer" in found.words[0] and "it did not answer within 20 s" in found.words


def test_stopping_keeps_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "ncnn", "Trilu")

    def stop(text: str) -> None:
        if "wrong at value" in text:
            raise KeyboardInterrupt

    request = Request(source(tmp_path, "m = Trilu(b)  c = Add(b, m)"), target="ncnn", hybrid=False)
    with pytest.raises(KeyboardInterrupt):
        segc.bisect(request, out=tmp_path / "out", progress=stop)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "the search was stopped" in result["words"][-1]
    assert (tmp_path / "out" / "part.onnx").is_file()


def test_nothing_differs_and_the_command_says_what_was_tried(tmp_path: Path) -> None:
    result = command_line("bisect", source(tmp_path, "c = Exp(b)"), "--target", "openvino", "-o", tmp_path / "out")
    assert result.code == 0
    assert "at fault:  nothing" in result.out
    assert "the engine is right in openvino" in result.out
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="exists") as raised:
        segc.bisect(Request(source(tmp_path, "c = Exp(b)")), out=tmp_path)
    assert raised.value.code is Code.DESTINATION_TAKEN


def test_seconds_are_a_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        segc.bisect(Request("m.onnx"), seconds=float("nan"))
