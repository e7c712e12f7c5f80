"""A disk that is full, or a file that may not grow: exit code 8, a message with the path, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from segc.bundle.store import read_bundle
from segc.graph import external_weights
from tests.helpers.calls import Outcome, segc
from tests.helpers.killed_files import WIDE, factor, hidden
from tests.helpers.kills import Ended, Worker
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.tiny_models import onnx_file

LIMITED = "tests.helpers.killed_work:on_a_full_disk"


def wide(folder: Path) -> None:
    """m.onnx with 4800 bytes of weights beside it."""
    text = WIDE.replace("WEIGHTS", ", ".join(f"{i % 17 - 8}" for i in range(1200)))
    graph = external_weights.read_graph(onnx_file(folder, text, name="s.onnx"))
    external_weights.write_graph(graph, folder / "m.onnx", embed=0)
    (folder / "s.onnx").unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def limited(worker: Worker, words: list[str], size: int, folder: Path) -> Ended:
    """The command with files of at most `size` bytes."""
    return worker.run(LIMITED, words, size, folder=folder, without=("points",))


def said_full(done: Outcome | Ended, path: str) -> None:
    assert done.code == 8, done.err
    assert "Traceback" not in done.err and "bug in segc" not in done.err
    assert "cannot be written" in done.err and path in done.err, done.err
    assert "bytes are needed" in done.err and "free some space" in done.err, done.err


def test_opt_in_place_leaves_the_model_and_its_weights(worker: Worker, tmp_path: Path) -> None:
    wide(tmp_path)
    before = contents(tmp_path)
    words = ["opt", "m.onnx", "-o", "m.onnx", "--force", "--embed", "0", "--pass", "remove-identities"]
    for size in (0, 3000):
        said_full(limited(worker, words, size, tmp_path), "m.onnx")
        assert contents(tmp_path) == before and factor(tmp_path) == 1


def test_a_compile_leaves_the_bundle_that_lay_there(worker: Worker, tmp_path: Path) -> None:
    onnx_file(tmp_path)
    bundle(tmp_path / "b")
    before = contents(tmp_path)
    for size in (0, 100, 1000):
        said_full(limited(worker, ["compile", "conv.onnx", "-o", "b", "--force"], size, tmp_path), "b")
        assert contents(tmp_path) == before


def test_a_run_leaves_no_half_picture(worker: Worker, tmp_path: Path) -> None:
    bundle(tmp_path / "b")
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(64, 96))
    done = limited(worker, ["run", "b", "photo.png", "-o", "out"], 50, tmp_path)
    said_full(done, "photo_")
    assert list((tmp_path / "out").iterdir()) == []


def test_dumps_of_the_graph_are_whole(worker: Worker, tmp_path: Path) -> None:
    onnx_file(tmp_path)
    said_full(limited(worker, ["opt", "conv.onnx", "--dump-ir", "d"], 20, tmp_path), "000-input.onnxtxt")
    assert list((tmp_path / "d").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB. Mapped weights may still hold it in the end."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder]).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_small_disk_is_filled_and_nothing_half_written_stays(small_disk: Path, tmp_path: Path) -> None:
    wide(small_disk)
    source = onnx_file(tmp_path)
    assert segc("compile", source, "-o", small_disk / "b").code == 0
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    before = contents(small_disk)
    said_full(segc("compile", source, "-o", small_disk / "b", "--force", "--output", "mask"), "b")
    said_full(segc("compile", source, "-o", small_disk / "c"), "c")
    model = small_disk / "m.onnx"
    said_full(segc("opt", model, "-o", model, "--force", "--embed", "0", "--pass", "remove-identities"), "m.onnx")
    assert contents(small_disk) == before and not hidden(small_disk)
    assert read_bundle(small_disk / "b").output.kind == "logits" and factor(small_disk) == 1
