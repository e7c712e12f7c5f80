"""Run an engine in a process of its own: what a runtime does to its process is then an error, not the end of ours.

Some runtimes check nothing: an engine that they misread reads and writes memory that is not theirs. `IsolatedSession`
loads a target's engine in a child process and passes arrays to and fro over pipes. A child that dies or does not answer
in time is a CompileError that says so; errors that the target raises in the child are raised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import Code, CompileError
from segc.isolation.engines import Engine
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised

LIMIT = 900.0  # seconds for one answer


class IsolatedSession:
    """A session of `target` in a child process. limit: seconds for loading, and for each run."""

    def __init__(
        self, target: str, directory: Path, options: Mapping[str, Any], threads: int, limit: float = LIMIT
    ) -> None:
        self._target, self._limit = target, limit
        # without a group of its own: an engine that hangs ends with whoever uses it
        self._child = Child("segc.isolation.engines", target, own_group=False)
        self._ask(Engine(target, Path(directory).resolve(), dict(options), threads), "loading the engine")

    def run(self, x: np.ndarray) -> np.ndarray:
        """As the target's own session."""
        return np.asarray(self._ask(np.ascontiguousarray(x), f"running it on {'x'.join(map(str, x.shape))}"))

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """As the session of a target with `multi_io`."""
        shapes = ", ".join("x".join(map(str, array.shape)) for array in inputs.values())
        outputs: Mapping[str, np.ndarray] = self._ask(dict(inputs), f"running it on {shapes}")
        return outputs

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def _ask(self, question: object, doing: str) -> Any:
        try:
            return self._child.ask(question, self._limit)
        except ChildEnded as ended:
            raise CompileError(
                f"the {self._target} runtime fails while {doing}", code=Code.ENGINE_PROCESS,
                because=[ended.how, *ended.lines],
                so="this is a defect of segc or of the runtime: please report the model",
            ) from ended  # fmt: skip
        except ChildRaised as raised:  # each runtime has exceptions of its own
            raise CompileError("the runtime fails", code=Code.ENGINE_RUN, because=str(raised)) from raised
