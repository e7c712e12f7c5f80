"""A Dask cluster that runs already, for work that is spread over many machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segc.errors import Code, FileError, MissingPackageError


@contextmanager
def client(address: str) -> Iterator[Any]:
    """A client of the scheduler at `address`. Raises MissingPackageError without Dask, FileError without an answer."""
    try:
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            "--scheduler needs Dask",
            code=Code.OPTIONAL_PACKAGE,
            because="the package 'distributed' is not installed",
            so="pip install distributed",
        ) from error
    try:
        made: Any = distributed.Client(address, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise FileError(
            f"no Dask scheduler answers at '{address}'",
            code=Code.NO_SCHEDULER,
            because=str(error),
            so="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error
    with made:
        yield made
