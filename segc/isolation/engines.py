"""A task that runs an engine. The first question is the `Engine` to load; the others are inputs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Engine:
    """An engine's files, and how to load them."""

    target: str
    directory: Path
    options: Mapping[str, Any]
    threads: int

    def load(self) -> Any:
        """Load the engine. Returns the target's session."""
        from segc import targets

        return targets.runtime(self.target).load(self.directory, dict(self.options), self.threads)


@dataclass(frozen=True)
class AskLogits:
    """An input whose logits are wanted; see LogitsSession."""

    x: Any


def prepare(target: str) -> None:
    """Import the target's runtime, once for all forks."""
    from segc import targets

    targets.runtime(target)


def handler() -> Callable[[Any], object]:
    """Answers an Engine by loading it; an array, or a mapping of arrays by name, by running the engine on it.

    An AskLogits is answered by its logits.
    """
    session: Any = None

    def answer(question: Any) -> object:
        nonlocal session
        if isinstance(question, Engine):
            session = question.load()
            return None
        if isinstance(question, AskLogits):
            return session.run_logits(question.x)
        return dict(session.run_named(question)) if isinstance(question, dict) else session.run(question)

    return answer
