"""Routes from an image in memory to a mask in memory, for benchmarks/latency.py: how each is built and run.

All routes except segc's start from the eager model followed by `argmax`, as one would export it by hand, and normalize
the image with segc's NumPy code. A route that cannot be built reports the reason, which is a result too.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]  # image uint8 (H, W, 3) BGR -> mask (H, W)
INPUTS = {"onnxruntime": ("float32", "uint8"), "openvino": ("float32", "uint8"), "ncnn": ("float32",)}


@dataclass(frozen=True)
class Job:
    """One family at one size, and the folder for its files."""

    family: str
    config: str
    shape: tuple[int, int] | None
    folder: Path
    threads: int
    targets: tuple[str, ...]  # targets that segc compiles for
    memory_gb: float  # limit for one process


def bound_memory(gigabytes: float) -> None:
    """Limit the memory that this process may allocate (Linux)."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)


def source_of(job: Job) -> Any:
    from segc.frontend.source import open_source

    return open_source(job.config, mode="whole")


def info_of(job: Job) -> Any:
    """The saved ModelInfo, so that most routes need no PyTorch."""
    with (job.folder / "info.pickle").open("rb") as file:
        return pickle.load(file)


def shape_of(job: Job, info: Any) -> tuple[int, int]:
    return job.shape or info.shape


def normaliser(info: Any) -> Callable[[np.ndarray], np.ndarray]:
    from segc.bundle.preprocessing import Pad, Preprocessing
    from segc.runtime.preprocessing import normalize

    mean, std = (tuple(v if len(v) == 3 else v * 3) for v in (info.mean, info.std))
    how = Preprocessing(channel_order=info.channel_order, mean=mean, std=std, resize=None, pad=Pad())

    def normalised(image: np.ndarray) -> np.ndarray:
        x = np.empty((1, 3, *image.shape[:2]), np.float32)
        normalize(image, how, x[0])
        return x

    return normalised


def with_argmax(module: Any) -> Any:
    """The eager model followed by argmax."""
    import torch

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module

        def forward(self, x: Any) -> Any:
            y = self.net(x)
            return (y[:, 0] > 0).to(torch.uint8) if y.shape[1] == 1 else y.argmax(1).to(torch.uint8)

    return Masked().eval()


# ---- build steps: each runs once, in a process of its own


def make_info(job: Job) -> None:
    with (job.folder / "info.pickle").open("wb") as file:
        pickle.dump(source_of(job).info, file)


def make_plain(job: Job) -> None:
    import torch

    source = source_of(job)
    x = torch.zeros(1, 3, *shape_of(job, source.info))
    torch.onnx.export(
        with_argmax(source.module), (x,), str(job.folder / "plain.onnx"), dynamo=True, opset_version=20,
        external_data=False,
    )  # fmt: skip


def make_onnxsim(job: Job) -> None:
    import onnx
    import onnxsim

    onnx.save(onnxsim.simplify(onnx.load(job.folder / "plain.onnx"))[0], job.folder / "onnxsim.onnx")


def make_onnxslim(job: Job) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(job.folder / "plain.onnx")), job.folder / "onnxslim.onnx")


def make_pnnx(job: Job) -> None:
    import pnnx
    import torch

    source = source_of(job)
    x = torch.zeros(1, 3, *shape_of(job, source.info))
    pnnx.export(source.module, str(job.folder / "pnnx.pt"), (x,), fp16=False)
    if not (job.folder / "pnnx.ncnn.param").is_file():
        raise RuntimeError("pnnx wrote no ncnn.param")


def make_openvino(job: Job) -> None:
    import openvino
    import torch

    source = source_of(job)
    x = torch.zeros(1, 3, *shape_of(job, source.info))
    converted = openvino.convert_model(with_argmax(source.module), example_input=x, input=[tuple(x.shape)])
    openvino.save_model(converted, job.folder / "own.xml", compress_to_fp16=False)


def make_segc(job: Job) -> None:
    """Compile all bundles; the reason of a failure is written beside the bundle. Masks are verified before timing."""
    from segc.commands.compile import compile_request
    from segc.compilation.cache import CompileCache
    from segc.compilation.request import Request
    from segc.errors import SegcError

    cache = CompileCache()
    for target, image in [(t, i) for t in job.targets for i in INPUTS[t]]:
        place = job.folder / f"segc-{target}-{image}"
        request = Request(
            job.config, target=target, shape=job.shape, mode="whole", output="mask", decode="auto", input=image,
            threads=job.threads, verify=False, out=place,
        )  # fmt: skip
        try:
            compile_request(request, cache=cache)
        except SegcError as error:
            place.with_suffix(".failed").write_text(str(error).splitlines()[0])


def not_made(job: Job, what: str) -> str | None:
    """Why a step that writes several files did not write this one; None if it did."""
    path = (job.folder / what).with_suffix(".failed")
    return path.read_text() if path.is_file() else None


# ---- runs: each in a process of its own, which answers calls


