"""Engines on a GPU: built there, compared with PyTorch there, and timed against it. Prints JSON. Exits 3 without a GPU.

    python measure.py FOLDER [MODEL …] [--wheels FOLDER] [--repeat 200] [--warmup 30] [--json FILE]

Self-contained: it needs Python, NumPy and torch, and TensorRT for RTX or TensorRT, installed or as wheels in the folder
given by --wheels (tensorrt_rtx_cu12_libs-*.whl and tensorrt_rtx_cu12_bindings-*.whl). FOLDER is what prepare.py wrote:
a folder for each model with model.pt2, input.npy, plain.onnx and further ONNX files, each of which becomes an engine.

Reference: the model in float32. TF32 is off, in PyTorch and in the engines. A row for each engine: seconds to build,
bytes, seconds to load (TensorRT for RTX compiles its kernels then, or in the first run) and of the first run, relative
logit error, share of equal pixels, the largest margin between the reference's two best classes at a differing pixel,
and milliseconds, median and 95th percentile, of the engine alone (GPU events) and end to end: image from the host to
the mask on the host. The same milliseconds for PyTorch, eager and torch.compile, in float32 and float16. What fails
costs its row.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NO_GPU = 3
WORKSPACE = 16 * 2**30  # as segc builds: the same ONNX file then gives the same bytes, see sha256
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


def tensorrt(wheels: Path | None) -> Any:
    """The module with TensorRT's API. wheels: unpacked beside themselves and imported from there."""
    if wheels is not None:
        site, part = wheels / "site", wheels / "site.part"
        if not site.is_dir():
            for wheel in sorted(wheels.glob("tensorrt*.whl")):
                zipfile.ZipFile(wheel).extractall(part)
            part.rename(site)
        sys.path.insert(0, str(site))
    missing = []
    for modules in (("tensorrt_rtx_libs", "tensorrt_rtx_bindings"), ("tensorrt",)):  # the libraries first
        try:
            return [importlib.import_module(name) for name in modules][-1]
        except ImportError as error:
            missing.append(str(error))
    raise SystemExit(f"no TensorRT: {'; '.join(missing)}; install it, or give its wheels with --wheels")


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


def build(trt: Any, log: Log, path: Path) -> bytes:
    """The engine of an ONNX file. Raises RuntimeError with TensorRT's words."""
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(path)) or not network.num_outputs:
        raise RuntimeError("; ".join(parser.get_error(at).desc() for at in range(parser.num_errors)) or "not parsed")
    network.name = "segc"
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("; ".join(log.rows[-3:]))
    return bytes(plan)


