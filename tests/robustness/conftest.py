"""One process that forks for all the work that is killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.kills import Worker

IMPORTS = (
    "segc.cli.compile",
    "segc.commands.compile",
    "segc.commands.optimize",
    "segc.commands.run",
    "segc.parity.reference",
    "segc.runtime.engine",
    "segc.targets.onnxruntime.runtime",
    "onnxruntime",
)


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    process = Worker(*IMPORTS, "tests.helpers.killed_work")
    yield process
    process.close()