def onnxruntime_on(job: Job, info: Any, file: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(str(job.folder / file), options, providers=["CPUExecutionProvider"])
    name, normalised = session.get_inputs()[0].name, normaliser(info)
    return lambda image: np.asarray(session.run(None, {name: normalised(image)})[0][0])


def openvino_on(job: Job, info: Any, file: str) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": job.threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(job.folder / file), "CPU", settings)
    request, normalised = compiled.create_infer_request(), normaliser(info)
    return lambda image: np.array(request.infer([normalised(image)], share_inputs=True, share_outputs=True)[0][0])


def ncnn_on(job: Job, info: Any, file: str) -> Run:
    import ncnn

    from segc.runtime.resize import argmax_into

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(job.folder / f"{file}.param"))
    net.load_model(str(job.folder / f"{file}.bin"))
    normalised, given, taken = normaliser(info), net.input_names()[0], net.output_names()[0]

    def run(image: np.ndarray) -> np.ndarray:
        extractor, x = net.create_extractor(), normalised(image)[0]
        extractor.input(given, ncnn.Mat(x))  # a view of x, not a copy
        logits = np.array(extractor.extract(taken)[1])
        if len(logits) == 1:
            return (logits[0] > 0).astype(np.uint8)
        mask = np.zeros(logits.shape[1:], np.uint8)
        argmax_into(mask, logits)  # ten times as fast as NumPy's argmax over the first axis
        return mask

    return run


def torch_on(job: Job, _: Any, mode: str) -> Run:
    import torch

    torch.set_num_threads(job.threads)
    source = source_of(job)
    module, normalised = with_argmax(source.module), normaliser(source.info)
    model = torch.compile(module) if mode == "compile" else module

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            mask: np.ndarray = model(torch.from_numpy(normalised(image)))[0].numpy()
        return mask

    return run


def segc_on(job: Job, info: Any, bundle: str) -> Run:
    import segc

    engine, normalised = segc.load(job.folder / bundle, threads=job.threads), normaliser(info)
    if engine.manifest.input.dtype == "uint8":
        return lambda image: engine.run(image[None])["mask"][0]
    return lambda image: engine.run(normalised(image))["mask"][0]


@dataclass(frozen=True)
class Route:
    """make: names of the build steps that the route needs. run(job, info, what): loads it."""

    make: tuple[str, ...]
    run: Callable[[Job, Any, str], Run]
    what: str


def _plain(run: Callable[[Job, Any, str], Run]) -> dict[str, Route]:
    return {
        "torch exporter": Route(("plain",), run, "plain.onnx"),
        "+ onnxsim": Route(("plain", "onnxsim"), run, "onnxsim.onnx"),
        "+ onnxslim": Route(("plain", "onnxslim"), run, "onnxslim.onnx"),
    }


def _segc(target: str) -> dict[str, Route]:
    names = {"float32": "segc", "uint8": "segc, uint8"}
    return {names[kind]: Route(("segc",), segc_on, f"segc-{target}-{kind}") for kind in INPUTS[target]}


ROUTES: dict[str, dict[str, Route]] = {
    "onnxruntime": {**_segc("onnxruntime"), **_plain(onnxruntime_on)},
    "openvino": {
        **_segc("openvino"), **_plain(openvino_on),
        "own converter": Route(("openvino",), openvino_on, "own.xml"),
    },
    "ncnn": {**_segc("ncnn"), "pnnx": Route(("pnnx",), ncnn_on, "pnnx.ncnn")},
    "torch": {"eager": Route((), torch_on, "eager"), "compile": Route((), torch_on, "compile")},
}  # fmt: skip


MAKERS: dict[str, Callable[[Job], None]] = {
    "info": make_info, "plain": make_plain, "onnxsim": make_onnxsim, "onnxslim": make_onnxslim, "pnnx": make_pnnx,
    "openvino": make_openvino, "segc": make_segc,
}  # fmt: skip


def made(job: Job, step: str, limit: float) -> str | None:
    """Run one build step, once, in a process of its own; a marker file records it. Returns why it failed, or None."""
    marker = job.folder / f"{step}.done"
    if marker.is_file():
        return marker.read_text() or None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(job, step, sender))  # not a daemon: some steps start processes
    process.start()
    sender.close()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        why = f"not finished within {limit:.0f} s"
    else:
        why = _message(receiver) if process.exitcode == 0 else f"the process died, exit code {process.exitcode}"
    why = why.replace(f"{job.folder}{os.sep}", "")
    marker.write_text(why)
    return why or None


def _make(job: Job, step: str, sender: Connection) -> None:
    """In the process: run the step, and send the reason of a failure."""
    bound_memory(job.memory_gb)
    with (job.folder / f"{step}.log").open("w") as log:  # converters print a lot, some of them from C++
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        MAKERS[step](job)
        sender.send("")
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")


def _message(receiver: Connection) -> str:
    try:
        return str(receiver.recv())
    except EOFError:
        return "ended without a message"
