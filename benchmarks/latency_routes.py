"""Ways from an image in memory to a mask in memory, for benchmarks/latency.py: how each is made, and how it is run.

Every route but segc's own takes the eager model with `argmax` behind it, as one would export it by hand, and normalises
the image in NumPy as segc's runtime does. A route that fails to build says why; that is a result too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]  # image uint8 (H, W, 3) BGR -> mask (H, W)
EXPORTED = ("plain.onnx", "onnxsim.onnx", "onnxslim.onnx")


@dataclass(frozen=True)
class Job:
    """One family at one size, and the folder for what is made of it."""

    family: str
    config: str
    shape: tuple[int, int] | None
    folder: Path
    threads: int


def source_of(job: Job) -> Any:
    from segc.frontend.source import open_source

    return open_source(job.config, mode="whole")


def shape_of(job: Job, info: Any) -> tuple[int, int]:
    return job.shape or info.shape


def normaliser(info: Any) -> Callable[[np.ndarray], np.ndarray]:
    from segc.manifest import Pad, Preprocessing
    from segc.runtime.preprocessing import normalize

    mean, std = (tuple(v if len(v) == 3 else v * 3) for v in (info.mean, info.std))
    how = Preprocessing(channel_order=info.channel_order, mean=mean, std=std, resize=None, pad=Pad())

    def normalised(image: np.ndarray) -> np.ndarray:
        x = np.empty((1, 3, *image.shape[:2]), np.float32)
        normalize(image, how, x[0])
        return x

    return normalised


def with_argmax(module: Any) -> Any:
    """The eager model that gives a mask."""
    import torch

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module

        def forward(self, x: Any) -> Any:
            y = self.net(x)
            return (y[:, 0] > 0).to(torch.uint8) if y.shape[1] == 1 else y.argmax(1).to(torch.uint8)

    return Masked().eval()


# ---- making: each in a process of its own, once


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


def make_segc(job: Job, target: str, image: str) -> None:
    import segc

    segc.compile(
        job.config, target=target, shape=job.shape, mode="whole", output="mask", decode="auto", input=image,
        threads=job.threads, out=job.folder / f"segc-{target}-{image}", force=True,
    )  # fmt: skip


# ---- running: each in a process of its own, which answers calls


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

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(job.folder / f"{file}.param"))
    net.load_model(str(job.folder / f"{file}.bin"))
    normalised, given, taken = normaliser(info), net.input_names()[0], net.output_names()[0]

    def run(image: np.ndarray) -> np.ndarray:
        extractor, x = net.create_extractor(), normalised(image)[0]
        extractor.input(given, ncnn.Mat(x))  # which looks at x, and does not keep it
        logits = np.array(extractor.extract(taken)[1])
        return (logits[0] > 0).astype(np.uint8) if len(logits) == 1 else logits.argmax(0).astype(np.uint8)

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
    """make: steps to take before, by name; run(job, info, what)."""

    make: tuple[str, ...]
    run: Callable[[Job, Any, str], Run]
    what: str


def _plain(run: Callable[[Job, Any, str], Run]) -> dict[str, Route]:
    return {
        "torch exporter": Route(("plain",), run, "plain.onnx"),
        "+ onnxsim": Route(("plain", "onnxsim"), run, "onnxsim.onnx"),
        "+ onnxslim": Route(("plain", "onnxslim"), run, "onnxslim.onnx"),
    }


def _segc(target: str, images: bool = True) -> dict[str, Route]:
    kinds = {"segc": "float32", **({"segc, uint8": "uint8"} if images else {})}
    return {name: Route((f"segc {target} {kind}",), segc_on, f"segc-{target}-{kind}") for name, kind in kinds.items()}


ROUTES: dict[str, dict[str, Route]] = {
    "onnxruntime": {**_segc("onnxruntime"), **_plain(onnxruntime_on)},
    "openvino": {
        **_segc("openvino"), **_plain(openvino_on),
        "own converter": Route(("openvino",), openvino_on, "own.xml"),
    },
    "ncnn": {**_segc("ncnn", images=False), "pnnx": Route(("pnnx",), ncnn_on, "pnnx.ncnn")},
    "torch": {"eager": Route((), torch_on, "eager"), "compile": Route((), torch_on, "compile")},
}  # fmt: skip


def make(job: Job, step: str) -> None:
    """Take one step here."""
    name, *rest = step.split()
    makers: dict[str, Callable[..., None]] = {
        "plain": make_plain, "onnxsim": make_onnxsim, "onnxslim": make_onnxslim, "pnnx": make_pnnx,
        "openvino": make_openvino, "segc": make_segc,
    }  # fmt: skip
    makers[name](job, *rest)


def made(job: Job, step: str, limit: float) -> str | None:
    """Take one step in a process of its own, once: a marker file remembers. Returns why it failed, or None."""
    marker = job.folder / f"{step.replace(' ', '-')}.done"
    if marker.is_file():
        return marker.read_text() or None
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + (
        "from pathlib import Path; from latency_routes import Job, make\n"
        f"make(Job({job.family!r}, {job.config!r}, {job.shape!r}, Path({str(job.folder)!r}), {job.threads}), {step!r})"
    )
    try:
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=limit)
        lines = said.stderr.strip().splitlines() or ["no message"]
        why = "" if said.returncode == 0 else f"exit code {said.returncode}: {lines[-1][:300]}"
    except subprocess.TimeoutExpired:
        why = f"not done after {limit:.0f} s"
    marker.write_text(why)
    return why or None
