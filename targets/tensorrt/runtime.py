"""Running an engine on a GPU. Written after TensorRT's documented API; needs the driver and nothing but NumPy."""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segc.bundle.typed import OMITTABLE
from segc.errors import Code, CompileError
from segc.targets.protocol import Package, Runtime, Session
from segc.targets.tensorrt.cuda import Buffer, CudaError, Device
from segc.targets.tensorrt.flavor import FLAVORS, chosen, defers, distribution_of, why_no_gpu
from segc.targets.tensorrt.options import ENTERPRISE, RTX

ENGINE, SIDECAR = "model.engine", "engine.json"
_EXTRAS = {RTX: "tensorrt", ENTERPRISE: None}
_DTYPES = {"FLOAT": "f4", "HALF": "f2", "UINT8": "u1", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}
_REBUILD = "build it again here: segc compile, or segc build for a bundle that was written with --defer"
_DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version of TensorRT",
    "UNSUPPORTED_CC": "this GPU's compute capability is not among those it was built for",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "the file is no engine, or a damaged one",
    "CUDA_ERROR": "CUDA does not work here",
}


def load(directory: Path, options: Mapping[str, Any], threads: int) -> Session:
    """A session on the first GPU. Raises CompileError: not built yet, another version or platform, no GPU."""
    if options.get("deferred"):
        raise CompileError(
            "the engine is not built yet", code=Code.ENGINE_PLATFORM, because="the bundle was written with --defer",
            so=f"on the machine with the GPU: segc build {directory}",
        )  # fmt: skip
    sidecar = json.loads((directory / SIDECAR).read_bytes())
    flavor = FLAVORS[sidecar["flavor"]]
    if sidecar["platform"] != platform_name():
        raise CompileError(
            "the engine is of another platform",
            code=Code.ENGINE_PLATFORM,
            because=f"it was built on {sidecar['platform']}, this is {platform_name()}",
            so=_REBUILD,
        )
    trt = [importlib.import_module(module) for module in flavor.modules][-1]
    if sidecar["version"] != trt.__version__:
        raise CompileError(
            "the engine is of another version of TensorRT",
            code=Code.ENGINE_PLATFORM,
            because=f"it was built by {flavor.name} {sidecar['version']}, installed is {trt.__version__}",
            so=[_REBUILD, f"or install the version it was built by: {flavor.install}"],
        )
    if why := why_no_gpu():
        raise CompileError(
            "a TensorRT engine runs on an NVIDIA GPU only",
            code=Code.ENGINE_PLATFORM,
            because=why,
            so="run the bundle on a machine with one",
        )
    return _GpuSession(trt, directory / ENGINE)


def platform_name() -> str:
    """Operating system and machine; engines run on the platform they were built on."""
    return f"{platform.system()} {platform.machine()}"


def _configure(runtime: Runtime, options: Mapping[str, str]) -> Runtime:
    """The package of the flavor: what is installed, or else the usual distribution; none for a deferred build."""
    if defers(options):
        return replace(runtime, package=None)
    flavor = chosen(options)
    name = distribution_of(flavor) or flavor.distributions[0]
    return replace(runtime, package=Package(flavor.modules[-1], name, extra=_EXTRAS[flavor.name]))


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of an engine its flavor and version; of a bundle whose build is deferred that it is, and the file to build from.

    The name of that file is known: a bundle cannot name another.
    """

    deferred: bool = field(default=False, metadata=OMITTABLE)
    flavor: str | None = field(default=None, metadata=OMITTABLE)
    version: str | None = field(default=None, metadata=OMITTABLE)
    onnx: Literal["model.onnx"] | None = field(default=None, metadata=OMITTABLE)


RUNTIME = Runtime(
    load, Package("tensorrt_rtx_bindings", "tensorrt-rtx-cu12-bindings", extra="tensorrt"), configure=_configure,
    options=Options,
)  # fmt: skip


class Log:
    """What TensorRT says of errors; it answers None where something failed and says why here."""

    def __init__(self, trt: Any) -> None:
        rows: list[str] = []

        class _Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= int(trt.ILogger.Severity.ERROR):
                    rows.append(message)

        self._rows, self.logger = rows, _Logger()

    def take(self) -> list[str]:
        """The last three rows since this was asked before."""
        found = self._rows[-3:]
        self._rows.clear()
        return found


@cache
def log_of(trt: Any) -> Log:
    """The log of this process: TensorRT ignores a second logger while anything made with the first lives."""
    return Log(trt)


def diagnosis(trt: Any, runtime: Any, plan: bytes) -> list[str]:
    """Why the runtime would not take the plan, in words; empty when it says nothing against it (RTX only)."""
    if not hasattr(runtime, "get_engine_validity"):
        return []
    validity, bits = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    if validity != trt.EngineValidity.INVALID:
        return []
    faults = trt.EngineInvalidityDiagnostics.__members__
    return [text for name, text in _DIAGNOSTICS.items() if int(bits) & int(faults[name])]


def runtime_of(trt: Any, log: Log) -> Any:
    """TensorRT's runtime. Raises CompileError where it does not start, which an old driver is the usual reason of."""
    try:
        return trt.Runtime(log.logger)
    except TypeError as error:  # what the bindings raise where the library gives none
        raise CompileError(
            "TensorRT does not start on this machine", code=Code.ENGINE_PLATFORM, because=log.take() or str(error),
            so="update the NVIDIA driver, or install the TensorRT made for it",
        ) from error  # fmt: skip


class _GpuSession:
    def __init__(self, trt: Any, path: Path) -> None:
        try:
            self._device = Device()
        except CudaError as error:
            raise CompileError(
                "the GPU cannot be used", code=Code.ENGINE_PLATFORM, because=str(error), so="check nvidia-smi"
            ) from error
        self._log = log_of(trt)
        self._log.take()
        self._runtime = runtime_of(trt, self._log)
        plan = path.read_bytes()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            because = [*diagnosis(trt, self._runtime, plan), *self._log.take()]
            raise CompileError(
                "TensorRT does not load the engine",
                code=Code.ENGINE_LOAD,
                because=because,
                where=path.name,
                so=_REBUILD,
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CompileError(
                "TensorRT cannot run the engine", code=Code.ENGINE_RUN, because=self._log.take(), where=path.name
            )
        names = [self._engine.get_tensor_name(at) for at in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._input = next(n for n in names if modes[n] == trt.TensorIOMode.INPUT)
        self._output = next(n for n in names if modes[n] == trt.TensorIOMode.OUTPUT)
        self._dtype = np.dtype(_DTYPES[self._engine.get_tensor_dtype(self._output).name])
        self._buffers = {self._input: Buffer(), self._output: Buffer()}

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), or uint8 images, contiguous. Returns the only output."""
        self._device.make_current()
        if not self._context.set_input_shape(self._input, x.shape):
            raise CompileError(
                f"the engine takes no input of shape {x.shape}", code=Code.ENGINE_RUN, because=self._log.take()
            )
        y = np.empty(tuple(self._context.get_tensor_shape(self._output)), self._dtype)
        for name, array in ((self._input, x), (self._output, y)):
            if not self._context.set_tensor_address(name, self._buffers[name].reserve(array.nbytes)):
                raise CompileError(
                    f"the engine takes no memory for '{name}'", code=Code.ENGINE_RUN, because=self._log.take()
                )
        self._device.upload(x, self._buffers[self._input])
        if not self._context.execute_async_v3(self._device.stream):
            raise CompileError("the engine does not run", code=Code.ENGINE_RUN, because=self._log.take())
        self._device.download(y, self._buffers[self._output])
        self._device.synchronize()
        return y
