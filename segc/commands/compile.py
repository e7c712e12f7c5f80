"""`segc.compile`: compile a source into a verified bundle. The steps are public as `segc.steps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segc.bundle.manifest import Manifest
from segc.bundle.store import read_bundle
from segc.commands import auto_precision
from segc.compilation import steps
from segc.compilation.cache import CompileCache
from segc.compilation.command_line import naming_bisect
from segc.compilation.request import Request
from segc.compilation.setup import Progress, destination
from segc.frontend.given import Given
from segc.hybrid.options import Partitioning
from segc.suggestions import checked_keywords
from segc.targets.protocol import ShapeRange
from segc.traces.use import kept_traces


@dataclass(frozen=True)
class Bundle:
    """A published bundle: its path, manifest and report."""

    path: Path
    manifest: Manifest
    report: Mapping[str, Any]


def compile_request(
    request: Request, progress: Progress = lambda _: None, cache: CompileCache | None = None, *, keep: bool = False
) -> Bundle:
    """`compile` for a Request. Compiles that share a `cache` open, trace and run their source once.

    keep: use traces that are kept on disk, and keep this one.
    """
    if request.precision == auto_precision.PRECISION:
        shared = cache or CompileCache()
        out = destination(request)
        report = auto_precision.compile_fastest(
            request, out, lambda one: compile_request(one, progress, shared, keep=keep), progress
        )
        return Bundle(out.resolve(), read_bundle(out), report)
    setup = steps.set_up(request, steps.Journal(progress, cache))
    with naming_bisect(request), kept_traces(setup, keep), steps.guarded(setup), steps.staged(setup) as staging:
        opened = steps.open_source(setup)
        exported = steps.export(opened)
        steps.record(exported)
        loaded = steps.build_engine(exported, staging.directory)  # lower, plan, emit, load_engine
        del exported  # its weights
        verified = steps.verify(loaded)
        report = steps.publish(staging, loaded, verified)
    return Bundle(setup.out.resolve(), read_bundle(setup.out), report)


@checked_keywords
def compile(
    source: str | Path,
    *,
    target: str = "onnxruntime",
    shape: tuple[int, int] | None = None,
    dynamic: bool = False,
    trace_shape: tuple[int, int] | None = None,
    shape_range: ShapeRange | None = None,
    checkpoint: str | Path | None = None,
    allow_mismatch: bool = False,
    precision: str = "fp32",
    options: Mapping[str, str] | None = None,
    output: Literal["logits", "mask"] | None = None,
    decode: Literal["graph", "host", "auto"] | None = None,
    input: Literal["float32", "uint8"] = "float32",
    mode: Literal["whole", "slide"] | None = None,
    verify: bool = True,
    max_error: float | None = None,
    min_agreement: float | None = None,
    hybrid: bool = True,
    partitioning: Partitioning | None = None,
    out: str | Path | None = None,
    force: bool = False,
    keep_onnx: bool = False,
    dump_ir: str | Path | None = None,
    check: bool = False,
    simplify: bool = False,
    threads: int = 0,
    memory_limit: float | None = None,
    time_limit: float | None = None,
    channels: int | None = None,
    skip_transforms: Sequence[str] = (),
    freeze_random: int | None = None,
    allow_file_difference: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channel_order: Literal["RGB", "BGR"] | None = None,
    scale: float | None = None,
    classes: Sequence[str] | str | Path | None = None,
    palette: Sequence[tuple[int, int, int]] | str | Path | None = None,
    threshold: float | None = None,
    output_name: str | None = None,
    output_values: Literal["logits", "probabilities", "classes"] | None = None,
    dequantize: bool = False,
    trust_remote_code: bool = False,
    calibration: str | Path | None = None,
    calibration_labels: str | Path | None = None,
    max_drop: float | None = None,
    state: str | Path | None = None,
    cache: bool = False,
    progress: Progress = lambda _: None,
) -> Bundle:
    """Compile a source for a target, and publish the bundle after its engine was compared with PyTorch.

    source: an mmseg config path or zoo name, a Python file with `model` or `build_model()`, a .onnx or .pt2 file, or
    a model of another library: "hf:NAME_OR_FOLDER", "smp:ARCH/ENCODER", "torchvision:NAME".
    target: a name that `segc targets` lists. options: the target's own, e.g. {"flavor": "rtx"}.
    shape: fixed (height, width) in pixels, by default the config's crop size. dynamic: any batch, height and width
    instead, traced at `trace_shape`, by default the crop size. shape_range: sizes of a dynamic engine.
    checkpoint: path of a .pth file. allow_mismatch: load the keys that fit, and ignore the others.
    precision: "fp32", or "fp16", "bf16" or "int8" if the target offers it; "auto": the fastest of them that keeps the
    limits. calibration: folder of images for int8. calibration_labels: folder of their labels, to judge half of the
    images by mIoU. max_drop: points of mIoU that may be lost. state: file that remembers what trials of int8 measured.
    output: "logits" or "mask"; by default logits, except for mmseg models on targets where masks are faster.
    decode: where masks are made: in the "graph" (default), on the "host" by segc's runtime (default for models of other
    libraries), or "auto": measure both.
    input: "float32", normalized, or "uint8" images, which the engine normalizes.
    mode: "whole" or "slide"; by default the config's.
    verify: run the parity gate. max_error, min_agreement: limits other than the target's.
    hybrid: let ONNX Runtime run the nodes that the target refuses. partitioning: see docs/partitioning.md.
    out: the bundle's folder, by default NAME-TARGET in the current folder. force: replace an existing bundle.
    keep_onnx: store the final graph as final.onnx. dump_ir: folder for the graph after each pass that changed it.
    check: check graph and numbers after each pass. simplify: run onnxsim too.
    threads: of the runtime; 0 lets it choose. memory_limit (GiB): of a tensor, and of the child process
    in which libraries look at an ONNX source, default 3/4 of the machine's; time_limit: seconds of one look, default
    600. channels: of images, where the model does not say. skip_transforms: steps of the config's test pipeline that
    `segment` leaves out. freeze_random: a seed to draw the model's random numbers from, once. allow_file_difference:
    publish the bundle, with a note, though `segment` differs from the source's own way from a file to a mask.
    The others are for ONNX files and Python files, and precede what the file or its metadata says. An image's values
    become (value * scale - mean) / std, in channel_order. classes, palette: of all classes in order, or a file with
    one a line or JSON. threshold: of a head with one channel. output_name: of a model with several outputs.
    output_values: what it holds, where segc finds out something else. dequantize: compute a quantized ONNX file in
    float32. trust_remote_code: run the Python code in the folder of a transformers model.
    cache: use the trace of an earlier run where nothing that it was made from has changed, and keep this one; for
    processes that have not imported torch yet. progress: called with a sentence before each step.
    Raises SegcError; then nothing is published. docs/bundle.md describes the bundle.
    """
    request = Request(
        source, target=target, shape=shape, dynamic=dynamic, trace_shape=trace_shape, shape_range=shape_range,
        checkpoint=checkpoint, allow_mismatch=allow_mismatch, precision=precision, options=options or {},
        output=output, decode=decode, input=input, mode=mode, verify=verify, max_error=max_error,
        min_agreement=min_agreement, hybrid=hybrid, partitioning=partitioning or Partitioning(), out=out, force=force,
        keep_onnx=keep_onnx, dump_ir=dump_ir, check=check, simplify=simplify, threads=threads,
        memory_limit=memory_limit, time_limit=time_limit, channels=channels, skip_transforms=tuple(skip_transforms),
        freeze_random=freeze_random,
        allow_file_difference=allow_file_difference, calibration=calibration, calibration_labels=calibration_labels,
        max_drop=max_drop, state=state,
        given=Given.of(
            mean=mean, std=std, channel_order=channel_order, scale=scale, classes=classes, palette=palette,
            threshold=threshold, output_name=output_name, output_values=output_values,
            dequantize=dequantize, trust_remote_code=trust_remote_code,
        ),
    )  # fmt: skip
    return compile_request(request, progress, keep=cache)
