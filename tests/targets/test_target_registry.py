"""Targets by name: segc's own, and those of other packages, found through the entry point group `segc.targets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segc import targets
from segc.errors import MissingPackageError, UsageError
from segc.targets import registry
from tests.helpers.calls import python, segc

PLUGIN = """
import dataclasses
from segc import targets
OTHER = dataclasses.replace(targets.get("onnxruntime"), name="other", summary="from elsewhere")
NUMBER = 3
"""


def install(folder: Path, entry: str, package: str = "plugin", module: str = PLUGIN) -> Path:
    """What pip would leave behind: a module and a dist-info with an entry point."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}_module.py").write_text(module)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[segc.targets]\n{entry}\n")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.get.cache_clear()
    registry.runtime.cache_clear()
    import sys

    for name in ("plugin_module", "second_module", "light_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "site"


def test_built_in_targets_are_known_by_name() -> None:
    assert targets.names()[:2] == ["onnxruntime", "openvino"]
    for name in registry.BUILT_IN:
        target = targets.get(name)
        assert target.name == name and target is targets.get(name)
        assert target.ops and target.summary and target.table


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError) as caught:
        targets.get("opnvino")
    assert "no target 'opnvino'" in str(caught.value) and "did you mean openvino" in str(caught.value)
    with pytest.raises(UsageError, match="segc targets lists them"):
        targets.get("zzz")


def test_a_target_of_another_package_compiles_and_runs(tmp_path: Path) -> None:
    from tests.helpers.tiny_models import onnx_file

    site = install(tmp_path / "site", "other = plugin_module:OTHER")
    code = """
import sys, numpy, segc
from segc import targets
from segc.targets import registry
assert targets.names() == [*registry.BUILT_IN, "other"], targets.names()
bundle = segc.compile(sys.argv[1], target="other", out=sys.argv[2])
assert bundle.manifest.target.name == "other"
print(segc.load(bundle.path).run(numpy.ones((1, 3, 8, 12), numpy.float32))["logits"].shape)
"""
    done = python(code, onnx_file(tmp_path), tmp_path / "b", env={"PYTHONPATH": str(site)})
    assert (done.code, done.out.strip()) == (0, "(1, 2, 8, 12)"), done.err


def test_it_is_listed_by_the_command_line(site: Path) -> None:
    install(site, "other = plugin_module:OTHER")
    listed = {row["name"]: row["summary"] for row in json.loads(segc("targets", "--json").out)}
    assert listed["other"] == "from elsewhere"


def test_a_name_that_is_taken_is_refused(site: Path) -> None:
    install(site, "onnxruntime = plugin_module:OTHER")
    with pytest.raises(UsageError, match="two packages offer a target named 'onnxruntime'") as caught:
        targets.names()
    assert "plugin_module:OTHER" in str(caught.value) and "uninstall one of them" in str(caught.value)


def test_a_name_that_two_packages_offer_is_refused(site: Path) -> None:
    install(site, "other = plugin_module:OTHER")
    install(site, "other = second_module:OTHER", package="second")
    with pytest.raises(UsageError, match="two packages offer a target named 'other'"):
        targets.names()


def test_an_entry_point_that_is_no_target_is_refused(site: Path) -> None:
    install(site, "number = plugin_module:NUMBER\nmisnamed = plugin_module:OTHER\ngone = plugin_module:GONE")
    with pytest.raises(UsageError, match=r"'number' of segc\.targets is not a Target"):
        targets.get("number")
    with pytest.raises(UsageError, match=r"'misnamed' of segc\.targets is not a Target of that name"):
        targets.get("misnamed")


def test_a_target_whose_package_is_broken_says_what_cannot_be_imported(site: Path) -> None:
    install(site, "other = plugin_module:OTHER", module="import nothing_like_this\n")
    with pytest.raises(MissingPackageError, match="nothing_like_this"):
        targets.get("other")


RUNTIME = """
from segc.targets.protocol import Package, Runtime
from segc.targets.onnxruntime.runtime import load
LIGHT = Runtime(load, Package("onnxruntime", "onnxruntime"), multi_io=True)
"""


def test_a_runtime_that_is_offered_alone_is_taken_before_the_target(site: Path) -> None:
    install(site, "other = plugin_module:OTHER", module="raise AssertionError('the compiler is imported')\n")
    (site / "light_module.py").write_text(RUNTIME)
    with (site / "plugin-1.0.dist-info" / "entry_points.txt").open("a") as file:
        file.write(
            "[segc.runtimes]\nother = light_module:LIGHT\nnumber = plugin_module:GONE\nthird = light_module:load\n"
        )
    assert targets.runtime("other").multi_io and not targets.runtime("other").concurrent
    assert targets.runtime_names()[-3:] == ["other", "number", "third"]
    with pytest.raises(UsageError, match=r"the entry point 'third' of segc\.runtimes is not a Runtime"):
        targets.runtime("third")


def test_the_runtime_of_a_target_without_one_of_its_own_is_the_target_s(site: Path) -> None:
    install(site, "other = plugin_module:OTHER")
    assert targets.runtime("other") is targets.get("onnxruntime").runtime


def test_built_in_targets_have_the_runtime_that_loads_their_bundles() -> None:
    for name in registry.BUILT_IN:
        assert targets.get(name).runtime is targets.runtime(name) or name == "tensorrt"
    tensorrt = targets.get("tensorrt")
    assert tensorrt.runtime.load is targets.runtime("tensorrt").load
