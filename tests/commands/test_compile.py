"""`segc.compile`: source in, verified bundle out, and the bundle computes what the source computes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import segc as package
from segc import targets
from segc.commands.compile import compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request
from segc.errors import FileError, LegalityError, ParityError, UsageError
from segc.frontend.model import Source
from segc.frontend.source import open_source
from segc.parity.reference import reference_of
from segc.targets import Settings, registry
from tests.helpers.calls import heed_interrupts, python, refused, segc, segc_process
from tests.helpers.compiles import compiled
from tests.helpers.tiny_configs import config
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, changed, onnx_file, source

TARGETS = ["onnxruntime", "openvino"]
POOLED = changed(
    "y = self.head(torch.relu(self.conv(x)))",
    "y = torch.relu(self.conv(x))\n        y = y + F.interpolate(F.adaptive_avg_pool2d(y, 3), size=y.shape[2:])\n"
    "        y = self.head(y)",
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def require_equal(
    path: Path, bundle: Path, *shapes: tuple[int, int, int, int], opened: Source | None = None, **options: Any
) -> None:
    """The loaded bundle gives the logits of the source."""
    engine, reference = package.load(bundle), reference_of(opened or open_source(path, **options))
    for shape in shapes:
        x = noise(*shape)
        want, got = reference(x), engine.run(x)["logits"]
        assert got.shape == want.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize("target", TARGETS)
def test_a_static_bundle_equals_pytorch(tmp_path: Path, target: str) -> None:
    path = source(tmp_path, POOLED)
    bundle = compiled(path, target=target, shape=(19, 23), out=tmp_path / "b")
    require_equal(path, bundle.path, (1, 3, 19, 23), (2, 3, 19, 23))
    assert bundle.manifest.input.shape == (1, 3, 19, 23)
    assert bundle.manifest.model.rewrites == ("adaptive-avg-pool",)
    assert package.load(bundle.path).manifest == bundle.manifest


@pytest.mark.parametrize("target", TARGETS)
def test_a_dynamic_bundle_equals_pytorch_at_sizes_it_has_never_seen(tmp_path: Path, target: str) -> None:
    path = source(tmp_path, POOLED)
    bundle = compiled(path, target=target, dynamic=True, out=tmp_path / "b")
    require_equal(path, bundle.path, (1, 3, 31, 47), (3, 3, 64, 20))
    assert bundle.manifest.input.shape == (None, 3, None, None)
    shapes = {tuple(case["shape"][2:]) for case in bundle.report["parity"]["cases"]}
    assert len(shapes) >= 2  # the gate looked at another size than the traced one
    assert {case["shape"][0] for case in bundle.report["parity"]["cases"]} == {1, 2}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("channels, dtype", [(5, np.uint8), (300, np.uint16)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_mask_is_the_argmax_of_the_logits(
    tmp_path: Path, target: str, channels: int, dtype: type, dynamic: bool
) -> None:
    path = source(tmp_path, channels=channels)
    options: dict[str, Any] = {"dynamic": True} if dynamic else {"shape": (18, 22)}
    bundle = compiled(path, target=target, output="mask", out=tmp_path / "b", **options)
    x = noise(1, 3, 18, 22)
    mask = package.load(bundle.path).run(x)["mask"]
    logits = reference_of(open_source(path))(x)
    assert mask.dtype == dtype and mask.shape == (1, 18, 22)
    assert (mask == logits.argmax(1)).mean() > 0.995  # near ties may fall either way
    assert len(bundle.manifest.classes) == channels


@pytest.mark.parametrize("target", TARGETS)
def test_a_head_of_one_channel_gives_foreground_above_the_threshold(tmp_path: Path, target: str) -> None:
    path = source(tmp_path, channels=1)
    text = path.read_text() + "\nwith torch.no_grad():\n    model.head.bias.fill_(0.1)\nmeta = dict(threshold=0.52)\n"
    path.write_text(text)
    logits = compiled(path, target=target, shape=(16, 16), out=tmp_path / "l")
    mask = compiled(path, target=target, shape=(16, 16), output="mask", out=tmp_path / "m")
    x = noise(1, 3, 16, 16)
    score = 1 / (1 + np.exp(-package.load(logits.path).run(x)["logits"][:, 0]))
    got = package.load(mask.path).run(x)["mask"]
    assert 0.05 < got.mean() < 0.95
    clear = np.abs(score - 0.52) > 1e-5
    np.testing.assert_array_equal(got[clear], (score > 0.52)[clear])
    assert (mask.manifest.output.threshold, mask.manifest.output.channels) == (0.52, 1)


def test_a_head_of_one_channel_without_a_threshold_says_which_is_taken(tmp_path: Path) -> None:
    bundle = package.compile(source(tmp_path, channels=1), shape=(8, 8), out=tmp_path / "b")
    assert bundle.manifest.output.threshold == 0.5
    assert any("sigmoid(logit) > 0.5" in note for note in bundle.report["notes"])


@pytest.mark.parametrize("target", TARGETS)
def test_onnx_files_compile_static_and_dynamic(tmp_path: Path, target: str) -> None:
    fixed, free = onnx_file(tmp_path, CONV), onnx_file(tmp_path, DYNAMIC_CONV, name="free.onnx")
    batch = onnx_file(tmp_path, CONV.replace("[1,", "[2,"), name="batch.onnx")
    bundle = package.compile(fixed, target=target, out=tmp_path / "fixed")
    require_equal(fixed, bundle.path, (1, 3, 8, 12))
    assert bundle.report["parity"]["reference"] == "ONNX Runtime on the source file"
    bundle = package.compile(free, target=target, dynamic=True, out=tmp_path / "free")
    require_equal(free, bundle.path, (2, 3, 33, 17))
    assert package.compile(free, target=target, shape=(9, 10), out=tmp_path / "cut").manifest.input.shape == (
        1,
        3,
        9,
        10,
    )
    assert package.compile(batch, target=target, out=tmp_path / "batch").manifest.input.shape == (2, 3, 8, 12)


def test_a_slide_compiles_its_window(tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    path = config(tmp_path, MODE="mode='slide', crop_size=(32, 32), stride=(24, 20)")
    bundle = package.compile(path, out=tmp_path / "b")
    inference = bundle.manifest.inference
    assert (inference.mode, inference.crop, inference.stride) == ("slide", (32, 32), (24, 20))
    assert bundle.manifest.input.shape == (1, 3, 32, 32)
    mask = package.load(bundle.path).segment(np.full((50, 70, 3), 90, np.uint8)).mask
    assert mask.shape == (50, 70)


@pytest.mark.slow  # make matrix-quick compiles more of them
def test_a_model_of_the_zoo_compiles_for_both_targets(tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    name = "fast_scnn_8xb4-160k_cityscapes-512x1024"
    cache, opened = CompileCache(), open_source(name)  # traced once, and opened once more
    for target in TARGETS:
        bundle = compile_request(Request(name, target=target, shape=(64, 96), out=tmp_path / target), cache=cache)
        require_equal(Path(name), bundle.path, (1, 3, 64, 96), opened=opened)
        assert (bundle.manifest.source.kind, bundle.manifest.source.weights) == ("mmseg", "random")


COMPILE = """
import sys, segc
for target in sys.argv[3:]:
    segc.compile(sys.argv[1], target=target, shape=(16, 24), out=f"{sys.argv[2]}/{target}")
