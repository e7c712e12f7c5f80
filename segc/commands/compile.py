"""`segc.compile`: source in, verified bundle out. The steps are in segc/compilation, and public as `segc.steps`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segc.bundle.manifest import Manifest
from segc.bundle.store import read_bundle
from segc.compilation import steps
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request
from segc.compilation.setup import Progress
from segc.hybrid.options import Partitioning
from segc.suggestions import checked_keywords
from segc.targets.protocol import ShapeRange


@dataclass(frozen=True)
class Bundle:
    """A published bundle: where it lies, its manifest and its report."""

    path: Path
    manifest: Manifest
    report: Mapping[str, Any]


def compile_request(
    request: Request, progress: Progress = lambda _: None, cache: CompileCache | None = None
) -> Bundle:  # fmt: skip
    """`compile` for a Request; compiles of one source that are given one `cache` open, trace and run it once."""
    setup = steps.set_up(request, steps.Journal(progress, cache))
    with steps.guarded(setup), steps.staged(setup) as staging:
        opened = steps.open_source(setup)
        exported = steps.export(opened)
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
    progress: Progress = lambda _: None,
) -> Bundle:
    """Compile SOURCE for a target and publish a bundle that was loaded, run and compared with PyTorch.

    source: an mmseg config path or zoo name, a Python file with `model` or `build_model()`, or an .onnx file.
    target: a name that `segc targets` lists. options: the target's own, e.g. {"flavor": "rtx"}.
    shape: (height, width) in pixels, default the config's crop size. dynamic: any batch, height and width instead,
    traced at `trace_shape`, default the config's crop size. shape_range: of a dynamic engine.
    checkpoint: path of a .pth file. allow_mismatch: load what fits of it.
    precision: "fp32", or "fp16" where the target has it.
    output: "logits" or "mask", by default logits, but a mask of mmseg's models where the target makes that faster.
    decode: of a mask, made in the "graph" (default), on the "host" by segc's runtime, or "auto", what is faster here.
    input: "float32", normalised, or "uint8": images, which the engine normalises.
    mode: "whole" or "slide", default the config's.
    verify: run the parity gate. max_error, min_agreement: limits other than the target's.
    hybrid: give ONNX Runtime what the target refuses. partitioning: which parts are worth it, docs/partitioning.md.
    out: the bundle's folder, default NAME-TARGET here. force: replace a bundle there.
    keep_onnx: keep the final graph as final.onnx. dump_ir: a folder for the graph after every pass that changed it.
    check: check graph and numbers after every pass. simplify: run onnxsim too.
    threads: of the runtime, 0 leaves the number to it. memory_limit (GiB): of a tensor, and of the child process
    in which libraries look at an ONNX source, default 3/4 of the machine's; time_limit: seconds of one look, default
    600. progress: called with a sentence before each step.
    Raises SegcError; nothing is published then. Source: docs/bundle.md says what lies in the bundle.
    """
    request = Request(
        source, target=target, shape=shape, dynamic=dynamic, trace_shape=trace_shape, shape_range=shape_range,
        checkpoint=checkpoint, allow_mismatch=allow_mismatch, precision=precision, options=options or {},
        output=output, decode=decode, input=input, mode=mode, verify=verify, max_error=max_error,
        min_agreement=min_agreement, hybrid=hybrid, partitioning=partitioning or Partitioning(), out=out, force=force,
        keep_onnx=keep_onnx, dump_ir=dump_ir, check=check, simplify=simplify, threads=threads,
        memory_limit=memory_limit, time_limit=time_limit,
    )  # fmt: skip
    return compile_request(request, progress)
