"""benchmarks/gpu with a stand-in for the GPU: prepared, unpacked, measured, resumed, read by the matrix."""

from __future__ import annotations

import ast
import importlib.util
import json
import operator
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from segc.support_matrix import page, ran_elsewhere
from segc.support_matrix.cells import Cell
from tests.helpers import gpu_stand_in
from tests.helpers.op_models import model_with
from tests.helpers.tiny_models import changed, source

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
TARGET = Path(__file__).parents[2] / "targets" / "tensorrt"
SOURCE = changed("nn.Conv2d(3, 8, 3, stride=2, padding=1)", "nn.Conv2d(3, 64, 3, stride=2, padding=1)").replace(
    "nn.Conv2d(8, channels, 1)",
    "nn.Sequential(nn.Conv2d(64, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.Conv2d(32, channels, 1))",
)
NAME = "net@24x40"
ENGINES = ("--kinds", "first", "engine")


def script(name: str) -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit of one small model with three engines and a group of two probes."""
    pytest.importorskip("tensorrt_rtx_bindings")
    prepare, probes = script("prepare"), script("probes")
    folder = tmp_path_factory.mktemp("kit")
    engines = (prepare.CELLS[0], prepare.CELLS[2], prepare.SPEED[0])
    prepare.prepare(str(source(folder, SOURCE)), NAME, (24, 40), engines, folder / "models", keep=folder / "onnx")
    group = probes.group_files([("row Relu", model_with("Relu")), ("row Softmax", model_with("Softmax"))])
    prepare.pack({f"probes/0.{suffix}": content for suffix, content in group.items()}, folder / "01-probes.tar.xz")
    from hashlib import sha256

    (folder / "onnx" / f"{sha256(group['engine']).hexdigest()}.onnx").write_bytes(group["onnx"])
    assert [path.name for path in prepare.parts([folder / "models" / f"{NAME}.tar.xz"], 2)] == ["02-models.tar"]
    shutil.rmtree(folder / "models")
    return folder


def measured(kit: Path, work: Path, *options: str, fault: str = "") -> dict[str, Any]:
    """What measure.py writes, with the stand-in."""
    done = subprocess.run(
        [
            sys.executable, str(FOLDER / "measure.py"), str(kit), "--work", str(work), "--repeat", "1", "--warmup", "0",
            "--stand-in", gpu_stand_in.__file__, *options,
        ],
        env={**os.environ, "STAND_IN_GRAPHS": str(kit / "onnx"), "STAND_IN_FAULT": fault},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads((work / "results.json").read_bytes())
    return content


def test_without_a_gpu_it_says_so_and_exits_3(tmp_path: Path) -> None:
    if script("gpu").why_no_gpu() is None:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-S", str(FOLDER / "measure.py"), str(tmp_path)], capture_output=True, text=True
    )  # -S: not even site-packages are needed to say it
    assert done.returncode == 3, done.stderr
    assert "NVIDIA driver" in json.loads(done.stdout)["error"]


@pytest.fixture(scope="module")
def content(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All results of the kit."""
    work = tmp_path_factory.mktemp("work")
    kinds = ("--kinds", *(kind for kind in script("measure").KINDS if kind != "compile"))  # torch.compile takes long
    found = measured(kit, work, *kinds)
    lines = (work / "rows.jsonl").read_text()
    assert measured(kit, work, *kinds)["rows"] == found["rows"]
    assert (work / "rows.jsonl").read_text() == lines  # nothing was measured again
    return found