"""


def test_equal_inputs_give_byte_equal_bundles_in_different_processes(tmp_path: Path) -> None:
    path = source(tmp_path, POOLED)
    for seed, name in (("1", "a"), ("2", "b")):
        (tmp_path / name).mkdir()
        done = python(COMPILE, path, tmp_path / name, *TARGETS, env={"PYTHONHASHSEED": seed})
        assert done.code == 0, done.err
    for target in TARGETS:
        first, second = tree(tmp_path / "a" / target), tree(tmp_path / "b" / target)
        reports = [json.loads(files.pop("report.json")) for files in (first, second)]
        assert all(files.pop("report.html") for files in (first, second))  # it shows times, and no digest covers it
        assert first == second
        for report in reports:
            assert report.pop("timings")
        assert reports[0] == reports[1]


def test_the_report_says_what_was_done_and_left_alone(tmp_path: Path) -> None:
    bundle = compiled(source(tmp_path, POOLED), dynamic=True, out=tmp_path / "b")
    report = bundle.report
    assert report == json.loads((bundle.path / "report.json").read_text())
    assert report["ops"]["before"]["segc::AdaptiveAvgPool2d"] == 1
    assert not any(op.startswith("segc::") for op in report["ops"]["after"])
    for case in report["parity"]["cases"]:
        assert case["relative_error"] < 1e-4 and case["agreement"] > 0.999
    assert report["parity"]["failures"] == []
    assert {"open", "export", "passes", "emit", "load", "verify"} <= report["timings"]["seconds"].keys()
    assert all(set(skip) == {"pass", "node", "reason"} for skip in report["skips"])
    done = [(each["stage"], each["name"]) for each in report["passes"]]
    assert ("clean", "fold-constants") in done and ("tidy", "fold-constants") in done
    assert next(p["changes"] for p in report["passes"] if p["name"] == "lower-adaptive-avg-pool") == 1
    assert len(report["timings"]["pipeline"]) == len(done)
    assert set(report["timings"]["passes"]) == {name for _, name in done}


def test_without_the_gate_the_report_says_so(tmp_path: Path) -> None:
    result = segc("compile", onnx_file(tmp_path), "--no-verify", "-o", tmp_path / "b")
    assert result.code == 0 and "NOT CHECKED" in result.out
    assert json.loads((tmp_path / "b" / "report.json").read_text())["parity"] is None


def test_the_graph_is_dumped_checked_and_kept_on_request(tmp_path: Path) -> None:
    words = ["--dump-ir", tmp_path / "dump", "--check", "--keep-onnx", "--shape", "19x23", "-o", tmp_path / "b"]
    assert segc("compile", source(tmp_path, POOLED), *words).code == 0
    names = sorted(p.name for p in (tmp_path / "dump").iterdir())
    assert names[0] == "000-input.onnxtxt" and len(names) >= 2
    assert any("lower-adaptive-avg-pool" in name for name in names)
    assert "segc.AdaptiveAvgPool2d" in (tmp_path / "dump" / names[0]).read_text()
    kept = onnx.load(tmp_path / "b" / "final.onnx")
    assert any("net.py" in p.value for node in kept.graph.node for p in node.metadata_props)
    assert "final.onnx" in json.loads((tmp_path / "b" / "segc.json").read_text())["files"]


def test_onnxsim_runs_only_when_asked_for(tmp_path: Path) -> None:
    for words, there in ((["--no-simplify"], False), ([], False), (["--simplify"], True)):
        result = segc("compile", onnx_file(tmp_path), "--json", "--force", "-o", tmp_path / "b", *words)
        assert result.code == 0
        assert ("simplify" in json.loads(result.out)["report"]["timings"]["passes"]) is there


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers a changed copy of the onnxruntime target under the name 'private'."""

    def register(**changes: Any) -> None:
        made = dataclasses.replace(targets.get("onnxruntime"), name="private", **changes)
        original = registry.get
        monkeypatch.setattr(targets, "get", lambda name: made if name == "private" else original(name))
        monkeypatch.setattr(targets, "runtime", lambda _: made.runtime)
        for names in ("names", "runtime_names"):
            monkeypatch.setattr(targets, names, lambda: [*registry.names(), "private"])

    return register


