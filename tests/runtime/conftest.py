"""Small bundles of every kind on every target that runs on any machine, compiled once a test session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import target_bundles


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A function of target and kind; it skips where the target's package is not installed."""
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def made(target: str, kind: str) -> Path:
        return target_bundles.bundle(target, kind, folder)

    def bundle(target: str, kind: str) -> Path:
        pytest.importorskip(target)
        return made(target, kind)

    return bundle
