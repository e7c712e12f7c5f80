"""Bills of materials: valid CycloneDX with the digests of the bundle, and the same bytes each time."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

import segc
from segc.bundle.canonical_json import sha256_of_file
from segc.cli import main
from tests.helpers.target_bundles import bundle

pytest.importorskip("cyclonedx")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle("onnxruntime", "whole", tmp_path_factory.mktemp("sbom"))


def test_it_names_files_source_and_runtime(whole: Path) -> None:
    document = json.loads(segc.sbom(whole).text)
    parts = {part["bom-ref"]: part for part in document["components"]}
    digests = {ref: part["hashes"][0]["content"] for ref, part in parts.items() if part.get("hashes")}
    for name in ("model.onnx", "segc.json"):
        assert digests[f"file:{name}"] == sha256_of_file(whole / name)
    manifest = segc.load(whole).manifest
    assert digests[f"data:source {manifest.source.name}"] == manifest.source.sha256
    assert parts["library:onnxruntime"]["purl"] == f"pkg:pypi/onnxruntime@{version('onnxruntime')}"
    assert document["metadata"]["component"]["type"] == "machine-learning-model"
    assert document["specVersion"] == "1.6"


def test_it_is_valid(whole: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(segc.sbom(whole).text) is None


def test_it_is_the_same_each_time(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = segc.sbom(whole, out=tmp_path / "bom.json").text
    assert (tmp_path / "bom.json").read_text() == text
    assert main(["sbom", str(whole)]) == 0
    assert capsys.readouterr().out == text


def test_a_hybrid_has_both_runtimes(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    document = json.loads(segc.sbom(bundle("ncnn", "hybrid", tmp_path)).text)
    libraries = {part["name"] for part in document["components"] if part["type"] == "library"}
    assert libraries == {"ncnn", "onnxruntime"}