def perturbed(model: onnx.ModelProto, directory: Path, settings: Settings) -> targets.Emitted:
    """Emit with one weight changed by a hundredth."""
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.ndim == 4:
            weight.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.01), weight.name))
    return targets.get("onnxruntime").emit(model, directory, settings)


CHAOS = """
import torch
from torch import nn

class Chaos(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return torch.sin(self.conv(x) * 1e6)

model = Chaos()
"""


def test_a_model_that_amplifies_rounding_is_told_from_a_wrong_engine(tmp_path: Path, private: Any) -> None:
    (tmp_path / "chaos.py").write_text(CHAOS)
    result = segc("compile", tmp_path / "chaos.py", "--shape", "64x64", "-o", tmp_path / "b")
    said = "relative logit error", "float32 itself differs from float64", "no engine can be closer"
    refused(result, ParityError.exit_code, *said)
    private(emit=perturbed)
    (tmp_path / "sane.py").write_text(CHAOS.replace("1e6", "1"))
    result = segc("compile", tmp_path / "sane.py", "--shape", "64x64", "--target", "private", "-o", tmp_path / "b")
    refused(result, ParityError.exit_code, "relative logit error")
    assert "itself differs" not in result.err


def test_an_engine_that_differs_is_not_published(tmp_path: Path, private: Any) -> None:
    private(emit=perturbed)
    before = package.compile(onnx_file(tmp_path), out=tmp_path / "b")
    kept = tree(before.path)
    result = segc("compile", onnx_file(tmp_path), "--target", "private", "--force", "-o", tmp_path / "b")
    refused(result, ParityError.exit_code, "private engine", "not published", "relative logit error", "--no-verify")
    assert tree(tmp_path / "b") == kept
    assert not any(".segc-" in p.name for p in tmp_path.iterdir())
    result = segc("compile", onnx_file(tmp_path), "--target", "private", "-o", tmp_path / "new")
    assert result.code == ParityError.exit_code and not (tmp_path / "new").exists()
    wide = ["--max-error", "0.1", "--min-agreement", "0.5", "-o", tmp_path / "new"]
    assert segc("compile", onnx_file(tmp_path), "--target", "private", *wide).code == 0


