"""Loading and running engines in OpenVINO."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segc.errors import Code
from segc.runtime.guard import runtime_errors
from segc.targets.protocol import LayerTime, LayerTimes, NamedSession, Package, Runtime

# The bindings look up NumPy's C functions at their first use, under a lock of C++ that knows nothing of Python's: where
# several threads come to it together, each waits for the other for ever. So every load comes to it first, one by one.
_first_use = threading.Lock()

FILES = ("model.xml", "model.bin")


class OvSession:
    """A compiled model, for any number of threads: each run has an infer request of its own meanwhile.

    threads: that compute one run; 0: the plugin's choice. callers: runs that are computed at the same time. They share
    weights; each has its own threads, which the plugin calls a stream.
    """

    def __init__(self, path: Path, options: Mapping[str, Any], threads: int, callers: int = 1) -> None:
        import openvino

        with _first_use:
            openvino.Type.f32.to_dtype()
        core = openvino.Core()
        settings: dict[str, Any] = {**options, **({"INFERENCE_NUM_THREADS": threads * callers} if threads else {})}
        if callers > 1:
            settings["NUM_STREAMS"] = callers
        with runtime_errors("OpenVINO cannot load the engine", Code.ENGINE_LOAD, where=path.name):
            self.compiled = core.compile_model(path, "CPU", settings)
        self._idle = [self.compiled.create_infer_request()]  # append and pop are atomic

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), or an image where the engine takes images. Returns the only output."""
        return np.asarray(self._infer([x])[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name to all outputs by name."""
        # NumPy has two int64 types, C's long and long long; OpenVINO knows only the one that dtype.str names
        given = {name: array.view(np.dtype(array.dtype.str)) for name, array in inputs.items()}
        result = self._infer(given)
        ports = enumerate(self.compiled.outputs)
        return {name: np.asarray(result[at]) for at, port in ports for name in port.get_names()}

    def _infer(self, inputs: Any) -> Any:
        """Outputs by number, copied out of the request, which the next run may use."""
        try:
            request = self._idle.pop()
        except IndexError:  # as many runs at once as never before
            request = self.compiled.create_infer_request()
        try:
            return request.infer(inputs, share_inputs=True, share_outputs=False)
        finally:
            self._idle.append(request)


def profile(
    directory: Path, options: Mapping[str, Any], threads: int, inputs: Mapping[str, np.ndarray], runs: int
) -> LayerTimes:  # fmt: skip
    """See Runtime. Layers that OpenVINO made part of others are not run and do not appear."""
    session = OvSession(directory / FILES[0], {**options, "PERF_COUNT": True}, threads)
    model = session.compiled.get_runtime_model()
    names = {op.get_friendly_name(): _originals(op) for op in model.get_ordered_ops()}
    times: dict[str, tuple[str, list[float]]] = {}
    request = session.compiled.create_infer_request()
    for turn in range(runs + 1):
        request.infer(dict(inputs))
        for each in request.profiling_info if turn else ():
            if each.status == type(each).Status.EXECUTED:
                times.setdefault(each.node_name, (each.node_type, []))[1].append(each.real_time.total_seconds() * 1e3)
    layers = [
        LayerTime(name, op, names.get(name, (name,)), statistics.median(taken)) for name, (op, taken) in times.items()
    ]
    return LayerTimes(tuple(layers), f"OpenVINO's own counters (profiling_info), medians of {runs} runs.")


def _originals(op: Any) -> tuple[str, ...]:
    """Names of the graph's nodes that a layer computes: the last is the one whose result it gives."""
    info = op.get_rt_info()
    listed = info["originalLayersNames"].astype(str).split(",") if "originalLayersNames" in info else []
    found = [name for one in reversed(listed) for name in (one, one.rpartition("/")[0]) if name]
    return (*found, op.get_friendly_name())


def load(directory: Path, options: Mapping[str, Any], threads: int) -> NamedSession:
    """The engine that `emit` wrote into `directory`."""
    return load_for(directory, options, threads, 1)


def load_for(directory: Path, options: Mapping[str, Any], threads: int, callers: int) -> NamedSession:
    """The same, for runs of several callers at a time."""
    return OvSession(directory / FILES[0], options, threads, callers)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Properties of the plugin; others than these could make it write files."""

    INFERENCE_PRECISION_HINT: Literal["f32", "bf16"]


RUNTIME = Runtime(
    load, Package("openvino", "openvino", extra="openvino"), multi_io=True, concurrent=True, load_for=load_for,
    options=Options, profile=profile,
)  # fmt: skip
