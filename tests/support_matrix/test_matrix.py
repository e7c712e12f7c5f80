"""The support matrix: cells are filled by real compiles, a crash or a hang costs one row, a stopped run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from segc.cli import main
from segc.commands.matrix import matrix
from segc.errors import FileError, UsageError
from segc.frontend.source import zoo_names
from segc.support_matrix import job as matrix_job
from segc.support_matrix import page, run
from segc.support_matrix.cells import CANNOT, FAILED, HYBRID, OK, Cell, Job
from segc.support_matrix.same_models import same_models

TABLES = Path(__file__).parents[2] / "docs" / "tables"
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x):
        {body}
        return nn.functional.interpolate(self.body(x), size=x.shape[2:], mode="bilinear")

model = Net()
"""


def job(folder: Path, body: str = "pass", name: str = "net", **changes: object) -> Job:
    """A job on a net of one convolution; `body` runs first in its forward."""
    source = folder / f"{name}.py"
    source.write_text(NET.format(body=body))
    wanted = {"targets": ("onnxruntime",), "size": (32, 48), **changes}
    return Job(name, str(source), **wanted)  # type: ignore[arg-type]


def test_every_cell_is_compiled_and_compared(tmp_path: Path) -> None:
    cells = matrix_job.run_job(job(tmp_path, targets=("onnxruntime", "openvino")))
    places = [(c.shape, c.target, c.output) for c in cells]
    assert len(set(places)) == len(places) == 8
    assert {c.status for c in cells} == {OK}
    for cell in cells:
        assert (cell.error is None) == (cell.output == "mask")
        assert cell.agreement is not None and cell.agreement > 0.999
        assert len(cell.sizes) == (3 if cell.shape == "dynamic" else 1)


def test_a_model_that_pytorch_does_not_run_is_no_failure_of_segc(tmp_path: Path) -> None:
    cells = matrix_job.run_job(job(tmp_path, body="raise RuntimeError('not today')"))
    assert {c.status for c in cells} == {CANNOT}
    assert all("not today" in c.reason for c in cells)


def test_a_model_that_rejects_the_size_is_compiled_at_its_own(tmp_path: Path) -> None:
    only = "assert x.shape[2:] == (512, 512), 'no other size'"
    cells = matrix_job.run_job(job(tmp_path, body=only, shapes=("static",), outputs=("logits",)))
    assert [(c.status, c.sizes) for c in cells] == [(OK, ("1x4x512x512",))]


def test_a_crash_and_a_hang_cost_one_row_each(tmp_path: Path) -> None:
    crash = job(tmp_path, body="import os; os._exit(7)", name="crash", shapes=("static",), outputs=("logits",))
    hang = job(tmp_path, body="import time; time.sleep(600)", name="hang", shapes=("static",), outputs=("logits",))
    good = job(tmp_path, name="good", shapes=("static",), outputs=("logits",))
    cells = {c.family: c for c in run.run([crash, hang, good], workers=2, timeout=25)}
    assert (cells["crash"].status, cells["hang"].status, cells["good"].status) == (FAILED, FAILED, OK)
    assert "exit code 7" in cells["crash"].reason
    assert "25 s" in cells["hang"].reason


def test_a_process_that_ran_out_of_memory_says_so(tmp_path: Path) -> None:
    killed = job(tmp_path, body="import os; os.kill(os.getpid(), 9)", shapes=("static",), outputs=("logits",))
    (cell,) = run.run([killed], timeout=60)
    assert cell.status == FAILED and "SIGKILL, possibly because the system ran out of memory" in cell.reason


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    one = job(tmp_path, name="one", shapes=("static",), outputs=("logits",))
    first = run.run([one], state=state)
    Path(one.config).unlink()  # it could not be compiled again
    with state.open("a") as file:
        file.write('{"key": "cut of')
    assert run.run([one], state=state) == first
    assert first[0].status == OK


