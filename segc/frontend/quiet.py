"""Keeping other libraries' chatter off the user's terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log lines and prints of the libraries called inside; their errors reach us as exceptions."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    nowhere = io.StringIO()  # torch.export prints the graph it failed on to stderr
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
