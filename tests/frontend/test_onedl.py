"""onedl-mmsegmentation, the maintained fork under the same import name; skipped where it is not installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import segc
from segc.frontend.mmseg_env import config_root, import_mmseg
from segc.frontend.rewrites import table
from segc.frontend.source import zoo_names
from tests.helpers.tiny_configs import config

try:
    ONEDL = version("onedl-mmsegmentation")
except PackageNotFoundError:
    pytest.skip("onedl-mmsegmentation is not installed", allow_module_level=True)


def test_it_is_what_mmseg_means_here_and_every_rewrite_fits_it() -> None:
    assert import_mmseg().__version__ == ONEDL
    with table.applied(dynamic=True) as applied:
        pass
    assert applied.refused == []
    assert all(rewrite.place() is not None for rewrite in table.REWRITES)


def test_its_zoo_is_found_by_name() -> None:
    root = config_root()
    assert root is not None and zoo_names()["fcn_r18-d8_4xb2-80k_cityscapes-512x1024"].is_relative_to(root)


def test_a_config_compiles_dynamically_and_the_engine_takes_other_sizes(tmp_path: Path) -> None:
    bundle = segc.compile(config(tmp_path), dynamic=True, out=tmp_path / "bundle")
    assert bundle.manifest.source.kind == "mmseg"
    assert len({tuple(case["shape"]) for case in bundle.report["parity"]["cases"]}) == 3
