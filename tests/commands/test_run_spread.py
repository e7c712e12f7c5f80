"""`segc run` that goes on where it was stopped, and that is spread over a Dask cluster whose workers die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import segc
from segc.commands.run_files import SegmentedImage
from segc.errors import BundleError, Code, FileError
from tests.helpers.labelled_images import labelled
from tests.helpers.tiny_bundles import bundle

# What a worker of the cluster runs first: its runtime crashes at one image, as native code does.
CRASH = """
import os
from segc.commands import run

run.plain = getattr(run, "plain", run.segment_file)  # this file may run twice

def segment_file(engine, image, out, **how):
    if image.path.name == "9.png":
        os._exit(11)
    return run.plain(engine, image, out, **how)

run.segment_file = segment_file
"""


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    images, _ = labelled(tmp_path, count=8)
    tiny, state, out = bundle(tmp_path / "tiny"), tmp_path / "state", tmp_path / "out"
    seen: list[str] = []

    def stop(number: int, _: int, done: SegmentedImage | None) -> None:
        assert done is not None
        seen.append(done.image.name)
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segc.run(tiny, images, out=out, state=state, progress=stop)
    with state.open("a") as file:
        file.write('{"key": "cut')
    again: list[tuple[int, str]] = []
    result = segc.run(
        tiny, images, out=out, state=state,
        progress=lambda number, _, done: again.append((number, done.image.name if done else "")),
    )  # fmt: skip
    assert again[0] == (3, "") and not set(seen) & {name for _, name in again} and again[-1][0] == 8
    whole = segc.run(tiny, images, out=tmp_path / "whole")
    assert [(one.image, one.size, one.shares) for one in result.images] == [
        (one.image, one.size, one.shares) for one in whole.images
    ]
    result.images[0].mask.unlink()
    (images / "1.png").write_bytes((images / "2.png").read_bytes() + b"changed")
    redone: list[str] = []
    segc.run(tiny, images, out=out, state=state, progress=lambda *of: redone.append(of[2].image.name if of[2] else ""))
    assert sorted(redone) == sorted(["", result.images[0].image.name, "1.png"])


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    images, _ = labelled(tmp_path, count=2)
    tiny, state = bundle(tmp_path / "tiny"), tmp_path / "state"
    segc.run(tiny, images, out=tmp_path / "out", state=state)
    for change in ({"overlay": False}, {"out": tmp_path / "other"}):
        with pytest.raises(FileError, match="belongs to another run") as raised:
            segc.run(tiny, images, **{"out": tmp_path / "out", "state": state, **change})
        assert raised.value.code == Code.OTHER_STATE
    state.write_text("[]\n")
    with pytest.raises(FileError, match="belongs to another run"):
        segc.run(tiny, images, out=tmp_path / "out", state=state)


def test_workers_that_are_killed_lose_no_image_and_do_none_twice(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    images, _ = labelled(tmp_path, count=40)
    tiny, killed = bundle(tmp_path / "tiny"), list[int]()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def kill_one(*_: object) -> None:
            if not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        spread = segc.run(
            tiny, images, out=tmp_path / "out", scheduler=cluster.scheduler_address, progress=kill_one,
            state=tmp_path / "state",
        )  # fmt: skip
    whole = segc.run(tiny, images, out=tmp_path / "whole")
    assert killed and not spread.errors
    assert [(one.image, one.shares) for one in spread.images] == [(one.image, one.shares) for one in whole.images]
    for one, other in zip(spread.images, whole.images, strict=True):
        assert one.mask.read_bytes() == other.mask.read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "state").read_text().splitlines()[1:]]
    assert len(rows) == 40 == len({row["key"] for row in rows})


def test_an_image_at_which_workers_die_is_named_and_a_damaged_bundle_ends_it(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    import dask

    images, _ = labelled(tmp_path, count=10)
    tiny = bundle(tmp_path / "tiny")
    (tmp_path / "crash.py").write_text(CRASH)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, preload=str(tmp_path / "crash.py")
        ) as cluster,
    ):
        spread = segc.run(tiny, images, out=tmp_path / "out", scheduler=cluster.scheduler_address)
        ((path, error),) = spread.errors
        assert path.name == "9.png" and error.code == Code.ENGINE_PROCESS and len(spread.images) == 9
        (tiny / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(BundleError):
            segc.run(tiny, images, out=tmp_path / "out", scheduler=cluster.scheduler_address)
