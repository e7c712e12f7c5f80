"""Running the segments of a hybrid bundle in order, and letting go of each tensor after its last reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segc.errors import Code
from segc.runtime.guard import runtime_errors
from segc.targets.protocol import NamedSession, Session

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Step:
    """A loaded segment: what it is called in errors, the names it reads and gives, and how it runs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Run


class HybridSession:
    """A Session made of steps; each reads `input` or what earlier steps gave, one of them gives `output`."""

    def __init__(self, steps: Sequence[Step], input: str, output: str) -> None:
        self._steps, self._input, self._output = steps, input, output
        last = {name: at for at, step in enumerate(steps) for name in (*step.outputs, *step.inputs)}
        self._dead = [[name for name, end in last.items() if end == at and name != output] for at in range(len(steps))]

    def run(self, x: Array) -> Array:
        """x: float32 (N, C, H, W). Raises CompileError that names the segment which failed."""
        tensors = {self._input: x}
        del x
        for step, dead in zip(self._steps, self._dead, strict=True):
            made = self._call(step, {name: np.asarray(tensors[name], order="C") for name in step.inputs})
            tensors.update((name, made[name]) for name in step.outputs)
            del made
            for name in dead:
                del tensors[name]
        return tensors[self._output]

    def _call(self, step: Step, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
        with runtime_errors(f"{step.name} failed", Code.ENGINE_RUN, where=f"inputs {shapes}"):
            return step.run(inputs)


def step(name: str, multi_io: bool, session: Session, inputs: Sequence[str], outputs: Sequence[str]) -> Step:
    """A step that runs `session`; names are those of the emitted segment. multi_io: see Target."""
    if multi_io:
        return Step(name, tuple(inputs), tuple(outputs), cast(NamedSession, session).run_named)
    given, made = _only(inputs), _only(outputs)
    return Step(name, (given,), (made,), lambda arrays: {made: session.run(arrays[given])})


def _only(names: Sequence[str]) -> str:
    (name,) = names
    return name
