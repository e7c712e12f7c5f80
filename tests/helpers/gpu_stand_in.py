"""A stand-in for the GPU in benchmarks/gpu/measure.py: ONNX Runtime runs the graph that an engine was built from.

The graphs lie in the folder of the environment variable STAND_IN_GRAPHS, named by the SHA-256 of their engines. Which
GPU it is, and what goes wrong, is set by STAND_IN_FAULT: 'refuse' loads nothing, 'crash' and 'wrong' with a file name
spoil that engine.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch


class Engine:
    """An engine as measure.py sees one."""

    validity = "VALID"

    def __init__(self, path: Path, *, wrong: bool) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._wrong = wrong
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def bind(self, feed: dict[str, Any]) -> dict[str, Any]:
        """Run at once, so that the shapes are known."""
        self.feed = feed
        self.out = self._run()
        return self.out

    def _run(self) -> dict[str, Any]:
        found = self._session.run(None, {name: x.numpy() for name, x in self.feed.items()})
        made = {name: torch.from_numpy(y) for name, y in zip(self.outputs, found, strict=True)}
        return {name: y.flip(1) for name, y in made.items()} if self._wrong else made

    def __call__(self) -> Any:
        """The first output."""
        for name, y in self._run().items():
            self.out[name].copy_(y)
        return self.out[self.outputs[0]]


class Device:
    """A GPU that is none."""

    device = "cpu"

    def __init__(self, site: Path | None) -> None:
        self._graphs = Path(os.environ["STAND_IN_GRAPHS"])
        self._fault, _, self._at = os.environ.get("STAND_IN_FAULT", "").partition(" ")

    def described(self) -> dict[str, Any]:
        """Its name and versions."""
        return {"gpu": "Stand-in", "compute_capability": [0, 0], "torch": torch.__version__, "tensorrt": "none 0"}

    def load(self, plan: bytes) -> Engine:
        """ONNX Runtime's session on the graph of the plan."""
        name = hashlib.sha256(plan).hexdigest()
        if self._fault == "refuse":
            raise RuntimeError("not loaded: INVALID UNSUPPORTED_CC")
        if self._fault == "crash" and self._at == name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return Engine(self._graphs / f"{name}.onnx", wrong=self._fault == "wrong" and self._at == name)

    def synchronize(self) -> None:
        """Nothing runs beside."""

    def stream_of(self, engine: Engine | None) -> None:
        """There is none."""

    def timed(self, run: Callable[[], Any], stream: None, warmup: int, repeat: int) -> dict[str, Any]:
        """Milliseconds of the wall clock."""
        start = time.perf_counter()
        run()
        return {"p50_ms": 1e3 * (time.perf_counter() - start)}

    def to_mask(
        self, run: Callable[[], Any], to: Any, x: Any, stream: None, warmup: int, repeat: int
    ) -> dict[str, Any]:
        """The same, as image to mask."""
        return {f"to_mask_{key}": value for key, value in self.timed(run, stream, warmup, repeat).items()}
