"""`segc bench`: turns, quartiles, threads, batches and callers at once. No test depends on how fast anything is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segc
from segc import targets
from segc.commands.bench import BenchResult
from segc.errors import Code, UsageError
from segc.hybrid.options import Partitioning
from segc.runtime.layer_times import measured
from segc.runtime.processor import describe
from segc.targets import registry
from segc.targets.openvino.target import OPENVINO
from tests.helpers import tiny_bundles
from tests.helpers.calls import segc as command_line
from tests.helpers.tiny_models import onnx_file, source


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    tiny_bundles.bundle(folder)
    return folder


def test_turns_quartiles_and_throughput(bundle: Path) -> None:
    said: list[str] = []
    found = segc.bench(
        [bundle, bundle], runs=3, warm_up=1, shape=(16, 24), batch=2, streams=2, threads=1, progress=said.append
    )
    assert [line for line in said if line.startswith("run ")] == [f"run {turn} of 4" for turn in (1, 2, 3, 4)]
    assert sum("2 at once" in line for line in said) == 2
    for each in found:
        assert (each.shape, each.runs, each.threads, each.streams) == ((2, 3, 16, 24), 3, 1, 2)
        assert 0 < each.q1_ms <= each.median_ms <= each.q3_ms and each.q3_ms <= max(each.p90_ms, each.q3_ms)
        assert each.images_per_second is not None and each.images_per_second > 0
        assert "cores" in each.processor
        assert each.noise == pytest.approx((each.q3_ms - each.q1_ms) / 2 / each.median_ms)


def test_throughput_is_measured_only_if_asked_for(bundle: Path) -> None:
    (found,) = segc.bench([bundle], runs=1, warm_up=0, shape=(8, 8))
    assert (found.streams, found.images_per_second) == (None, None)


def test_the_command_says_noise_threads_and_processor(bundle: Path) -> None:
    shown = command_line("bench", bundle, "--runs", "2", "--shape", "8x8", "--streams", "2", "--threads", "1")
    assert shown.code == 0, shown.err
    head, row, foot = shown.out.splitlines()
    assert head.split("\t")[3:7] == ["median ms", "quartiles", "p90 ms", "noise"] and head.endswith("images/s")
    assert len(row.split("\t")) == len(head.split("\t"))
    assert foot.startswith("threads: 1; 2 callers at once for images/s; processor: ")


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"streams": 0}, {"streams": 5000}, {"warm_up": -1}, {"pause": -0.1}, {"pause": 1e9}]
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], bundle: Path) -> None:
    with pytest.raises(UsageError) as raised:
        segc.bench([bundle], **options)
    assert raised.value.code is Code.INVALID_NUMBER


def test_a_processor_is_described_as_its_system_does(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: A Processor\nflags\t\t: fpu avx2 fma made_up avx512f\n")
    assert describe(info).startswith("A Processor, ") and describe(info).endswith(" cores, avx2 fma avx512f")
    info.write_text("Model\t\t: A Board\nFeatures\t: fp asimd bf16\n")
    assert describe(info).endswith("asimd bf16") and "A Board" in describe(info)
    assert "cores" in describe(tmp_path / "none")


def test_noise_is_a_share_of_the_median() -> None:
    made = BenchResult("b", "e", (1,), 4, 10.0, 9.0, 12.0, 13.0, 1.0, 1.0, 0, "p")
    assert made.noise == 0.15


NET = """g (float[1,3,16,24] x) => (float[1,4,16,24] y)
    <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3},
     float[4,4,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> {
    a = Conv(x, w)  b = Relu(a)  c = HardSigmoid(b)  y = Conv(c, v) }"""


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "ncnn"])
def test_layers_are_measured_and_named_by_the_model(tmp_path: Path, target: str) -> None:
    pytest.importorskip(target)
    path = segc.compile(_traced(tmp_path), target=target, out=tmp_path / "b").path
    (found,) = segc.bench([path], runs=2, warm_up=0, profile=True)
    profile = found.profile
    assert profile is not None
    convolutions = [each for each in profile.layers if each.op in ("Conv", "FusedConv", "Convolution")]
    assert [each.module for each in convolutions] in (["module", "module.head"], ["module.conv", "module.head"])
    assert all("net.py:" in each.origin and each.ms >= 0 for each in convolutions)
    assert profile.total_ms == pytest.approx(sum(each.ms for each in profile.layers))
    assert profile.sha256 == segc.load(path).manifest.to_json()["sha256"]
    assert found.to_json()["profile"]["layers"][0].keys() == {"name", "op", "origin", "module", "ms"}


def _traced(folder: Path) -> Path:
    pytest.importorskip("torch")
    return source(folder)


def test_segments_are_measured_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    without = dataclasses.replace(OPENVINO, ops={op: row for op, row in OPENVINO.ops.items() if op != "HardSigmoid"})
    monkeypatch.setattr(targets, "get", lambda name: without if name == "openvino" else registry.get(name))
    path = segc.compile(
        onnx_file(tmp_path, NET), target="openvino", out=tmp_path / "b", partitioning=Partitioning(work_per_byte=0)
    ).path
    (found,) = segc.bench([path], runs=1, warm_up=0, profile=True)
    assert found.profile is not None
    ops = [each.op for each in found.profile.layers]
    assert "HardSigmoid" in ops and len(ops) >= 3
    assert "OpenVINO" in found.profile.method and "ONNX Runtime" in found.profile.method


def test_a_runtime_without_a_profile_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = registry.runtime("onnxruntime")
    monkeypatch.setattr(targets, "runtime", lambda name: dataclasses.replace(plain, profile=None))
    with pytest.raises(UsageError) as raised:
        measured(bundle, segc.load(bundle).manifest, np.zeros((1, 3, 8, 8), np.float32), 1, 1)
    assert raised.value.code is Code.UNSUPPORTED_BY_TARGET


def test_the_command_shows_the_slowest(bundle: Path) -> None:
    shown = command_line("bench", bundle, "--runs", "1", "--shape", "8x8", "--profile")
    assert shown.code == 0, shown.err
    assert "All layers together: " in shown.out and "layer\top\tms\tshare\tfrom" in shown.out
