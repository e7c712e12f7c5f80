"""The GPU as measure.py uses it: engines of TensorRT, and PyTorch's time beside theirs.

Needs torch, NumPy and TensorRT for RTX (or TensorRT), installed or unpacked in a folder.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def why_no_gpu() -> str | None:
    """Why there is no GPU, as the driver says it, or None. Needs no package."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no GPU"
    return None


def tensorrt(site: Path | None) -> Any:
    """The module with TensorRT's API. site: a folder of unpacked wheels, looked into first."""
    if site is not None and site.is_dir():
        sys.path.insert(0, str(site))
    missing = []
    for modules in (("tensorrt_rtx_libs", "tensorrt_rtx_bindings"), ("tensorrt",)):  # the libraries first
        try:
            return [importlib.import_module(name) for name in modules][-1]
        except ImportError as error:
            missing.append(str(error))
    raise RuntimeError(f"no TensorRT: {'; '.join(missing)}")


class Log:
    """Errors of TensorRT; one logger for the whole process, as it wants."""

    def __init__(self, trt: Any) -> None:
        self.rows: list[str] = []
        rows = self.rows

        class _Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= int(trt.ILogger.Severity.ERROR):
                    rows.append(message)

        self.logger = _Logger()

    def last(self) -> str:
        return "; ".join(self.rows[-3:])


def validity(trt: Any, runtime: Any, plan: bytes) -> str:
    """What the runtime says of the plan's header: version, compute capability, driver (TensorRT for RTX only)."""
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    state, bits = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    found = [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if int(bits) & int(flag)]
    return f"{state.name} {' '.join(found)}".strip()


class Engine:
    """A loaded engine; its outputs are torch tensors on the GPU."""

    def __init__(self, trt: Any, log: Log, plan: bytes) -> None:
        import torch

        self.runtime, self._log = trt.Runtime(log.logger), log
        self.validity = validity(trt, self.runtime, plan)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise RuntimeError(f"not loaded: {self.validity} {log.last()}")
        self.context = self._context(trt)
        if self.context is None:
            raise RuntimeError(f"no context: {log.last()}")
        self.stream = torch.cuda.Stream()
        kinds = {
            "FLOAT": torch.float32, "HALF": torch.float16, "UINT8": torch.uint8, "INT32": torch.int32,
            "INT64": torch.int64, "BOOL": torch.bool, "INT8": torch.int8,
        }  # fmt: skip
        names = [self.engine.get_tensor_name(at) for at in range(self.engine.num_io_tensors)]
        self.inputs = [n for n in names if self.engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.outputs = [n for n in names if n not in self.inputs]
        self._kinds = {n: kinds[self.engine.get_tensor_dtype(n).name] for n in names}

    def _context(self, trt: Any) -> Any:
        """With a cache of compiled kernels and CUDA graphs, where the flavor has them."""
        if not hasattr(trt, "CudaGraphStrategy"):
            return self.engine.create_execution_context()
        config = self.engine.create_runtime_config()
        self.cache = config.create_runtime_cache()
        config.set_runtime_cache(self.cache)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self.engine.create_execution_context(config)

    def bind(self, feed: dict[str, Any]) -> dict[str, Any]:
        """Take these tensors as inputs; returns the tensors that hold the outputs of every later run."""
        import torch

        self.feed = {name: x.to("cuda", self._kinds[name]).contiguous() for name, x in feed.items()}
        for name, x in self.feed.items():
            if not self.context.set_input_shape(name, tuple(x.shape)):
                raise RuntimeError(f"the engine takes no {tuple(x.shape)}: {self._log.last()}")
        self.out = {
            name: torch.empty(tuple(self.context.get_tensor_shape(name)), dtype=self._kinds[name], device="cuda")
            for name in self.outputs
        }
        for name, tensor in (*self.feed.items(), *self.out.items()):
            if not self.context.set_tensor_address(name, tensor.data_ptr()):
                raise RuntimeError(f"no address for {name}: {self._log.last()}")
        torch.cuda.synchronize()
        return self.out

    def __call__(self) -> Any:
        """Run once in the own stream; the first output, which stays on the GPU."""
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError(f"the engine does not run: {self._log.last()}")
        return self.out[self.outputs[0]]


class Cuda:
    """The first GPU."""

    device = "cuda"

    def __init__(self, site: Path | None) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._trt = tensorrt(site)
        self._log = Log(self._trt)

    def described(self) -> Row:
        """The GPU's name and compute capability, and the versions."""
        import torch

        return {
            "gpu": torch.cuda.get_device_name(0),
            "compute_capability": list(torch.cuda.get_device_capability(0)),
            "torch": torch.__version__,
            "tensorrt": f"{self._trt.__name__.removesuffix('_bindings')} {self._trt.__version__}",
        }

    def load(self, plan: bytes) -> Any:
        """A loaded engine. Raises RuntimeError with TensorRT's words."""
        return Engine(self._trt, self._log, plan)

    def synchronize(self) -> None:
        """Wait for everything that runs on the GPU."""
        import torch

        torch.cuda.synchronize()

    def stream_of(self, engine: Any) -> Any:
        """The stream of an engine, or of PyTorch for None."""
        import torch

        return torch.cuda.current_stream() if engine is None else engine.stream

    def timed(self, run: Callable[[], Any], stream: Any, warmup: int, repeat: int) -> Row:
        """Milliseconds on the GPU alone, by events in the stream that `run` uses."""
        import torch

        times = []
        for at in range(warmup + repeat):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record(stream)
            run()
            end.record(stream)
            end.synchronize()
            if at >= warmup:
                times.append(begin.elapsed_time(end))
        return percentiles(times)

    def to_mask(self, run: Callable[[], Any], to: Any, x: Any, stream: Any, warmup: int, repeat: int) -> Row:
        """Milliseconds of the wall clock from the pinned image on the host to the mask on the host."""
        import torch

        image, times = x.to(to.dtype).pin_memory(), []
        for at in range(warmup + repeat):
            begin = time.perf_counter()
            with torch.cuda.stream(stream):
                to.copy_(image, non_blocking=True)
                mask = as_mask(run()).to("cpu", non_blocking=True)
            stream.synchronize()
            if at >= warmup:
                times.append(1e3 * (time.perf_counter() - begin))
            del mask
        return {f"to_mask_{name}": value for name, value in percentiles(times).items()}


def as_mask(y: Any) -> Any:
    """Logits (N, C, H, W) as a mask (N, H, W), one byte a pixel; a mask as it is."""
    import torch

    return y.argmax(1).to(torch.uint8) if y.ndim == 4 else y


def percentiles(times: list[float]) -> Row:
    """Median and 95th percentile in milliseconds."""
    ordered = sorted(times)
    return {"p50_ms": ordered[len(ordered) // 2], "p95_ms": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]}
