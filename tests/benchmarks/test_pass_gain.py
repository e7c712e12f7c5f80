"""benchmarks/pass_gain.py: both graphs run, and the pass is missing from one of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from segc import targets
from tests.helpers.tiny_models import onnx_file

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "pass_gain.py"


def weights(count: int) -> str:
    return f"{{{', '.join(str(at % 7 / 8 - 0.25) for at in range(count))}}}"


NET = f"""g (float[1,3,16,24] input) => (float[1,4,32,48] logits) <float[16,3,1,1] w = {weights(48)},
    float[16,1,1] s = {weights(16)}, float[4,16,1,1] v = {weights(64)}, float[4] two = {{1, 1, 2, 2}}> {{
    a = Conv (input, w)  b = PRelu (a, s)  r = Resize <mode = "linear"> (b, , two)  logits = Conv (r, v) }}"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("output", ["logits", "mask"])
def test_a_line_for_each_model(tmp_path: Path, output: str) -> None:
    net = onnx_file(tmp_path, NET)
    done = run("hoist-conv-above-resize", net, net, "--output", output, "--runs", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[2].startswith("| conv.onnx | 16x24 |")
    assert float(lines[2].split("|")[-2]) < 1e-5


def test_an_unknown_pass_is_refused(tmp_path: Path) -> None:
    assert "invalid choice: 'faster'" in run("faster", onnx_file(tmp_path, NET)).stderr


def test_only_the_graph_with_the_pass_has_it(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("pass_gain", SCRIPT)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, target = onnx.load(onnx_file(tmp_path, NET)), targets.get("onnxruntime")

    def ops(without: str, also: str = "") -> list[str]:
        return [node.op_type for node in module.graph_of(model, target, False, without, also).graph.node]

    assert "PRelu" in ops("expand-prelu") and "PRelu" not in ops("")
    assert (ops("hoist-conv-above-resize")[-1], ops("")[-1]) == ("Conv", "Resize")
    assert ops("", "hoist-conv-above-resize") == ops(""), "what the target has is not repeated"
    assert ops("", "append-argmax") == [*ops(""), "ArgMax", "Cast"], "what it lacks comes as late as it may"
