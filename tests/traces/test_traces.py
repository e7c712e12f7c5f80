"""Kept traces: used where nothing has changed, not used where anything has, and never what somebody else wrote."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc
from segc.commands.compile import compile_request
from segc.commands.compile_targets import compile_targets
from segc.compilation.request import Request
from segc.errors import SegcError
from segc.traces import cache, dependencies, entry, folder, watch
from segc.traces.watch import Watch
from tests.helpers.calls import segc_process
from tests.helpers.tiny_models import CONV, NET, onnx_file, source

sys.addaudithook(watch._hook)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch of this process, which tests use as if nothing had run in it before."""
    monkeypatch.setattr(watch, "unknown_natives", list)  # of the tests' own tools
    found = Watch()
    monkeypatch.setattr(watch, "_current", found)
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path / "kept"))
    first = Watch()

    def begin() -> Watch:
        found = Watch()
        found.environment, found.path = first.environment, first.path  # as in a process of its own
        return found

    monkeypatch.setattr(watch, "begin", begin)
    monkeypatch.setattr(watch, "unknown_natives", list)  # of the tests' own tools
    return tmp_path / "kept"


def entries(place: Path) -> list[Path]:
    return [each for each in place.iterdir() if not each.name.startswith(".")] if place.is_dir() else []


def compiled(path: Path, out: Path, **options: Any) -> tuple[bytes, bool]:
    """segc.json of a compile that may use kept traces, and whether it did."""
    said: list[str] = []
    made = compile_request(Request(path, out=out, threads=1, **options), said.append, keep=True)
    return (made.path / "segc.json").read_bytes(), any("earlier run" in line for line in said)


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing and opening fail."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the source was opened")

    monkeypatch.setattr("segc.compilation.request.open_source", refuse)
    monkeypatch.setattr("segc.frontend.trace.trace", refuse)


def test_a_second_compile_opens_and_traces_nothing(tmp_path: Path, place: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("torch")
    path = source(tmp_path)
    first, used = compiled(path, tmp_path / "a")
    assert not used and len(entries(place)) == 1
    assert not [each for each in place.iterdir() if each.name.startswith(".")]
    request.getfixturevalue("no_trace")
    second, used = compiled(path, tmp_path / "b")
    assert used and first == second


def test_a_source_that_changed_is_traced_anew(tmp_path: Path, place: Path) -> None:
    pytest.importorskip("torch")
    path = source(tmp_path)
    first, _ = compiled(path, tmp_path / "a")
    source(tmp_path, NET.replace("torch.relu(self.conv(x))", "torch.tanh(self.conv(x))"))
    second, used = compiled(path, tmp_path / "b")
    assert not used and first != second and len(entries(place)) == 1


def test_several_targets_share_one_trace(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from segc.frontend import trace as module

    traces: list[Any] = []
    traced = module.trace
    monkeypatch.setattr(module, "trace", lambda *a, **k: traces.append(k["opset"]) or traced(*a, **k))
    request = Request(source(tmp_path), out=tmp_path / "b", threads=1)
    targets = ["onnxruntime", "ncnn", "pplnn"]
    for attempt in compile_targets(request, targets, cache=True):
        assert attempt.bundle is not None or isinstance(attempt.error, SegcError)
    assert len(traces) == len(set(traces))  # one for each opset
    first = len(traces)
    compile_targets(Request(source(tmp_path), out=tmp_path / "c", threads=1), targets, cache=True)
    assert len(traces) == first


def test_only_sources_that_are_traced_are_kept(tmp_path: Path, place: Path) -> None:
    compiled(onnx_file(tmp_path, CONV), tmp_path / "a")
    assert entries(place) == []


def test_a_process_that_ran_torch_keeps_nothing() -> None:
    pytest.importorskip("torch")
    import torch  # noqa: F401

    assert watch.begin() is None


@pytest.mark.parametrize("damage", ["json", "model", "array", "pickle", "outside"])
def test_what_segc_did_not_write_is_not_used(tmp_path: Path, place: Path, damage: str) -> None:
    pytest.importorskip("torch")
    path = source(tmp_path)
    first, _ = compiled(path, tmp_path / "a")
    (kept,) = entries(place)
    if damage == "json":
        (kept / entry.NAME).write_text('{"format": 1}')
    elif damage == "model":
        (kept / entry.MODEL).write_bytes(b"\x08\x09")
    elif damage == "array":
        (kept / "0.npy").write_bytes(b"\x93NUMPY")
    elif damage == "pickle":
        np.save(kept / "0.npy", np.array([{}], object), allow_pickle=True)
    else:
        text = (kept / entry.NAME).read_text()
        (kept / entry.NAME).write_text(text.replace('"0.npy"', '"../0.npy"'))
    second, _ = compiled(path, tmp_path / "b")
    assert first == second


def test_the_folder_is_the_owners_alone(tmp_path: Path, place: Path) -> None:
    assert folder.usable(place) == "" and place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o755)
    assert "0700" in folder.usable(place)
    assert segc.doctor(clear_cache=True)[-1].works is False
    link = tmp_path / "link"
    link.symlink_to(place)
    assert folder.usable(link) != ""
    (tmp_path / "file").touch()
    assert folder.usable(tmp_path / "file") != ""


def test_doctor_counts_and_clears(place: Path) -> None:
    assert folder.usable(place) == ""
    for name in ("a", "b", ".left"):
        (place / name).mkdir()
        (place / name / "entry.json").write_bytes(b"x" * (1 << 20))
    assert "2 of 2 MiB" in segc.doctor()[-1].detail
    assert "deleted 2 of 2 MiB" in segc.doctor(clear_cache=True)[-1].detail
    assert list(place.iterdir()) == []


def test_nothing_is_kept_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(folder.VARIABLE, "")
    assert folder.place() is None and "none are kept" in segc.doctor()[-1].detail
    monkeypatch.delenv(folder.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert folder.place() == Path("/x/segc/traces")


def test_what_was_not_used_for_longest_goes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.usable(place)
    monkeypatch.setenv(folder.LIMIT, str(2.5 / 1024))  # MiB in GiB
    for at, name in enumerate("abc"):
        staging = folder.staged(place)
        (staging / "x").write_bytes(bytes(1 << 20))
        folder.publish(staging, place / name)
        os.utime(place / name, (at, at))
    staging = folder.staged(place)
    folder.publish(staging, place / "b")  # replaces one, which is empty now
    assert sorted(each.name for each in entries(place)) == ["b", "c"]


def depends(seen: Watch, *given: Path) -> dependencies.Dependencies:
    found = dependencies.of(seen, map(str, given))
    assert isinstance(found, dependencies.Dependencies), found
    return found


def test_every_file_counts_by_its_content(tmp_path: Path, seen: Watch) -> None:
    (tmp_path / "a").write_text("one")
    with seen.window():
        (tmp_path / "a").read_text()
    found = depends(seen)
    assert str(tmp_path / "a") in found.files and dependencies.difference(found, seen) is None
    os.utime(tmp_path / "a", (1, 1))
    assert dependencies.difference(found, seen) is None
    (tmp_path / "a").write_text("two")
    assert dependencies.difference(found, seen) == str(tmp_path / "a")
    (tmp_path / "a").unlink()
    assert dependencies.difference(found, seen) == str(tmp_path / "a")


def test_what_was_looked_for_or_listed_counts(tmp_path: Path, seen: Watch) -> None:
    (tmp_path / "folder").mkdir()
    with seen.window():
        assert not (tmp_path / "missing").exists()
        assert list((tmp_path / "folder").iterdir()) == []
        with pytest.raises(FileNotFoundError):
            (tmp_path / "absent").read_text()
    found = depends(seen)
    assert dependencies.difference(found, seen) is None
    for path in (tmp_path / "missing", tmp_path / "absent", tmp_path / "folder" / "new"):
        path.touch()
        assert dependencies.difference(found, seen) is not None
        path.unlink()


def test_modules_that_imports_would_find_first_count(
    tmp_path: Path, seen: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    seen.path = list(sys.path)
    with seen.window(), pytest.raises(ImportError):
        import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401
    found = depends(seen)
    (tmp_path / "another.py").touch()
    assert dependencies.difference(found, seen) is None
    (tmp_path / "a_module_that_nobody_has.py").touch()
    assert dependencies.difference(found, seen) == "what imports find"


def test_the_environment_counts_but_for_the_session(seen: Watch) -> None:
    found = depends(seen)
    seen.environment["COLUMNS"] = "80"
    assert dependencies.difference(found, seen) is None
    seen.environment["MY_MODEL"] = "large"
    assert "environment" in (dependencies.difference(found, seen) or "")


def test_native_readers_report_their_paths(tmp_path: Path, seen: Watch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 2, 3), np.uint8))
    original = cv2.imread
    with seen.window():
        assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert cv2.imread is original and str(tmp_path / "a.png") in seen.read


def draws() -> None:
    random.random()


def connects() -> None:
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))


