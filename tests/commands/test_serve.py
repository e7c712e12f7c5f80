"""`segc serve` as a process: it answers, ends in order, and says what it cannot do."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import cv2
import pytest

import segc
from segc.errors import Code, UsageError
from tests.helpers.calls import segc as command
from tests.helpers.servers import served
from tests.helpers.tiny_bundles import bundle, photograph

httpx = pytest.importorskip("httpx")
for module in ("fastapi", "uvicorn", "pycocotools"):
    pytest.importorskip(module)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_server_answers_and_ends_in_order(tmp_path: Path) -> None:
    with served(bundle(tmp_path / "street")) as (process, address):
        image = photograph(20, 30)
        answer = httpx.post(f"{address}/segment", content=cv2.imencode(".png", image)[1].tobytes(), timeout=60)
        assert answer.content == segc.load(tmp_path / "street").segment(image).png()
        assert [*httpx.get(f"{address}/models").json()] == ["street"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, ""), err
        assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = command("serve", bundle(tmp_path / "b"), "--port", taken.getsockname()[1])
    assert done.code == 8 and "cannot listen at 127.0.0.1" in done.err and "--port 0 takes a free one" in done.err


def test_bundles_of_one_name_are_refused(tmp_path: Path) -> None:
    bundles = [bundle(tmp_path / folder / "b") for folder in ("x", "y")]
    with pytest.raises(UsageError, match="a name of its own") as error:
        segc.serve(bundles)
    assert error.value.code == Code.CONFLICTING_OPTIONS


def test_no_bundle_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no bundle to serve"):
        segc.serve([])


@pytest.mark.parametrize(("name", "value"), [("--queue", "-1"), ("--port", "70000"), ("--timeout", "nan")])
def test_numbers_out_of_range_are_refused(tmp_path: Path, name: str, value: str) -> None:
    done = command("serve", tmp_path, name, value)
    assert done.code == 2 and name in done.err


def test_a_bundle_that_is_not_there_ends_the_command(tmp_path: Path) -> None:
    assert command("serve", tmp_path / "missing").code == 6
