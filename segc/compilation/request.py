"""What `segc.compile` was asked for, checked for contradictions and against the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from segc import ranges, targets
from segc.compilation import mask_placement
from segc.compilation.cache import CompileCache
from segc.errors import Code, ShapeError, UsageError
from segc.frontend.model import ModelInfo, Notes, Source
from segc.frontend.source import open_source
from segc.hybrid.options import Partitioning


@dataclass(frozen=True)
class Request:
    """What `compile` was asked for; see there."""

    source: str | Path
    target: str = "onnxruntime"
    shape: tuple[int, int] | None = None
    dynamic: bool = False
    trace_shape: tuple[int, int] | None = None
    checkpoint: str | Path | None = None
    precision: str = "fp32"
    output: str | None = None
    decode: str | None = None
    input: str = "float32"
    mode: str | None = None
    verify: bool = True
    max_error: float | None = None
    min_agreement: float | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    shape_range: targets.ShapeRange | None = None
    out: str | Path | None = None
    force: bool = False
    keep_onnx: bool = False
    dump_ir: str | Path | None = None
    check: bool = False
    simplify: bool = False
    allow_mismatch: bool = False
    threads: int = 0
    memory_limit: float | None = None
    time_limit: float | None = None
    hybrid: bool = True
    partitioning: Partitioning = field(default_factory=Partitioning)


def require_sane(request: Request, target: targets.Target) -> None:
    """Refuse what contradicts itself, before anything is opened. Raises UsageError."""
    if request.output not in (None, "logits", "mask"):
        raise UsageError(
            f"there is no output '{request.output}'",
            code=Code.UNKNOWN_CHOICE,
            because="an engine gives 'logits' or 'mask'",
        )
    if request.decode not in (None, *mask_placement.PLACEMENTS):
        raise UsageError(
            f"there is no way '{request.decode}' to decode",
            code=Code.UNKNOWN_CHOICE,
            because=f"segc knows {mask_placement.PLACEMENTS}",
        )
    if request.decode is not None and request.output != "mask":
        raise UsageError(
            f"--decode {request.decode} needs --output mask",
            code=Code.CONFLICTING_OPTIONS,
            so="add it, or omit --decode",
        )
    if request.input not in ("float32", "uint8"):
        raise UsageError(
            f"there is no input '{request.input}'",
            code=Code.UNKNOWN_CHOICE,
            because="an engine takes 'float32' or 'uint8'",
        )
    if request.input == "uint8":
        _require_images(request, target)
    if request.mode not in (None, "whole", "slide"):
        raise UsageError(
            f"there is no mode '{request.mode}'",
            code=Code.UNKNOWN_CHOICE,
            because="images are run 'whole' or by a 'slide'",
        )
    if request.dynamic and request.shape is not None:
        raise UsageError(
            "--shape and --dynamic exclude each other", code=Code.CONFLICTING_OPTIONS, so="omit one of them"
        )
    if request.shape is not None and (len(request.shape) != 2 or min(request.shape) < 1):
        raise UsageError(
            f"shape {request.shape} is not (height, width) of at least 1 pixel each", code=Code.INVALID_SHAPE
        )
    ranges.THREADS.require("--threads", request.threads)
    if request.max_error is not None:
        ranges.LIMIT.require("--max-error", request.max_error)
    if request.min_agreement is not None:
        ranges.LIMIT.require("--min-agreement", request.min_agreement)
    if request.shape_range is not None and not request.dynamic:
        raise UsageError(
            "--shape-range needs --dynamic",
            code=Code.CONFLICTING_OPTIONS,
            because="a static engine has one size",
            so="add --dynamic",
        )


def _require_images(request: Request, target: targets.Target) -> None:
    """Refuse what uint8 images exclude."""
    if not target.accepts_uint8:
        able = [name for name in targets.names() if targets.get(name).accepts_uint8]
        raise UsageError(
            f"{target.name} engines take no uint8 images",
            code=Code.UNSUPPORTED_BY_TARGET,
            so=f"--target {' or '.join(able)}",
        )
    if request.dynamic:
        raise UsageError(
            "--input uint8 and --dynamic exclude each other",
            code=Code.CONFLICTING_OPTIONS,
            because="sizes in between are padded after normalisation, with a value that no uint8 stands for",
            so="--shape HxW",
        )
    if request.check:
        raise UsageError(
            "--input uint8 and --check exclude each other",
            code=Code.CONFLICTING_OPTIONS,
            because="--check feeds float32 inputs",
        )


def open_shared(request: Request, cache: CompileCache) -> Source:
    """The source of a request, opened once for all compiles with this cache."""
    return cache.source(
        (request.source, request.checkpoint, request.allow_mismatch, request.mode),
        lambda: open_source(
            request.source, checkpoint=request.checkpoint, allow_mismatch=request.allow_mismatch, mode=request.mode
        ),
    )


def open_fitting(request: Request, cache: CompileCache, notes: Notes) -> Source:
    """The source, which has to fit the request; its `info` follows the request where both may decide."""
    source = open_shared(request, cache)
    notes.add(*source.notes)
    _require_fitting(request, source.info)
    if source.info.mode == "slide":
        source = replace(source, info=_with_slide(request, source.info, notes))
    if request.input == "uint8" and (source.info.in_channels != 3 or source.info.mode == "slide"):
        slides = source.info.mode == "slide"
        raise UsageError(
            "--input uint8 is for whole images of three channels", code=Code.UNSUPPORTED_BY_MODEL,
            because="this model slides" if slides else f"this model takes {source.info.in_channels} channels",
            so="--mode whole" if slides else "omit --input",
        )  # fmt: skip
    return source


def with_output(request: Request, target: targets.Target, info: ModelInfo, notes: Notes) -> Request:
    """The request with an output: what was asked for, or the target's usual one.

    A mask is the usual one only of mmseg's models that run whole: of other sources nothing says that they give classes.
    """
    if request.output is not None:
        return request
    if target.output == "logits" or info.kind != "mmseg" or info.mode == "slide":
        return replace(request, output="logits")
    notes.add(f"{target.name} engines give the mask, which is faster; --output logits asks for logits")
    return replace(request, output=target.output)


def _with_slide(request: Request, info: ModelInfo, notes: Notes) -> ModelInfo:
    """A mask engine cannot slide; another shape replaces the window. Asked for by name, a conflict is an error."""
    if request.output == "mask":
        if request.mode == "slide":
            raise UsageError(
                "--output mask cannot slide",
                code=Code.UNSUPPORTED_BY_MODEL,
                because="overlapping windows average their logits",
                so="--mode whole",
            )
        notes.add("the config slides, but a mask engine cannot: images run whole")
        return replace(info, mode="whole", slide_crop=None, slide_stride=None)
    crop, stride = info.slide_crop, info.slide_stride
    if request.shape is None or crop is None or stride is None or request.shape == crop:
        return info
    height, width = (max(1, s * side // c) for s, side, c in zip(stride, request.shape, crop, strict=True))
    notes.add(f"--shape replaces the sliding window {crop}; its stride is scaled alike")
    return replace(info, slide_crop=request.shape, slide_stride=(height, width))


def _require_fitting(request: Request, info: ModelInfo) -> None:
    """A size that an ONNX file prescribes cannot be changed here."""
    wanted = request.shape or info.shape
    agrees = not request.dynamic and all(f in (None, w) for f, w in zip(info.fixed, wanted, strict=True))
    if info.fixed != (None, None) and not agrees:
        raise ShapeError(
            f"the input of '{info.name}' is fixed at {' x '.join(str(side or 'any') for side in info.fixed)}",
            code=Code.FIXED_SHAPE,
            because="--dynamic was given" if request.dynamic else f"--shape {wanted[0]}x{wanted[1]} was given",
            so="omit it, or export the file with free height and width",
        )
