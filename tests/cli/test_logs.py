"""Log lines: none unless asked for, on stderr by -v and SEGC_LOG; the Python functions print nothing by themselves."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from segc.isolation import supervisor
from tests.helpers import child_work
from tests.helpers.calls import python, refused, segc
from tests.helpers.tiny_bundles import bundle
from tests.helpers.tiny_models import NET, onnx_file

SEGC = logging.getLogger("segc")
FUNCTIONS = """
import cv2, numpy as np, segc
onnx_file, python_file, photo = "conv.onnx", "net.py", "photo.png"
made = segc.compile(onnx_file, out="b").path
segc.compile(python_file, out="c", decode="auto", output="mask")
segc.compile(onnx_file, target="ncnn", out="d")  # its engine is loaded in a child process
cv2.imwrite(photo, np.full((20, 30, 3), 90, np.uint8))
segc.load("c").segment(cv2.imread(photo))
segc.run("c", photo)
segc.verify(made, source=onnx_file)
segc.bench([made], runs=1)
segc.optimize(onnx_file, ["fold-constants"], out="o.onnx", check=True, dump_ir="dump")
segc.inspect(made)
segc.inspect(onnx_file)
try:
    segc.compile(onnx_file, shape=(3, 3), out="b")
except segc.SegcError:
    print("refused")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with conv.onnx and net.py."""
    onnx_file(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_the_python_functions_print_nothing(folder: Path) -> None:
    """Nothing on the file descriptors either, where runtimes in C++ write."""
    pytest.importorskip("ncnn")
    pytest.importorskip("torch")
    done = python(FUNCTIONS, cwd=folder)
    assert (done.code, done.out, done.err) == (0, "refused\n", "")


def test_a_library_user_configures_the_loggers(folder: Path) -> None:
    code = """
import logging, sys, segc
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s|%(levelname)s|%(message)s")
logging.getLogger("segc.pipeline").setLevel(logging.WARNING)
segc.compile("conv.onnx", target="ncnn", out="b")
segc.load("b")
"""
    pytest.importorskip("ncnn")
    lines = python(code, cwd=folder).out.splitlines()
    ours = [line.split("|") for line in lines if line.startswith("segc.")]
    said = {(name, level) for name, level, _ in ours}
    for module in ("compilation.setup", "parity.metrics", "bundle.store", "runtime.engine"):
        assert (f"segc.{module}", "INFO") in said
    assert ("segc.isolation.client", "DEBUG") in said  # the trial engine's process
    assert not any(name.startswith("segc.pipeline") for name, _ in said)
    steps = [message.split()[1] for name, _, message in ours if message.startswith("step ")]
    assert steps == ["open:", "export:", "report:", "passes:", "passes:", "emit:", "load:", "verify:", "report:"]


@pytest.mark.parametrize(
    ("before", "after", "environment", "levels"),
    [
        ([], [], "", set()),
        (["-v"], [], "", {"INFO"}),
        ([], ["--verbose"], "", {"INFO"}),
        ([], ["-vv"], "", {"INFO", "DEBUG"}),
        (["-v"], ["-v"], "", {"INFO", "DEBUG"}),
        ([], [], "info", {"INFO"}),
        ([], [], "Debug", {"INFO", "DEBUG"}),
        ([], [], "warning", set()),
        (["-v"], [], "debug", {"INFO"}),  # the command line decides
    ],
)
def test_verbose_and_the_environment_choose_the_level(
    before: list[str], after: list[str], environment: str, levels: set[str],
    folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SEGC_LOG", environment)
    monkeypatch.chdir(folder)
    done = segc(*before, "opt", "conv.onnx", "--pass", "fold-constants", "-o", "out.onnx", *after)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if " segc." in line]
    assert {line.split()[1] for line in lines} == levels
    assert ("0 changes" in done.err) == ("DEBUG" in levels)
    assert ("wrote out.onnx" in done.err) == ("INFO" in levels)
    assert "INFO" not in done.out and "DEBUG" not in done.out


def test_logging_is_as_before_after_a_command(folder: Path) -> None:
    before = SEGC.handlers[:], SEGC.level
    assert segc("-v", "inspect", folder / "conv.onnx").code == 0
    assert segc("-v", "inspect", folder / "absent.onnx").code != 0
    assert (SEGC.handlers, SEGC.level) == before


def test_an_unknown_level_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGC_LOG", "debgu")
    refused(segc("targets"), 2, "SEGC_LOG is 'debgu'", "debug, info, warning, error", "did you mean debug")
    monkeypatch.setenv("SEGC_LOG", "7")
    refused(segc("targets"), 2, "unset SEGC_LOG")


def test_a_result_as_json_stays_alone_on_stdout(tmp_path: Path) -> None:
    quiet, loud = (segc(*words, "inspect", bundle(tmp_path / "b", force=True), "--json") for words in ([], ["-vv"]))
    assert loud.out == quiet.out and quiet.err == "" != loud.err


def test_an_image_that_is_left_out_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "text.png").write_text("no image")
    segc("run", bundle(tmp_path / "b"), tmp_path / "text.png", "-o", tmp_path / "out")
    assert [r.levelname for r in caplog.records if "text.png is not segmented" in r.getMessage()] == ["WARNING"]


def test_a_child_that_dies_is_logged_with_its_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "segc")
    with pytest.raises(supervisor.ChildEnded):
        supervisor.call(child_work.crash, seconds=30)
    said = [r.getMessage().split(maxsplit=2) for r in caplog.records if r.getMessage().startswith("child ")]
    assert {word for word, _, _ in said} == {"child"} and len({number for _, number, _ in said}) == 1
    assert [rest.partition(":")[0] for _, _, rest in said] == ["started", "ended before it answered", "ended"]
    assert "SIGSEGV" in said[1][2]
