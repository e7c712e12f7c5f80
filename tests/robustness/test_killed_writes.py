"""What is written is whole, old or new, at whatever point its process is killed or interrupted; the next run clears up.

Here functions that write are killed at every point; test_killed_commands.py does the same to whole commands.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from segc.bundle.store import read_bundle
from segc.graph import external_weights
from tests.helpers.killed_files import SIGNALS, WIDE, factor, fresh, hidden
from tests.helpers.kills import Ended, Worker, each_point
from tests.helpers.tiny_bundles import bundle
from tests.helpers.tiny_models import onnx_file

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the worker forks")


@pytest.fixture(scope="module")
def in_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with m.onnx and its weights in a file beside it."""
    folder = tmp_path_factory.mktemp("in_place")
    text = WIDE.replace("WEIGHTS", ", ".join(f"{i % 17 - 8}" for i in range(1200)))
    graph = external_weights.read_graph(onnx_file(folder, text, name="source.onnx"))
    (folder / "source.onnx").unlink()
    _, data = external_weights.write_graph(graph, folder / "m.onnx", embed=0)
    assert data.stat().st_size == 4800
    return folder


def ended_well(done: Ended, number: signal.Signals) -> None:
    """By the signal, or as interrupts end a command."""
    assert done.code == (-9 if number == signal.SIGKILL else 130), done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", SIGNALS)
def test_a_model_written_over_itself_is_the_old_or_the_new_one(
    worker: Worker, in_place: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder, work = tmp_path / "w", "tests.helpers.killed_work:opt_in_place"
    points = worker.run(work, "m.onnx", 2.0, folder=fresh(in_place, folder)).points
    assert factor(folder) == 2 and not hidden(folder) and len(list(folder.iterdir())) == 2
    assert {"before replace", "after replace", "before fsync", "after unlink"} <= set(points)
    seen = set()
    for at in each_point(points):
        done = worker.run(work, "m.onnx", 2.0, folder=fresh(in_place, folder), at=at, number=number)
        ended_well(done, number)
        found = factor(folder)
        seen.add(found)
        if number != signal.SIGKILL:
            assert not hidden(folder) and len(list(folder.iterdir())) == 2, points[at]
        again = worker.run(work, "m.onnx", 3.0, folder=folder)
        assert again.code == 0, again.err
        assert factor(folder) == 3 * found
        assert not hidden(folder) and len(list(folder.iterdir())) == 2, points[at]
    assert seen == {1, 2}


@pytest.mark.parametrize("without", [(), ("exchange",)])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_bundle_written_over_another_is_the_old_or_the_new_one(
    worker: Worker, tmp_path: Path, number: signal.Signals, without: tuple[str, ...]
) -> None:
    old, folder, work = tmp_path / "old", tmp_path / "w", "tests.helpers.killed_work:publish"
    bundle(old / "b")
    points = worker.run(work, "b", "fp16", folder=fresh(old, folder), without=without).points
    seen, missing = set(), 0
    for at in each_point(points):
        done = worker.run(work, "b", "fp16", folder=fresh(old, folder), at=at, number=number, without=without)
        ended_well(done, number)
        missing += not (folder / "b").exists()
        seen.add(read_bundle(folder / "b").precision)
        assert number == signal.SIGKILL or [p.name for p in folder.iterdir()] == ["b"], points[at]
        assert worker.run(work, "b", "fp32", folder=folder, without=without).code == 0
        assert read_bundle(folder / "b").precision == "fp32"
        assert [p.name for p in folder.iterdir()] == ["b"], points[at]
    assert seen == {"fp32", "fp16"}
    if not without and sys.platform in ("linux", "darwin"):
        assert "after exchange" in points
        assert missing == 0, "where names can be exchanged, a bundle has its name at any moment"
    elif number == signal.SIGKILL:
        assert missing > 0, "this is what reading and writing put right"


def test_a_bundle_at_a_new_place_is_there_whole_or_not_at_all(worker: Worker, tmp_path: Path) -> None:
    work = "tests.helpers.killed_work:publish"
    (tmp_path / "first").mkdir()
    points = worker.run(work, "b", "fp16", folder=tmp_path / "first").points
    seen = set()
    for at in each_point(points):
        folder = tmp_path / str(at)
        folder.mkdir()
        ended_well(worker.run(work, "b", "fp16", folder=folder, at=at), signal.SIGKILL)
        seen.add((folder / "b").exists() and read_bundle(folder / "b").precision)
        assert worker.run(work, "b", "fp32", folder=folder).code == 0
        assert [p.name for p in folder.iterdir()] == ["b"], points[at]
    assert seen == {False, "fp16"}


@pytest.mark.parametrize("number", SIGNALS)
def test_two_files_that_belong_together_are_whole(worker: Worker, tmp_path: Path, number: signal.Signals) -> None:
    folder, work = tmp_path / "w", "tests.helpers.killed_work:two_files"
    (tmp_path / "old").mkdir()
    for name in ("a", "b"):
        (tmp_path / "old" / name).write_text("old")
    points = worker.run(work, "a", "b", "new", folder=fresh(tmp_path / "old", folder)).points
    seen = set()
    for at in each_point(points):
        ended_well(
            worker.run(work, "a", "b", "new", folder=fresh(tmp_path / "old", folder), at=at, number=number), number
        )
        seen.add(tuple((folder / name).read_text() for name in ("a", "b")))
        assert worker.run(work, "a", "b", "newer", folder=folder).code == 0
        assert sorted(p.name for p in folder.iterdir()) == ["a", "b"], points[at]
    between = {("new", "old")} if number == signal.SIGKILL else set()
    assert seen == {("old", "old"), ("new", "new"), *between}
