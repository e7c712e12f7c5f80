"""Where a compile begins and ends to use kept traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segc.compilation.setup import Setup
from segc.traces import cache, watch


@contextmanager
def kept_traces(setup: Setup, keep: bool) -> Iterator[None]:
    """In the block, the compile asks the kept traces first. If it ends without an error, its own are kept."""
    journal = setup.journal
    found = cache.opened(setup.request, setup.target.opset, watch.begin(), journal.cache) if keep else None
    if found is None:
        yield
        return
    journal.cache = found
    if found.hit:
        journal.announce("taking the trace of an earlier run: nothing that it was made from has changed")
    try:
        yield
        found.commit()
    finally:
        found.discard()
