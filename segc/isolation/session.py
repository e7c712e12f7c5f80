"""Run an engine in a child process, so that a crash of the runtime becomes an error in this process.

Some runtimes validate nothing: with an engine that they misread, they access memory out of bounds. `IsolatedSession`
loads a target's engine in a child process and exchanges arrays with it over pipes. If the child dies or does not answer
in time, it raises CompileError. Errors that the target raises in the child are raised here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import Code, CompileError
from segc.isolation.engines import AskLogits, Engine
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised

LIMIT = 900.0  # seconds for one answer


class IsolatedSession:
    """A session of `target` in a child process. limit: seconds for the load, and for each run."""

    def __init__(
        self, target: str, directory: Path, options: Mapping[str, Any], threads: int, limit: float = LIMIT
    ) -> None:
        self._target, self._limit = target, limit
        # without its own process group: an engine that hangs is killed with this process group
        self._child = Child("segc.isolation.engines", target, own_group=False)
        self._ask(Engine(target, Path(directory).resolve(), dict(options), threads), "loading the engine")

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        return np.asarray(self._ask(np.ascontiguousarray(x), f"running it on {'x'.join(map(str, x.shape))}"))

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        """See LogitsSession."""
        return np.asarray(self._ask(AskLogits(np.ascontiguousarray(x)), "asking for its logits"))

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See NamedSession."""
        shapes = ", ".join("x".join(map(str, array.shape)) for array in inputs.values())
        outputs: Mapping[str, np.ndarray] = self._ask(dict(inputs), f"running it on {shapes}")
        return outputs

    def close(self) -> None:
        """End the child process."""
        self._child.close()

    def _ask(self, question: object, doing: str) -> Any:
        try:
            return self._child.ask(question, self._limit)
        except CompileError as error:  # of the target: what its runtime printed says more
            error.details["because"] += self._child.printed()
            raise
        except ChildEnded as ended:
            raise CompileError(
                f"the {self._target} runtime fails while {doing}", code=Code.ENGINE_PROCESS,
                because=[ended.reason, *ended.lines],
                so="this is a bug in segc or in the runtime: please report it with the model",
            ) from ended  # fmt: skip
        except ChildRaised as raised:  # each runtime has its own exception types
            raise CompileError(
                f"the {self._target} runtime fails while {doing}",
                code=Code.ENGINE_RUN,
                because=str(raised),
                so="try another target or a fixed --shape: this is a limit of the runtime",
            ) from raised
