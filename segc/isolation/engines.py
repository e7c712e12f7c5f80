"""A task that runs an engine: the first question is an `Engine` to load, the others are its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Engine:
    """What to load."""

    target: str
    directory: Path
    options: Mapping[str, Any]
    threads: int

    def load(self) -> Any:
        """The target's own session."""
        from segc import targets

        return targets.runtime(self.target).load(self.directory, dict(self.options), self.threads)


def prepare(target: str) -> None:
    """Import the target, for all forks."""
    from segc import targets

    targets.runtime(target)


def handler() -> Callable[[Any], object]:
    """Loads an Engine, and runs each array, or each mapping of arrays by name."""
    session: Any = None

    def answer(question: Any) -> object:
        nonlocal session
        if isinstance(question, Engine):
            session = question.load()
            return None
        return dict(session.run_named(question)) if isinstance(question, dict) else session.run(question)

    return answer
