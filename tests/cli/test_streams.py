"""Odd streams, names and numbers on the command line: a message and the documented exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from segc.cli import main
from tests.helpers.tiny_bundles import bundle, photograph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    bundle(made / "b", classes=["rot", "grün", "blau"])
    cv2.imwrite(str(made / "a.png"), photograph(20, 30))
    (made / "ü.png").write_bytes((made / "a.png").read_bytes())
    return made


def shell(folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("segc ", f"{sys.executable} -m segc ")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_that_the_encoding_lacks_are_escaped(folder: Path, environment: dict[str, str]) -> None:
    done = shell(folder, "segc run b ü.png missing-ü.png -o out", **environment)
    assert done.returncode == 8, done.stderr
    assert "_mask.png" in done.stdout and "Traceback" not in done.stderr and "bug in segc" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("segc run b a.png -o out >&-", 0),
        ("segc run b a.png -o out 2>&-", 0),
        ("segc run b a.png -o out <&- >&- 2>&-", 0),
        ("segc run b none.png -o out >&- 2>&-", 8),
        ("segc inspect b > /dev/full", 8),
        ("segc inspect b --json | head -1 >/dev/null; exit ${PIPESTATUS[0]}", None),
    ],
)
def test_streams_that_are_closed_or_full_end_as_documented(folder: Path, line: str, code: int | None) -> None:
    done = shell(folder, line)
    assert done.returncode in ((0, 130) if code is None else (code,)), done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr and "bug in" not in done.stderr


def test_one_bad_picture_never_stops_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = folder / "bad"
    bad.mkdir()
    os.mkfifo(bad / "fifo.png")
    (bad / "loop.png").symlink_to("loop.png")
    (bad / "zero.png").symlink_to("/dev/zero")
    (bad / "empty.png").write_bytes(b"")
    (bad / "good.png").write_bytes((folder / "a.png").read_bytes())
    names = [str(bad), "n" * 300 + ".png", "a\0b.png", str(folder / "b" / "segc.json")]
    assert main(["run", str(folder / "b"), *names, "-o", str(folder / "bad-out")]) == 8
    said = capsys.readouterr()
    assert "good_mask.png" in said.out and "masks and overlays of 1 image" in said.out
    for words in (
        "it is a pipe",
        "it is a device",
        "the file is empty",
        "links",
        "name too long",
        "no file has this name",
    ):
        assert words.lower() in said.err.lower(), (words, said.err)


def test_an_empty_name_is_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(folder / "b"), ""]) == 2
    assert "empty name" in capsys.readouterr().err


NUMBERS = {
    "run": (["b", "a.png"], ["--threads", "--opacity", "--max-pixels"]),
    "compile": (["m.onnx"], ["--threads", "--max-error", "--min-agreement", "--min-segment"]),
    "verify": (["b"], ["--threads", "--max-error", "--min-agreement", "--memory-limit", "--time-limit"]),
    "build": (["b"], ["--threads", "--max-error", "--min-agreement"]),
    "bench": (["b"], ["--threads", "--runs"]),
    "opt": (["m.onnx"], ["--stop-after", "--batch", "--embed", "--tolerance", "--memory-limit", "--time-limit"]),
    "inspect": (["m.onnx"], ["--memory-limit", "--time-limit"]),
    "matrix": ([], ["--jobs", "--timeout"]),
}  # fmt: skip


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "x", "", "99999999999999999999999"])
@pytest.mark.parametrize("command", NUMBERS)
def test_no_option_takes_what_is_no_number(command: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, options = NUMBERS[command]
    for option in options:
        assert main([command, *words, f"{option}={value}"]) == 2, option
        assert f"{option} " in capsys.readouterr().err


def test_threads_have_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "b", "a.png", "--threads", "200000"]) == 2
    assert "--threads 200000" in (said := capsys.readouterr().err) and "from 0 to 1024" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space as Linux does")
@pytest.mark.parametrize("command", ["run b a.png -o out", "inspect b"])
@pytest.mark.parametrize("kilobytes", [200_000, 300_000])
def test_little_address_space_is_a_message(folder: Path, command: str, kilobytes: int) -> None:
    done = shell(folder, f"ulimit -v {kilobytes}; segc {command}", OPENBLAS_NUM_THREADS="1")
    assert "bug in segc" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 7, 9), (done.returncode, done.stderr)
