"""pytest-xdist hands out whole files in the order of the tests: what takes longest must not come last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.order import LONGEST_FIRST

TESTS = Path(__file__).parent
RANKS = {TESTS / name: at for at, name in enumerate(LONGEST_FIRST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the listed files to the front; the others keep their order."""
    items.sort(key=lambda item: RANKS.get(item.path, len(RANKS)))