class Engine:
    """A loaded engine with its buffers on the GPU, as torch tensors."""

    def __init__(self, trt: Any, log: Log, plan: bytes, x: Any) -> None:
        import torch

        self.runtime = trt.Runtime(log.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise RuntimeError(f"not loaded: {validity(trt, self.runtime, plan)} {'; '.join(log.rows[-3:])}")
        self.context = self._context(trt)
        if self.context is None:
            raise RuntimeError(f"no context: {'; '.join(log.rows[-3:])}")
        self.stream = torch.cuda.Stream()
        kinds = {
            "FLOAT": torch.float32, "HALF": torch.float16, "UINT8": torch.uint8, "INT32": torch.int32,
            "INT64": torch.int64,
        }  # fmt: skip
        names = [self.engine.get_tensor_name(at) for at in range(self.engine.num_io_tensors)]
        inputs = [n for n in names if self.engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        output = next(n for n in names if n not in inputs)
        self.x = x.cuda().contiguous()
        if not self.context.set_input_shape(inputs[0], tuple(x.shape)):
            raise RuntimeError(f"the engine takes no {tuple(x.shape)}")
        kind = kinds[self.engine.get_tensor_dtype(output).name]
        self.y = torch.empty(tuple(self.context.get_tensor_shape(output)), dtype=kind, device="cuda")
        for name, tensor in ((inputs[0], self.x), (output, self.y)):
            if not self.context.set_tensor_address(name, tensor.data_ptr()):
                raise RuntimeError(f"no address for {name}: {'; '.join(log.rows[-3:])}")

    def _context(self, trt: Any) -> Any:
        """With a cache of compiled kernels and CUDA graphs, where the flavor has them."""
        if not hasattr(trt, "CudaGraphStrategy"):
            return self.engine.create_execution_context()
        config = self.engine.create_runtime_config()
        self.cache = config.create_runtime_cache()
        config.set_runtime_cache(self.cache)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self.engine.create_execution_context(config)

    def __call__(self) -> Any:
        """Run once in the own stream; the output stays on the GPU."""
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError("the engine does not run")
        return self.y


def validity(trt: Any, runtime: Any, plan: bytes) -> str:
    """What the runtime says of the plan's header: version, compute capability, driver (TensorRT for RTX only)."""
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    state, bits = runtime.get_engine_validity(plan[: runtime.engine_header_size])
    found = [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if int(bits) & int(flag)]
    return f"{state.name} {' '.join(found)}".strip()


def compared(reference: Any, y: Any) -> Row:
    """Parity with the reference logits (N, C, H, W), of logits or of a mask (N, H, W)."""
    import torch

    wanted = reference.argmax(1)
    row: Row = {}
    if y.ndim == 4:
        row["relative_error"] = float((y.float() - reference).abs().max() / reference.abs().max())
        y = y.argmax(1)
    different = wanted != y.to(wanted.dtype)
    row["agreement"] = 1 - float(different.float().mean())
    best = torch.topk(reference, 2, dim=1).values
    margins = (best[:, 0] - best[:, 1])[different]
    row["largest_margin"] = float(margins.max() / reference.abs().max()) if margins.numel() else 0.0
    return row


def percentiles(times: list[float]) -> Row:
    """Median and 95th percentile in milliseconds."""
    ordered = sorted(times)
    return {"p50_ms": ordered[len(ordered) // 2], "p95_ms": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]}


def timed(run: Callable[[], Any], stream: Any, warmup: int, repeat: int) -> Row:
    """Time on the GPU alone, by events in the stream that `run` uses."""
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


def end_to_end(run: Callable[[], Any], to: Any, x: Any, stream: Any, warmup: int, repeat: int) -> Row:
    """Wall time from the pinned image on the host to the mask on the host."""
    import torch

    image, times = x.pin_memory(), []
    for at in range(warmup + repeat):
        begin = time.perf_counter()
        with torch.cuda.stream(stream):
            to.copy_(image, non_blocking=True)
            y = run()
            mask = (y.argmax(1).to(torch.uint8) if y.ndim == 4 else y).to("cpu", non_blocking=True)
        stream.synchronize()
        if at >= warmup:
            times.append(1e3 * (time.perf_counter() - begin))
        del mask
    return {f"to_mask_{name}": value for name, value in percentiles(times).items()}


def engine_row(trt: Any, log: Log, path: Path, x: Any, reference: Any, warmup: int, repeat: int) -> Row:
    """All about one engine."""
    row: Row = {"what": path.stem}
    start = time.perf_counter()
    plan = build(trt, log, path)
    row |= {"build_s": time.perf_counter() - start, "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest()}
    start = time.perf_counter()
    engine = Engine(trt, log, plan, x)
    row["load_s"] = time.perf_counter() - start
    start = time.perf_counter()
    y = engine()
    engine.stream.synchronize()
    row["first_run_s"] = time.perf_counter() - start
    row |= compared(reference, y.clone())
    row |= timed(engine, engine.stream, warmup, repeat)
    return row | end_to_end(engine, engine.x, x, engine.stream, warmup, repeat)


def torch_rows(module: Any, x: Any, reference: Any, warmup: int, repeat: int) -> Iterator[Row]:
    """PyTorch, eager and compiled, in float32 and float16."""
    import torch

    stream = torch.cuda.current_stream()
    for precision, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
        for name, wrap in (("eager", lambda m: m), ("compile", torch.compile)):
            row: Row = {"what": f"torch-{name}-{precision}"}
            image = x.cuda().to(kind, memory_format=torch.channels_last)
            try:
                run = wrap(module.to(kind))
                with torch.no_grad():
                    row |= compared(reference, run(image))
                    row |= timed(lambda r=run, i=image: r(i), stream, warmup, repeat)  # type: ignore[misc]
                    again = lambda r=run, i=image: r(i)  # noqa: E731
                    row |= end_to_end(again, image, x.to(kind), stream, warmup, repeat)
            except Exception as error:  # one way of running PyTorch that fails costs its row only
                row["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
            yield row
    module.float()


def measure(folder: Path, trt: Any, log: Log, warmup: int, repeat: int) -> Row:
    """One model: PyTorch and every ONNX file."""
    import numpy as np
    import torch

    x = torch.from_numpy(np.load(folder / "input.npy"))
    module = torch.export.load(folder / "model.pt2").module().cuda()
    with torch.no_grad():
        reference = module(x.cuda()).float()
    rows = list(torch_rows(module, x, reference, warmup, repeat))
    for path in sorted(folder.glob("*.onnx")):
        try:
            rows.append(engine_row(trt, log, path, x, reference, warmup, repeat))
        except (RuntimeError, TypeError) as error:  # TypeError: what the bindings raise for an object they do not get
            rows.append({"what": path.stem, "failed": str(error)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"model": folder.name, "input": list(x.shape), "classes": int(reference.shape[1]), "rows": rows}


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("folder", type=Path, metavar="FOLDER")
    command.add_argument("models", nargs="*", metavar="MODEL", help="default: every folder in FOLDER")
    command.add_argument("--wheels", type=Path)
    command.add_argument("--repeat", type=int, default=200)
    command.add_argument("--warmup", type=int, default=30)
    command.add_argument("--json", type=Path)
    args = command.parse_args()
    if why := why_no_gpu():
        print(json.dumps({"error": why, "exit_code": NO_GPU}))
        return NO_GPU
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    trt = tensorrt(args.wheels)
    log = Log(trt)
    folders = [args.folder / name for name in args.models] or sorted(p.parent for p in args.folder.glob("*/model.pt2"))
    content = {
        "device": torch.cuda.get_device_name(0),
        "compute_capability": list(torch.cuda.get_device_capability(0)),
        "torch": torch.__version__,
        "tensorrt": f"{trt.__name__} {trt.__version__}",
        "models": [measure(folder, trt, log, args.warmup, args.repeat) for folder in folders],
    }
    text = json.dumps(content, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
