"""The folder of a package, and when it is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import segc
from segc.errors import Code, SegcError
from tests.helpers.npm import copied
from tests.helpers.tiny_bundles import bundle


def test_only_packages_that_segc_wrote_are_replaced(tmp_path: Path) -> None:
    given: dict[str, Any] = {"purpose": "web", "onnxruntime_web": copied(tmp_path / "ort"), "out": tmp_path / "page"}
    source = bundle(tmp_path / "b")
    segc.package(source, **given)
    with pytest.raises(SegcError, match="exists already") as error:
        segc.package(source, **given)
    assert error.value.code == Code.DESTINATION_TAKEN
    segc.package(source, **given, force=True)
    (tmp_path / "page" / "notes.txt").write_text("mine")
    with pytest.raises(SegcError, match="is not replaced") as error:
        segc.package(source, **given, force=True)
    assert "besides a package it holds notes.txt" in str(error.value)
    with pytest.raises(SegcError, match="is not replaced") as error:
        segc.package(source, **{**given, "out": source}, force=True)
    assert "is not a package" in str(error.value)
