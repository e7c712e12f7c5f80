"""The order of the test files, and Ctrl-C.

pytest-xdist hands out whole files in the order of the tests: what takes longest must not come last.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tests.helpers.order import LONGEST_FIRST

TESTS = Path(__file__).parent
RANKS = {TESTS / name: at for at, name in enumerate(LONGEST_FIRST)}

# no test may fail because the machine is busy
hypothesis.settings.register_profile(
    "busy machines", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machines")


def pytest_configure() -> None:
    """Keep no traces, and heed interrupts, which tests raise: shells start background jobs with SIGINT ignored."""
    os.environ["SEGC_CACHE"] = ""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the listed files to the front; the others keep their order."""
    items.sort(key=lambda item: RANKS.get(item.path, len(RANKS)))