def test_the_cells_become_ok_and_name_the_gpu(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    read, cells = page.read_all(path)
    assert {(c.shape, c.output, c.status) for c in cells} == {("static", "logits", "ok"), ("dynamic", "logits", "ok")}
    logits = next(cell for cell in cells if cell.shape == "static")
    assert logits.error is not None and logits.error < 1e-4 and logits.agreement == 1
    here = Cell(**{**vars(logits), "status": "built, not run", "reason": "no NVIDIA driver", "error": 1e-6})
    (merged,) = ran_elsewhere.merged([here], read, cells)
    assert merged.status == "ok" and merged.error == logits.error
    assert "1 ok, run on GPU Stand-in, none 0, on " in page.summary([merged])
    other = Cell(**{**vars(here), "graph": "another"})
    assert ran_elsewhere.merged([other], read, cells)[0].status == "built, not run"


def test_everything_of_the_kit_has_a_row(content: dict[str, Any]) -> None:
    rows = {" ".join(map(str, row["job"])): row for row in content["rows"]}
    assert not [key for key, row in rows.items() if "failed" in row]
    engines = {f"{kind} {NAME} {at}" for kind in ("engine", "speed") for at in range(3)}
    assert set(rows) == {*engines, f"first {NAME} 0", f"eager {NAME} 0", "probes probes 0"}
    assert content["loads"] is True
    assert all(case["here_agreement"] == 1 for case in rows[f"engine {NAME} 0"]["cases"])  # beside PyTorch there
    assert rows["probes probes 0"]["networks"] == {"row Relu": "right", "row Softmax": "right"}
    assert content["summary"]["engines"]["fp32 logits dynamic"] == {"right": 1, "of": 1, "not": {}}
    assert {"segc-fp32-logits", "plain-fp32-logits", "torch-eager-fp16"} <= set(content["summary"]["speed"][NAME])


def sha_of(kit: Path, number: int, work: Path) -> str:
    measure = script("measure")
    measure.unpack(kit, work)
    return str(json.loads((work / "models" / NAME / "model.json").read_bytes())["engines"][number]["sha256"])


def test_a_wrong_engine_is_no_ok(kit: Path, tmp_path: Path) -> None:
    found = measured(kit, tmp_path, *ENGINES, fault=f"wrong {sha_of(kit, 0, tmp_path)}")
    cell = next(cell for cell in found["cells"] if cell["shape"] == "static")
    assert cell["status"] == "failed" and "limits" in cell["reason"] and cell["error"] > 0.1


@pytest.mark.slow
def test_a_crash_costs_its_row_only(kit: Path, tmp_path: Path) -> None:
    found = measured(kit, tmp_path, *ENGINES, fault=f"crash {sha_of(kit, 1, tmp_path)}")
    failed = {tuple(row["job"]): row["failed"] for row in found["rows"] if "failed" in row}
    assert failed.pop(("engine", NAME, "1")) == "its process ended with SIGSEGV"
    assert next(cell for cell in found["cells"] if cell["shape"] == "dynamic")["status"] == "failed"
    assert next(cell for cell in found["cells"] if cell["shape"] == "static")["status"] == "ok"


@pytest.mark.slow
def test_where_one_engine_does_not_load_nothing_else_is_tried(kit: Path, tmp_path: Path) -> None:
    found = measured(kit, tmp_path, fault="refuse")
    assert found["loads"] is False and "UNSUPPORTED_CC" in found["why_not"] and len(found["rows"]) == 1
    assert len(measured(kit, tmp_path)["rows"]) == 1  # also when it goes on


@pytest.mark.slow
def test_after_its_time_nothing_new_begins(kit: Path, tmp_path: Path) -> None:
    assert measured(kit, tmp_path, "--seconds", "0")["rows"] == []


def test_an_engine_is_put_together_byte_for_byte(kit: Path, tmp_path: Path) -> None:
    measure = script("measure")
    measure.unpack(kit, tmp_path)
    model = measure.Model(tmp_path / "models" / NAME)
    engine = model.row["engines"][0]
    assert any("per" in row for row in model.row["recipes"])  # BatchNorm was folded into a drawn weight
    plan, rest = model.plan(0), (model.folder / engine["file"]).stat().st_size
    assert len(plan) == engine["bytes"] and len(plan) - rest > 64 * 32 * 9 * 4
    model.constants[0] = model.constants[0] + 1
    with pytest.raises(RuntimeError, match="not the engine"):
        model.plan(0)


def test_recipes_describe_what_compiles_make_of_weights() -> None:
    weights = script("weights")
    drawn = {"a": weights.draw("a", (16, 8, 3, 3), 0.1), "b": weights.draw("b", (40, 30), 0.2)}
    assert abs(float(drawn["a"].std()) - 0.1) < 0.005 and abs(float(drawn["a"].mean())) < 0.01
    scale = np.linspace(0.5, 2, 16, dtype=np.float32)
    folded = drawn["a"] * scale[:, None, None, None]
    wanted = [folded, folded.astype(np.float16), drawn["b"].T, np.ascontiguousarray(drawn["b"].T) * np.float32(0.3)]
    stranger = np.arange(16 * 8 * 9, dtype=np.float32).reshape(16, 8, 3, 3)
    recipes = weights.Recipes(drawn)
    for array in [*wanted, stranger]:
        recipes.add(array)
    assert ["stored" in row for row in recipes.rows] == [False] * 4 + [True]
    made: list[Any] = []
    for row in recipes.rows:
        made.append(weights.made(row, made, drawn, recipes.arrays))
    for array, again in zip([*wanted, stranger], made, strict=True):
        np.testing.assert_array_equal(array, again)


def test_an_engine_without_its_constants_is_small_and_comes_back() -> None:
    weights = script("weights")
    a = weights.draw("a", (8, 4, 3, 3), 1.0)
    plan = b"head" + np.ascontiguousarray(a.transpose(0, 2, 3, 1)).tobytes() + b"tail" + a.tobytes()[:100]
    rest, pieces = weights.cut(plan, {0: a})
    assert rest == b"headtail" + a.tobytes()[:100] and pieces == [[4, 0, [0, 2, 3, 1]]]
    assert weights.joined(rest, pieces, [a]) == plan


def test_what_a_probe_may_differ_by() -> None:
    probes = script("probes")
    y = np.array([1.0, 2.0, np.inf], np.float32)
    assert probes.judged(y, y, 1e-5) == "right"
    assert probes.judged(y * 1.1, y, 1e-5).startswith("wrong by 1.0e-01")
    assert probes.judged(y[:2], y, 1e-5) == "shape (2,) instead of (3,)"
    assert "not finite" in probes.judged(np.array([1.0, np.nan, np.inf], np.float32), y, 1e-5)


def test_probes_of_one_group_share_nothing() -> None:
    probes = script("probes")
    networks = [(name, model_with(name)) for name in ("Relu", "Tanh")]
    merged, names, _ = probes.merge([(name, model, probes.reference(model)) for name, model in networks])
    onnx.checker.check_model(merged)
    assert [row["ops"] for row in names.values()] == [["Relu"], ["Tanh"]]
    assert len(merged.graph.input) == len(merged.graph.output) == 2


def used(path: Path) -> set[tuple[str, str]]:
    """(object of TensorRT's API, name that is read of it) of a file; enums with their members as 'trt.Enum'."""
    raw = {"self.engine", "self._engine", "self.context", "self._context", "self.runtime", "self._runtime"}
    plain = {"trt", "runtime", "builder", "network", "parser", "config"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            receiver = ast.unparse(node.value)
            if receiver in raw | plain or receiver.startswith("trt."):
                found.add((receiver.removeprefix("self.").removeprefix("_"), node.attr))
    return found


@pytest.mark.parametrize(
    "path",
    [FOLDER / "gpu.py", TARGET / "runtime.py", TARGET / "engine_build" / "child.py"],
    ids=lambda path: path.name,
)
def test_what_no_gpu_could_try_is_at_least_in_the_api(path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    api = script("gpu").tensorrt(None)
    kinds = {
        "trt": [api], "engine": [api.ICudaEngine], "context": [api.IExecutionContext], "runtime": [api.Runtime],
        "builder": [api.Builder], "network": [api.INetworkDefinition], "parser": [api.OnnxParser],
        "config": [api.IBuilderConfig, api.IRuntimeConfig],
    }  # fmt: skip
    names = used(path)
    assert len(names) >= 15
    for receiver, name in names:
        of = kinds[receiver] if receiver in kinds else [operator.attrgetter(receiver.removeprefix("trt."))(api)]
        assert any(hasattr(one, name) for one in of), f"{path.name}: {receiver}.{name} does not exist"


def test_parity_figures_of_logits_and_masks() -> None:
    torch = pytest.importorskip("torch")
    measure, gpu = script("measure"), script("gpu")
    reference = torch.tensor([[[[4.0, 1.0]], [[2.0, 1.5]]]])
    assert measure.compared(reference, reference) == {"relative_error": 0.0, "agreement": 1.0, "largest_margin": 0.0}
    row = measure.compared(reference, torch.tensor([[[0, 0]]], dtype=torch.uint8))
    assert row == {"agreement": 0.5, "largest_margin": 0.125}
    assert gpu.percentiles([3.0, 1.0, 2.0]) == {"p50_ms": 2.0, "p95_ms": 3.0}
