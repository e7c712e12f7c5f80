"""Sessions for runtimes whose sessions cannot be called by several threads at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import cast

import numpy as np

from segc.targets.protocol import LogitsSession, NamedSession, Session


class Pool:
    """Equal sessions, each called by one thread at a time; who finds none idle waits."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._idle: SimpleQueue[Session] = SimpleQueue()
        for session in sessions:
            self._idle.put(session)

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        with self._one() as session:
            return session.run(x)

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        """See LogitsSession."""
        with self._one() as session:
            return cast(LogitsSession, session).run_logits(x)

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See NamedSession."""
        with self._one() as session:
            return cast(NamedSession, session).run_named(inputs)

    @contextlib.contextmanager
    def _one(self) -> Iterator[Session]:
        session = self._idle.get()
        try:
            yield session
        finally:
            self._idle.put(session)
