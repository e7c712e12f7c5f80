"""What is missing is said with the extra that brings it: no traceback, whatever is installed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from segc import packages, targets
from segc.targets import registry
from tests.helpers.calls import Outcome, python, refused
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.tiny_models import onnx_file

ROOT = Path(__file__).parents[1]
COMPILER = ["onnx", "onnx_graphsurgeon", "networkx", "torch", "onnxsim"]
HIDE = """
import importlib.machinery, importlib.metadata, sys
real, version = importlib.machinery.PathFinder.find_spec, importlib.metadata.version
def without(name, path=None, target=None):
    return None if name.split(".")[0] in HIDDEN else real(name, path, target)
def known(name):
    if name.replace("-", "_") in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.machinery.PathFinder.find_spec, importlib.metadata.version = staticmethod(without), known
from segc.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without(hidden: list[str], *words: object) -> Outcome:
    """The command line in a process in which these modules are not installed."""
    return python(f"HIDDEN = {hidden!r}\n{HIDE}", *words)


@pytest.mark.parametrize(
    "words",
    [
        ("compile", "conv.onnx", "-o", "b"),
        ("opt", "conv.onnx", "-o", "out.onnx"),
        ("inspect", "conv.onnx"),
        ("verify", "bundle", "conv.onnx"),
        ("build", "bundle"),
        ("targets",),
        ("passes",),
    ],
)
def test_commands_of_the_compiler_say_how_to_install_it(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_file(tmp_path)
    bundle(tmp_path / "bundle")
    given = [str(tmp_path / word) if word in ("conv.onnx", "b", "out.onnx", "bundle") else word for word in words]
    refused(without(COMPILER, *given), 7, "segc's compiler is not installed", "pip install 'segc[compiler]'")


def test_bundles_run_without_the_compiler(tmp_path: Path) -> None:
    import cv2

    path = bundle(tmp_path / "b")
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(20, 30))
    done = without(COMPILER, "run", path, tmp_path / "photo.png", "-o", tmp_path / "out")
    assert done.code == 0 and (tmp_path / "out" / "photo_mask.png").is_file(), done.err


def test_a_runtime_that_is_missing_is_named_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    hidden = [*COMPILER, "onnxruntime"]
    done = without(hidden, "run", bundle(tmp_path / "b"), tmp_path / "photo.png", "-o", tmp_path / "out")
    refused(done, 7, "onnxruntime is not installed", "pip install 'segc[onnxruntime]'")


def test_the_doctor_works_without_the_compiler() -> None:
    done = without(COMPILER, "doctor", "--json")
    found = {each["what"]: each for each in json.loads(done.out)["findings"]}
    assert found["target onnxruntime"]["works"] and "runs bundles" in found["target onnxruntime"]["detail"]
    assert not found["source .onnx"]["works"] and found["source .onnx"]["so"] == "pip install 'segc[compiler]'"


def test_the_python_api_says_it_too() -> None:
    code = """
import segc
try:
    segc.compile
except segc.SegcError as error:
    print(error)
"""
    done = python(f"HIDDEN = {COMPILER!r}\n{HIDE.partition('from segc.cli')[0]}{code}")
    assert "segc's compiler is not installed" in done.out and "pip install 'segc[compiler]'" in done.out


def test_every_extra_that_is_named_exists_and_brings_something() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {package.extra for name in registry.BUILT_IN if (package := targets.get(name).package)} | {"onedl", "all"}
    assert {*packages.EXTRAS, *filter(None, named)} <= set(extras)
    whole = " ".join(extras["all"])
    assert all(
        extra in whole
        for extra in extras
        if extra not in ("all", "bench", "compiler", "dev", "docs", "onedl", "onnxruntime")
    )


def test_a_module_of_nobody_s_is_not_explained() -> None:
    assert packages.missing(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert packages.missing(ImportError("libfoo.so.3", name="onnx")) is None
