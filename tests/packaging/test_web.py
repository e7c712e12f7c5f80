"""`segc package --for web`: what it writes and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import segc
from segc.errors import Code, SegcError
from segc.packaging.web import NPM, RUNTIME
from tests.helpers.calls import segc as command
from tests.helpers.npm import copied as runtime
from tests.helpers.tiny_bundles import bundle


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_page_is_a_folder_whose_files_are_listed(tmp_path: Path) -> None:
    words = ["package", bundle(tmp_path / "b"), "--for", "web", "-o", tmp_path / "page"]
    done = command(*words, "--onnxruntime-web", runtime(tmp_path / "ort"), "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    listed = json.loads((tmp_path / "page" / "segc-package.json").read_text())
    assert (listed["for"], made["purpose"]) == ("web", "web")
    assert names(tmp_path / "page") == {*listed["files"], "segc-package.json"}
    assert {"index.html", "page.js", "engine.js", "model.onnx", "segc.json", f"runtime/{RUNTIME[0]}"} <= {
        *listed["files"]
    }
    assert made["bytes"] == sum((tmp_path / "page" / name).stat().st_size for name in names(tmp_path / "page"))
    assert (tmp_path / "page" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_the_runtime_is_found_in_node_modules_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(tmp_path / "node_modules" / NPM)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    made = segc.package(bundle(tmp_path / "b"), purpose="web", out="page")
    assert made.path == Path("page") and (tmp_path / "below" / "page" / "runtime").is_dir()


def step(**settings: Any) -> dict[str, Any]:
    return {"preprocessing__steps": [settings]}


OTHER = {"name": "ncnn", "runtime": "1.0", "options": {}, "settings": {}}
RESIZE = {"step": "resize", "scale": [8, 8], "factor": None, "keep_ratio": False, "backend": "cv2"}
LOADER = {"color": "unchanged", "decoder": "cv2", "float32": False}


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"target": OTHER}, "its engine is of ncnn"),
        (step(**RESIZE, interpolation="area"), "OpenCV's interpolation 'area'"),
        (step(**RESIZE, interpolation="lanczos"), "OpenCV's interpolation 'lanczos'"),
        (step(step="resize to multiple", divisor=8, interpolation="bicubic"), "OpenCV's interpolation 'bicubic'"),
        (step(step="clahe", limit=2.0, grid=[8, 8]), "the step 'clahe'"),
        (step(step="own", module="my.code", name="Mine", settings={}), "the step 'own'"),
        ({"preprocessing__loader": LOADER}, "browsers do not decode so (cv2, unchanged)"),
    ],
)
def test_what_a_browser_cannot_do_is_refused(tmp_path: Path, changes: dict[str, Any], because: str) -> None:
    source = bundle(tmp_path / "b", **changes)
    with pytest.raises(SegcError) as error:
        segc.package(source, purpose="web", out=tmp_path / "page", onnxruntime_web=runtime(tmp_path / "ort"))
    assert error.value.code == Code.PACKAGE and because in str(error.value)
    assert not (tmp_path / "page").exists()


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (without("package.json"), Code.OPTIONAL_PACKAGE, "the npm package onnxruntime-web is not installed"),
        (without(f"dist/{RUNTIME[2]}"), Code.NOT_FOUND, f"has no dist/{RUNTIME[2]}"),
        (lambda folder: (folder / "package.json").write_text("{"), Code.UNREADABLE, "cannot be read"),
        (lambda folder: (folder / "package.json").write_text("[]"), Code.UNREADABLE, "cannot be read"),
    ],
)
def test_a_runtime_that_is_not_whole_is_refused(
    tmp_path: Path, change: Callable[[Path], None], code: Code, says: str
) -> None:
    change(folder := runtime(tmp_path / "ort"))
    with pytest.raises(SegcError) as error:
        segc.package(bundle(tmp_path / "b"), purpose="web", out=tmp_path / "page", onnxruntime_web=folder)
    assert error.value.code == code and says in str(error.value)
    assert "npm install onnxruntime-web@" in str(error.value)
    assert not (tmp_path / "page").exists()


def test_another_npm_package_is_refused(tmp_path: Path) -> None:
    folder = runtime(tmp_path / "ort", name="left-pad")
    with pytest.raises(SegcError, match="holds the npm package left-pad"):
        segc.package(bundle(tmp_path / "b"), purpose="web", out=tmp_path / "page", onnxruntime_web=folder)


def test_an_unknown_purpose_is_refused(tmp_path: Path) -> None:
    done = command("package", bundle(tmp_path / "b"), "--for", "wep", "-o", tmp_path / "page")
    assert done.code == 2 and "did you mean web?" in done.err