def test_a_dask_cluster_does_the_work_too(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    crash = job(tmp_path, body="import os; os._exit(7)", name="crash", shapes=("static",), outputs=("logits",))
    good = job(tmp_path, name="good", shapes=("static",), outputs=("logits",))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        cells = {c.family: c for c in run.run([crash, good], scheduler=cluster.scheduler_address)}
        assert cluster.scheduler.transition_counter > 0  # the work went through the cluster
    assert (cells["crash"].status, cells["good"].status) == (FAILED, OK)


def test_a_scheduler_that_does_not_answer_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    assert main(["matrix", "--families", "fcn", "--scheduler", "tcp://127.0.0.1:9"]) == FileError.exit_code
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in capsys.readouterr().err


def test_configs_of_one_model_are_compiled_once(tmp_path: Path) -> None:
    first = job(tmp_path, shapes=("static",), outputs=("logits",))
    cells = run.run([replace(first, same=("a", "b"))], workers=1)
    assert [(c.config, c.same_as) for c in cells] == [(first.config, ""), ("a", first.config), ("b", first.config)]
    assert {c.agreement for c in cells} == {1.0}


def test_the_zoo_knows_which_configs_build_the_same_model() -> None:
    pytest.importorskip("mmseg")
    from segc.frontend.source import zoo_names

    names = zoo_names()
    chosen = {n: p for n, p in names.items() if n.startswith("fcn_r50-d8_4xb2-")}
    groups = same_models(chosen)
    assert "fcn_r50-d8_4xb2-80k_cityscapes-512x1024" in groups["fcn_r50-d8_4xb2-40k_cityscapes-512x1024"]
    assert "fcn_r50-d8_4xb2-40k_cityscapes-769x769" in groups  # align_corners differs
    assert sum(1 + len(same) for same in groups.values()) == len(chosen)


def test_configs_and_folders_of_the_zoo_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmseg")
    first, same, other = (
        f"fcn_r50-d8_4xb{rest}"
        for rest in ("2-40k_cityscapes-512x1024", "2-80k_cityscapes-512x1024", "4-20k_voc12aug-512x512")
    )
    unet = "unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024"
    few = {name: zoo_names()[name] for name in (first, same, other, unet)}
    monkeypatch.setattr("segc.frontend.source.zoo_names", lambda: few)
    asked: list[Job] = []
    monkeypatch.setattr(run, "run", lambda jobs, **_: asked.extend(jobs) or [])
    matrix(zoo=True, families=["unet", same])
    assert [(each.config, each.same) for each in asked] == [(first, (same,)), (unet, ())]
    with pytest.raises(UsageError, match="no config or folder 'unett' in the zoo"):
        matrix(zoo=True, families=["unett"])


def test_a_baseline_excuses_what_was_not_good_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Cell("f", "c", "t", "static", "mask", OK), Cell("f", "c", "t", "static", "logits", FAILED, "why")
    assert run.regressions([good, bad], [bad]) == []
    assert run.regressions([good, bad], [good, replace(bad, status=OK)]) == [bad]
    assert run.regressions([bad], []) == [bad]
    (tmp_path / "no.json").write_text("{}")
    assert main(["matrix", "--families", "fcn", "--baseline", str(tmp_path / "no.json")]) == FileError.exit_code
    assert "is not a result of segc matrix" in capsys.readouterr().err


def test_what_took_longest_before_starts_first() -> None:
    from segc.commands.matrix import longest_first

    cells = [
        Cell("f", name, "ncnn", "static", output, OK, seconds={"export": seconds, "verify": 1.0})
        for name, seconds in (("short", 1.0), ("long", 5.0))
        for output in ("logits", "mask")
    ]
    jobs = [Job("f", name, ("ncnn",)) for name in ("new", "short", "long")]
    assert [job.config for job in longest_first(jobs, cells)] == ["long", "short", "new"]
    assert longest_first(jobs, []) == jobs


def test_the_page_names_what_is_not_ok_once(tmp_path: Path) -> None:
    cells = [
        *matrix_job.run_job(job(tmp_path)),
        *matrix_job.run_job(job(tmp_path, body="raise ValueError('odd')", name="bad")),
    ]
    content = page.to_json(cells, "segc matrix")
    text = page.page_of(content)
    assert "| `onnxruntime` | 1 of 1 | 1 of 1 | 1 of 1 | 1 of 1 |" in text
    assert text.count("odd") == 1
    assert content["cells"][0]["status"] == OK


def test_the_page_says_hybrid_of_engines_that_ran_and_of_others() -> None:
    ran = Cell("a", "a", "ncnn", "static", "logits", HYBRID, agreement=1.0, segments=3, host_nodes=1)
    written = replace(ran, target="pplnn", status="emitted, not run", segments=5, host_nodes=2)
    text = page.page_of(page.to_json([ran, written], "segc matrix"))
    assert "hybrid (3 segments, 1 node on host): 100.000%" in text
    assert "emitted, not run, hybrid (5 segments, 2 nodes on host): 100.000%" in text
    assert "1 of 1 (1 hybrid)" in text and "1 of 1 (1 emitted, not run, hybrid)" in text


def test_the_command_refuses_unknown_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--families", "fcm"]) == 2
    assert "there is no family 'fcm'" in capsys.readouterr().err


def test_only_the_cells_of_a_file_are_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mmseg")
    cells, out = tmp_path / "cells.txt", tmp_path / "matrix.md"
    cells.write_text("# of two targets\n\nfastscnn onnxruntime static mask\nfastscnn openvino static logits\n")
    assert main(["matrix", "--cells", str(cells), "--size", "64x96", "-o", str(out)]) == 0
    assert "fast_scnn_8xb4-160k_cityscapes-512x1024: 2 of 2 ok" in capsys.readouterr().out
    content = json.loads(out.with_suffix(".json").read_text())
    assert [(c["target"], c["shape"], c["output"]) for c in content["cells"]] == [
        ("onnxruntime", "static", "mask"), ("openvino", "static", "logits"),
    ]  # fmt: skip
    assert content["command"] == f"segc matrix --cells {cells} --size 64x96"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fcn onnxruntime static", "cells.txt:1 names no cell"),
        ("# none\nfcn onnxruntime static maks", "cells.txt:2: there is no output 'maks'"),
        ("fcm onnxruntime static mask", "there is no family 'fcm'"),
        ("fcn opnvino static mask", "did you mean openvino or pplnn?"),
        ("fcn openvino fixed mask", "segc knows static, dynamic"),
    ],
)
def test_lines_that_name_no_cell_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    cells = tmp_path / "cells.txt"
    cells.write_text(text)
    assert main(["matrix", "--cells", str(cells)]) == UsageError.exit_code
    assert words in capsys.readouterr().err