def test_a_target_that_refuses_names_all_nodes_with_their_torch_lines(tmp_path: Path, private: Any) -> None:
    private(ops={"Add": ()}, table="targets/private.py")
    result = segc("compile", source(tmp_path), "--target", "private", "--shape", "16x16", "-o", tmp_path / "b")
    said = [
        "no Conv in private: 2 nodes (targets/private.py)",
        "no Relu in private",
        "no Resize in private",
        "net.py:15",
    ]
    refused(result, LegalityError.exit_code, "private cannot run", *said)
    assert not (tmp_path / "b").exists()


def test_an_engine_that_cannot_be_run_is_no_bug_of_segc(tmp_path: Path, private: Any) -> None:
    class Broken:
        def run(self, x: np.ndarray) -> np.ndarray:
            raise RuntimeError("out of registers")

    def load(directory: Path, options: Mapping[str, Any], threads: int) -> Broken:
        return Broken()

    private(runtime=targets.Runtime(load))
    result = segc("compile", onnx_file(tmp_path), "--target", "private", "-o", tmp_path / "b")
    refused(result, 9, "private engine fails", "out of registers", "1x3x8x12")
    assert not (tmp_path / "b").exists()


def test_the_destination_is_kept_unless_force_is_given(tmp_path: Path) -> None:
    path, out = onnx_file(tmp_path), tmp_path / "b"
    assert segc("compile", path, "-o", out).code == 0
    before = tree(out)
    refused(segc("compile", path, "-o", out), FileError.exit_code, f"{out} exists already", "--force")
    assert tree(out) == before
    assert segc("compile", path, "-o", out, "--output", "logits", "--keep-onnx", "--force").code == 0
    assert "final.onnx" in tree(out)


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = segc("compile", onnx_file(tmp_path), "-o", tmp_path / "mine", "--force")
    refused(result, FileError.exit_code, "mine", "is not replaced", "-o")
    assert tree(tmp_path / "mine") == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("out", ["conv.onnx", "conv.onnx/b", "/proc/segc/b"])