def starts() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def draws_numpy() -> None:
    np.random.rand()


@pytest.mark.parametrize("act", [draws, connects, starts, draws_numpy])
def test_what_nobody_can_repeat_is_not_kept(seen: Watch, act: Any) -> None:
    with seen.window():
        act()
    assert isinstance(dependencies.of(seen, []), str)


def test_files_that_are_read_and_written_are_not_kept(tmp_path: Path, seen: Watch) -> None:
    with seen.window():
        (tmp_path / "count").write_text("1")
        (tmp_path / "count").read_text()
        with tempfile.TemporaryDirectory() as made:  # this is gone, and made anew each time
            (Path(made) / "a").write_text("1")
            (Path(made) / "a").read_text()
    found = dependencies.of(seen, [])
    assert isinstance(found, str) and "count" in found


def test_unknown_native_code_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("strange")
    module.__file__ = "/x/site-packages/strange/core.so"
    monkeypatch.setitem(sys.modules, "strange", module)
    found = Watch()
    with found.window():
        pass
    assert "strange" in found.natives and "native code" in str(dependencies.of(found, []))


def test_the_key_holds_what_decides_the_trace(tmp_path: Path) -> None:
    path = source(tmp_path)
    keys = {
        cache.key_of(Request(path, **options), opset)
        for opset in (17, 20)
        for options in ({}, {"shape": (8, 8)}, {"dynamic": True}, {"checkpoint": "a.pth"}, {"mode": "whole"})
    }
    assert len(keys) == 10
    assert cache.key_of(Request(path), 17) == cache.key_of(Request(path, out="x", threads=3, precision="fp16"), 17)


@pytest.mark.slow
def test_the_command_line_keeps_and_clears(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path, env = source(tmp_path), {folder.VARIABLE: str(tmp_path / "kept")}
    runs = [segc_process("compile", path, "-o", tmp_path / name, env=env) for name in ("a", "b")]
    assert [run.code for run in runs] == [0, 0] and "earlier run" not in runs[0].err and "earlier run" in runs[1].err
    assert (tmp_path / "a" / "segc.json").read_bytes() == (tmp_path / "b" / "segc.json").read_bytes()
    anew = segc_process("compile", path, "-o", tmp_path / "c", "--no-cache", env=env)
    assert anew.code == 0 and "earlier run" not in anew.err
    assert "deleted 1 of" in segc_process("doctor", "--clear-cache", env=env).out
