"""A session for runtimes whose sessions cannot be called by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import cast

import numpy as np

from segc.targets.protocol import LogitsSession, NamedSession, Session


class OneAtATime:
    """`session`, called by one thread at a time; the others wait."""

    def __init__(self, session: Session) -> None:
        self._session, self._lock = session, threading.Lock()

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        with self._lock:
            return self._session.run(x)

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        """See LogitsSession."""
        with self._lock:
            return cast(LogitsSession, self._session).run_logits(x)

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See NamedSession."""
        with self._lock:
            return cast(NamedSession, self._session).run_named(inputs)