def test_a_destination_that_cannot_be_a_folder_is_refused(tmp_path: Path, out: str) -> None:
    path = onnx_file(tmp_path)
    content = path.read_bytes()
    refused(segc("compile", path, "-o", tmp_path / out), FileError.exit_code, out.split("/b")[0], "-o")
    assert path.read_bytes() == content


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system call that writes the engine fails with ENOSPC."""
    path, write = onnx_file(tmp_path), Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "model.onnx":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    result = segc("compile", path, "-o", tmp_path / "b")
    refused(result, FileError.exit_code, "No space left on device", "free some space")
    assert [p.name for p in tmp_path.iterdir()] == ["conv.onnx"]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not can_mount(), reason="no user namespaces here: a full disk cannot be made")
@pytest.mark.parametrize("target", TARGETS)
def test_a_disk_that_is_really_full_is_reported_and_left_clean(tmp_path: Path, target: str) -> None:
    weights = "{" + ",".join(["1"] * 9000) + "}"
    text = f"g (float[1,3,8,12] x) => (float[1,3000,8,12] y) <float[3000,3,1,1] w = {weights}> {{ y = Conv(x, w) }}"
    path = onnx_file(tmp_path, text)
    (tmp_path / "disk").mkdir()
    words = f"{sys.executable} -m segc compile {path} --target {target} --no-verify -o {tmp_path}/disk/b"
    script = f"mount -t tmpfs -o size=24k none {tmp_path}/disk && {words}; code=$?; ls -A {tmp_path}/disk; exit $code"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == FileError.exit_code, done.stderr
    assert "free some space" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


REQUESTS = {
    "precision": (["--target", "ncnn", "--precision", "bf16"], ["ncnn does not offer bf16", "--precision fp32"]),
    "unknown precision": (["--precision", "fp7"], ["no precision 'fp7'", "fp32"]),
    "threads": (["--threads", "-2"], ["--threads -2", "0 leaves the number to the runtime"]),
    "target": (["--target", "onnxruntim"], ["no target 'onnxruntim'", "did you mean onnxruntime"]),
    "no shape": (["--shape=12"], ["'12' is not a shape", "--shape 512x1024"]),
    "words": (["--shape=axb"], ["'axb' is not a shape", "--shape 512x1024"]),
    "negative": (["--shape=-3x4"], ["'-3x4' is not a shape", "--shape 512x1024"]),
    "zero": (["--shape=0x5"], ["0x5 has no pixels", "at least 1"]),
}


@pytest.mark.parametrize("words, said", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_wrong_request_is_refused_before_anything_is_opened(
    tmp_path: Path, words: list[str], said: list[str]
) -> None:
    result = segc("compile", tmp_path / "not-even-there.onnx", "-o", tmp_path / "b", *words)
    refused(result, UsageError.exit_code, *said)
    assert not (tmp_path / "b").exists()


def test_wrong_options_of_the_python_function_are_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    wrong: list[dict[str, Any]] = [
        {"colour": 1}, {"shape": (0, 4)}, {"shape": (4,)}, {"shape": (4, 4), "dynamic": True}, {"output": "depth"},
        {"mode": "diagonal"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(UsageError):
            package.compile(path, out=tmp_path / "b", **options)


def test_an_interrupt_inside_executed_text_exits_with_130_too(tmp_path: Path) -> None:
    """CPython remembers such an interrupt and would end the process by SIGINT in spite of the exit code."""
    path = source(tmp_path, 'exec("raise KeyboardInterrupt")\n')
    result = segc_process("compile", path, "-o", tmp_path / "b")
    assert result.code == 130 and "interrupted" in result.err and "Traceback" not in result.err
    assert not (tmp_path / "b").exists()


STEPS = ["starting", "opening", "tracing", "running passes", "loading", "comparing"]
SLOW = """g (float[1,3,512,512] x) => (float[1,2,512,512] y) <float[32,3,3,3] v = {V}, float[2,32,3,3] w = {W}> {
    a = Conv <pads = [1, 1, 1, 1]> (x, v)  y = Conv <pads = [1, 1, 1, 1]> (a, w) }""".replace(
    "{V}", f"{{{', '.join(['0.1'] * 864)}}}"
).replace("{W}", f"{{{', '.join(['0.1'] * 576)}}}")  # a second to compare, and no torch to import


@pytest.mark.parametrize("said, number", [*((step, signal.SIGINT) for step in STEPS), ("tracing", signal.SIGTERM)])
def test_an_interrupt_leaves_nothing_and_what_was_there_untouched(tmp_path: Path, said: str, number: int) -> None:
    """The signal is sent when a step is announced, and a moment into it."""
    path = source(tmp_path) if said == "tracing" else onnx_file(tmp_path, SLOW, name="slow.onnx")
    previous = package.compile(onnx_file(tmp_path), out=tmp_path / "b")
    before, names = tree(previous.path), sorted(p.name for p in tmp_path.iterdir())
    words = [
        sys.executable,
        "-m",
        "segc",
        "compile",
        str(path),
        "--shape",
        "64x64" if said == "tracing" else "512x512",
        "--force",
        "-o",
        str(previous.path),
    ]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    assert process.stderr is not None
    for line in process.stderr:
        if said in line:
            break
    time.sleep(0.02 * (STEPS.index(said) % 3))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err
    assert tree(previous.path) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == names
