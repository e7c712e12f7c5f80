"""Evaluations spread over a Dask cluster, whose workers die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import segc
from segc.errors import Code, FileError
from tests.helpers.labelled_images import labelled
from tests.helpers.tiny_bundles import bundle

distributed = pytest.importorskip("distributed")

# What a worker of the cluster runs first: its runtime crashes at one image, as native code does.
CRASH = """
import os
from segc.validation import evaluate

evaluate.plain = getattr(evaluate, "plain", evaluate.answer)  # this file may run twice

def answer(loaded, question, pair):
    if pair.image.name == "9.png":
        os._exit(11)
    return evaluate.plain(loaded, question, pair)

evaluate.answer = answer
"""


def test_a_worker_that_is_killed_loses_no_image_and_counts_none_twice(tmp_path: Path) -> None:
    images, labels = labelled(tmp_path, count=60)
    tiny = bundle(tmp_path / "tiny")
    killed: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def kill_one(*_: object) -> None:
            if not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        spread = segc.val(
            tiny, images=images, labels=labels, scheduler=cluster.scheduler_address, progress=kill_one,
            state=tmp_path / "state.jsonl",
        )  # fmt: skip
    assert killed and spread.images == 60 and spread == segc.val(tiny, images=images, labels=labels)
    assert len((tmp_path / "state.jsonl").read_text().splitlines()) == 1 + 60


def test_an_image_at_which_workers_die_is_named_and_the_others_count(tmp_path: Path) -> None:
    import dask

    images, labels = labelled(tmp_path, count=10)
    tiny = bundle(tmp_path / "tiny")
    (tmp_path / "crash.py").write_text(CRASH)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, preload=str(tmp_path / "crash.py")
        ) as cluster,
    ):
        spread = segc.val(tiny, images=images, labels=labels, scheduler=cluster.scheduler_address)
    ((path, error),) = spread.errors
    assert path.name == "9.png" and error.code == Code.ENGINE_PROCESS and spread.images == 9
    path.unlink()
    assert segc.val(tiny, images=images, labels=labels).columns == spread.columns


def test_workers_that_cannot_load_the_models_end_it(tmp_path: Path) -> None:
    images, labels = labelled(tmp_path, count=2)
    tiny = bundle(tmp_path / "tiny")
    (tiny / "model.onnx").write_bytes(b"damaged")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as cluster,
        pytest.raises(segc.BundleError),
    ):
        segc.val(tiny, images=images, labels=labels, scheduler=cluster.scheduler_address)


def test_a_scheduler_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    images, labels = labelled(tmp_path, count=1)
    with pytest.raises(FileError, match="no Dask scheduler answers") as raised:
        segc.val(bundle(tmp_path / "tiny"), images=images, labels=labels, scheduler="tcp://127.0.0.1:9")
    assert raised.value.code == Code.NO_SCHEDULER