def test_files_of_cells_that_cannot_be_read_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for name, words in {"no.txt": "No such file", "bytes.txt": "utf-8", "empty.txt": "names no cell"}.items():
        assert main(["matrix", "--cells", str(tmp_path / name)]) == FileError.exit_code
        assert words in capsys.readouterr().err


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--cells", str(tmp_path / "c.txt"), "--families", "fcn"]) == UsageError.exit_code
    assert "--cells names every cell" in capsys.readouterr().err
    assert main(["matrix", "--families", "fcn", "-o", str(tmp_path / "m.json")]) == UsageError.exit_code
    assert f"give {tmp_path / 'm.md'}" in capsys.readouterr().err


def test_the_command_writes_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mmseg")
    out = tmp_path / "matrix.md"
    words = ["--families", "fastscnn", "--targets", "onnxruntime", "--shapes", "static", "--outputs", "logits"]
    assert main(["matrix", *words, "--size", "64x96", "-o", str(out)]) == 0
    assert "fast_scnn_8xb4-160k_cityscapes-512x1024: 1 of 1 ok" in capsys.readouterr().out
    assert "| fastscnn | ok: " in out.read_text()
    assert json.loads(out.with_suffix(".json").read_text())["cells"][0]["family"] == "fastscnn"


@pytest.mark.parametrize("name", ["support-matrix", "zoo", "elsewhere", "pplnn-results"])
def test_the_committed_pages_belong_to_their_figures(name: str) -> None:
    content = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    assert page.page_of(content) == (TABLES / f"{name}.md").read_text(encoding="utf-8")


def test_the_committed_zoo_is_whole_and_nearly_all_of_it_is_ok() -> None:
    pytest.importorskip("mmseg")
    cells = page.read(TABLES / "zoo.json")
    assert {cell.config for cell in cells} == set(zoo_names())
    ran = [cell for cell in cells if cell.status != CANNOT]
    good = sum(cell.good for cell in ran)
    assert good >= 0.95 * len(ran)
    assert f"{good} of {len(ran)}" in (TABLES.parents[1] / "README.md").read_text(encoding="utf-8")
    assert all(cell.reason for cell in cells if not cell.good)


def test_the_readme_shows_the_committed_summary() -> None:
    content = json.loads((TABLES / "support-matrix.json").read_text(encoding="utf-8"))
    assert page.summary(page.cells_of(content)) in (TABLES.parents[1] / "README.md").read_text(encoding="utf-8")
