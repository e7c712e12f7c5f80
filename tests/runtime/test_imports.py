"""Running bundles imports no compiler: each way to run one, in fresh interpreters that note what they import.

The note is made by a sitecustomize on PYTHONPATH, so that child processes are covered too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from tests.helpers.calls import Outcome, python
from tests.helpers.target_bundles import CASES, TARGETS
from tests.helpers.tiny_bundles import bundle, photograph

COMPILER = (
    "onnx", "onnx_graphsurgeon", "networkx", "torch", "onnxsim", "segc.passes", "segc.graph", "segc.frontend",
    "segc.pipeline", "segc.legality", "segc.compilation", "segc.parity", "segc.hybrid", "segc.targets.target",
)  # fmt: skip
SHARED = ("segc.parity", "segc.parity.sample_inputs")  # sample inputs, in NumPy alone: `segc bench` runs on them
GUARD = f"""
import os, sys
COMPILER, SHARED = {COMPILER!r}, {SHARED!r}

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name not in SHARED and any(name == each or name.startswith(each + ".") for each in COMPILER):
            with open(os.environ["IMPORTED"], "a") as file:
                file.write(name + "\\n")
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Guard())
with open(os.environ["STARTED"], "a") as file:
    file.write("started\\n")
"""
SEGMENT = """
import sys
import numpy as np, segc
photo, out, *bundles = sys.argv[1:]
for bundle in bundles:
    engine = segc.load(bundle, threads=1)
    engine.segment(np.full((20, 30, 3), 90, np.uint8)).counts()
    height, width = (side or 24 for side in engine.manifest.input.shape[2:])
    engine.run(np.zeros((1, 3, height, width), np.float32))
"""
RUN = """
from segc.cli import main
for bundle in bundles:
    assert main(["run", bundle, photo, "-o", out]) == 0
"""
VAL = """
import sys
import cv2, numpy as np
from segc.cli import main
folder, *bundles = sys.argv[1:]
for at, bundle in enumerate(bundles):
    assert main(["val", bundle, "--images", folder, "--labels", f"{folder}/labels", "-o", f"{folder}/{at}"]) == 0
"""
BENCH = """
import sys
from segc.cli import main
sys.exit(main(["bench", *sys.argv[1:], "--runs", "1", "--shape", "24x40"]))
"""
Guarded = Callable[..., tuple[Outcome, list[str], int]]


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    """Runs lines in a fresh interpreter: its outcome, which compiler modules were asked for, how many interpreters."""
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    imported, started = tmp_path / "imported", tmp_path / "started"

    def run(code: str, *words: object) -> tuple[Outcome, list[str], int]:
        for file in (imported, started):
            file.write_text("")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        done = python(code, *words, env={"PYTHONPATH": path, "IMPORTED": str(imported), "STARTED": str(started)})
        return done, imported.read_text().split(), len(started.read_text().split())

    return run


@pytest.mark.parametrize("target", TARGETS)
def test_running_bundles_imports_no_compiler(
    target: str, bundle_of: Callable[[str, str], Path], guarded: Guarded, tmp_path: Path
) -> None:
    """Bundles of all kinds, by Python and by both commands."""
    bundles = [bundle_of(target, kind) for at, kind in CASES if at == target]
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(24, 40))
    run = (tmp_path / "photo.png", tmp_path / "out", *bundles)
    for code, words, processes in ((SEGMENT + RUN, run, 1), (BENCH, bundles, 1 + len(bundles))):
        done, imported, started = guarded(code, *words)
        assert done.code == 0, done.err
        assert imported == [], f"{words}: imported {imported[0]} and {len(imported) - 1} more"
        assert started >= processes


def test_evaluating_bundles_imports_no_compiler(
    bundle_of: Callable[[str, str], Path], guarded: Guarded, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    (images / "labels").mkdir(parents=True)
    cv2.imwrite(str(images / "photo.png"), photograph(24, 40))
    cv2.imwrite(str(images / "labels" / "photo.png"), photograph(24, 40)[..., 0] % 2)
    done, imported, _ = guarded(VAL, images, bundle_of("onnxruntime", "whole"), bundle_of("onnxruntime", "slide"))
    assert done.code == 0, done.err
    assert imported == [] and "1 image evaluated" in done.out


def test_the_guard_sees_children_that_import_the_compiler(guarded: Guarded) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import segc.graph.ir'], check=False)"
    _, imported, started = guarded(code)
    assert imported == ["segc.graph"] and started == 2


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("pplnn", {"time_limit": 9}, "PPLNN is not installed"),
        ("tensorrt", {"deferred": True}, "the engine is not built yet"),
    ],
)
def test_a_bundle_that_cannot_run_here_says_so_without_the_compiler(
    target: str, options: dict[str, object], says: str, guarded: Guarded, tmp_path: Path
) -> None:
    settings = {"defer": "yes"} if target == "tensorrt" else {}
    made = {"name": target, "runtime": "1", "options": options, "settings": settings}
    done, imported, _ = guarded(SEGMENT, "no photo", "no folder", bundle(tmp_path / "b", target=made))
    assert says in done.err and imported == []


def test_importing_segc_loads_not_even_numpy() -> None:
    heavy = ("numpy", "cv2", "onnxruntime", *COMPILER)
    done = python(f"import sys, segc; print([name for name in {heavy} if name in sys.modules])")
    assert done.out.strip() == "[]", done.err


def test_the_kinds_of_bundles_are_what_they_are_called(bundle_of: Callable[[str, str], Path]) -> None:
    from segc.bundle.store import read_manifest

    for target, kind in CASES:
        manifest = read_manifest(bundle_of(target, kind))
        seen = {
            "whole": manifest.inference.mode == "whole" and manifest.output.decode is None and not manifest.segments,
            "slide": manifest.inference.mode == "slide",
            "host-mask": manifest.output.decode is not None,
            "hybrid": bool(manifest.hybrid),
        }
        assert manifest.target.name == target and seen[kind]
