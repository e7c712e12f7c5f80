"""The request of a compile, checked for contradictions and against its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from segc import ranges, targets
from segc.bundle.preprocessing import Gray, Normalize, Rerange
from segc.compilation import mask_placement
from segc.compilation.cache import CompileCache
from segc.errors import Code, ShapeError, UsageError
from segc.frontend import named
from segc.frontend.given import Given
from segc.frontend.model import ModelInfo, Notes, Source
from segc.frontend.source import open_source
from segc.hybrid.options import Partitioning


@dataclass(frozen=True)
class Request:
    """The parameters of a compile; `segc.compile` describes them."""

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
    channels: int | None = None
    skip_transforms: tuple[str, ...] = ()
    freeze_random: int | None = None
    allow_file_difference: bool = False
    given: Given = field(default_factory=Given)
    calibration: str | Path | None = None
    calibration_labels: str | Path | None = None
    max_drop: float | None = None
    state: str | Path | None = None


def require_sane(request: Request, target: targets.Target) -> None:
    """Check the request for contradictions and unknown values, before anything is opened. Raises UsageError."""
    if request.output not in (None, "logits", "mask"):
        raise UsageError(
            f"there is no output '{request.output}'",
            code=Code.UNKNOWN_CHOICE,
            because="an engine returns logits or a mask",
            so="--output logits or --output mask",
        )
    if request.decode not in (None, *mask_placement.PLACEMENTS):
        raise UsageError(
            f"there is no mask placement '{request.decode}'",
            code=Code.UNKNOWN_CHOICE,
            because="the graph or the host makes the mask, or, with auto, the faster of the two",
            so=" or ".join(f"--decode {name}" for name in mask_placement.PLACEMENTS),
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
            because="an engine takes normalized float32 or uint8 images",
            so="--input float32 or --input uint8",
        )
    if request.input == "uint8":
        _require_images(request, target)
    if request.mode not in (None, "whole", "slide"):
        raise UsageError(
            f"there is no mode '{request.mode}'",
            code=Code.UNKNOWN_CHOICE,
            because="images run whole or by a sliding window",
            so="--mode whole or --mode slide",
        )
    _require_calibration(request)
    if request.dynamic and request.shape is not None:
        raise UsageError(
            "--shape and --dynamic exclude each other", code=Code.CONFLICTING_OPTIONS, so="omit one of them"
        )
    if request.shape is not None and (len(request.shape) != 2 or min(request.shape) < 1):
        raise UsageError(
            f"shape {request.shape} is not (height, width) with at least 1 pixel each",
            code=Code.INVALID_SHAPE,
            so="give two positive numbers, for example shape=(512, 1024)",
        )
    ranges.THREADS.require("--threads", request.threads)
    if request.freeze_random is not None:
        ranges.SEED.require("--freeze-random", request.freeze_random)
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


def _require_calibration(request: Request) -> None:
    """Refuse int8 without images, images without int8, and int8 where no sizes are known. Raises UsageError."""
    _require_labels(request)
    if request.precision != "int8":
        if request.calibration is not None and request.calibration_labels is None:
            raise UsageError(
                f"--calibration and --precision {request.precision} exclude each other",
                code=Code.CONFLICTING_OPTIONS, because="only int8 is calibrated",
                so="add --precision int8, or --calibration-labels for judging by the images",
            )  # fmt: skip
        return
    if request.calibration is None:
        raise UsageError(
            "--precision int8 needs --calibration", code=Code.CONFLICTING_OPTIONS,
            because="the ranges of an int8 engine come from images", so="--calibration DIR, some dozens of images",
        )  # fmt: skip
    if request.dynamic:
        raise UsageError(
            "--precision int8 and --dynamic exclude each other", code=Code.CONFLICTING_OPTIONS,
            because="an int8 engine is calibrated and judged at one size", so="give --shape",
        )  # fmt: skip


def _require_labels(request: Request) -> None:
    """Refuse a limit without labels, labels without images or at no fixed size. Raises UsageError."""
    if request.max_drop is not None:
        ranges.POINTS.require("--max-drop", request.max_drop)
    for option, given, needs, there, why in (
        ("--max-drop", request.max_drop, "--calibration-labels", request.calibration_labels, "mIoU needs labels"),
        ("--calibration-labels", request.calibration_labels, "--calibration", request.calibration,
         "labels belong to images"),
    ):  # fmt: skip
        if given is not None and there is None:
            raise UsageError(
                f"{option} needs {needs}", code=Code.CONFLICTING_OPTIONS, because=why, so=f"add {needs} DIR"
            )
    if request.calibration_labels is not None and request.dynamic:
        raise UsageError(
            "--calibration-labels and --dynamic exclude each other", code=Code.CONFLICTING_OPTIONS,
            because="an engine is judged at one size", so="give --shape, and compare dynamic engines with `segc val`",
        )  # fmt: skip


def _require_images(request: Request, target: targets.Target) -> None:
    """Refuse requests that uint8 images exclude. Raises UsageError."""
    if not target.accepts_uint8:
        able = [name for name in targets.names() if targets.get(name).accepts_uint8]
        raise UsageError(
            f"{target.name} engines do not take uint8 images",
            code=Code.UNSUPPORTED_BY_TARGET,
            so=f"--target {' or '.join(able)}",
        )
    if request.dynamic:
        raise UsageError(
            "--input uint8 and --dynamic exclude each other",
            code=Code.CONFLICTING_OPTIONS,
            because="images of other sizes are padded after normalization, with a value that uint8 cannot represent",
            so="--shape HxW",
        )
    if request.check:
        raise UsageError(
            "--input uint8 and --check exclude each other",
            code=Code.CONFLICTING_OPTIONS,
            because="--check feeds float32 inputs",
            so="omit one of them",
        )


def open_shared(request: Request, cache: CompileCache) -> Source:
    """The source of a request, opened once for all compiles with this cache."""
    checkpoint, lax, mode, given = request.checkpoint, request.allow_mismatch, request.mode, request.given
    channels, skipped = request.channels, request.skip_transforms

    def opened() -> Source:
        return open_source(
            request.source, checkpoint=checkpoint, allow_mismatch=lax, mode=mode, channels=channels, skipped=skipped,
            given=given,
        )  # fmt: skip

    return cache.source((request.source, checkpoint, lax, mode, channels, skipped, given), opened)


def open_fitting(request: Request, cache: CompileCache, notes: Notes) -> Source:
    """Open the source, and check that it fits the request. Its `info` follows the request where that decides."""
    source = open_shared(request, cache)
    notes.add(*source.notes)
    _require_fitting(request, source.info)
    if source.info.mode == "slide":
        source = replace(source, info=_with_slide(request, source.info, notes))
    if request.input == "uint8" and (source.info.in_channels != 3 or source.info.mode == "slide"):
        slides = source.info.mode == "slide"
        raise UsageError(
            "--input uint8 is for whole images with three channels", code=Code.UNSUPPORTED_BY_MODEL,
            because="this model uses a sliding window" if slides else f"it takes {source.info.in_channels} channels",
            so="--mode whole" if slides else "omit --input uint8",
        )  # fmt: skip
    if request.input == "uint8" and not _sees_bytes(source.info):
        raise UsageError(
            "--input uint8 is for models that see images of 8 bits", code=Code.UNSUPPORTED_BY_MODEL,
            because="this model's own preprocessing makes numbers of them that bytes cannot hold",
            so="omit --input uint8",
        )  # fmt: skip
    return source


def _sees_bytes(info: ModelInfo) -> bool:
    """Whether images are of 8 bits up to normalization, which is by mean and std."""
    loader, wide = info.loader, (Normalize, Gray, Rerange)
    deep = loader is not None and (loader.float32 or loader.is_raw)
    return not deep and info.table is None and not any(isinstance(step, wide) for step in info.chain)


def with_output(request: Request, target: targets.Target, info: ModelInfo, notes: Notes) -> Request:
    """The request with its output: the requested one, or the target's default.

    A mask is the default only for mmseg models that run whole: other sources do not say that their output is classes.
    Masks of library models are made by segc's runtime where the request does not say: the libraries resize logits to
    the image, and a mask that the graph has made at the network's size can only be resized by nearest neighbour.
    """
    if request.output == "mask" and request.decode is None and info.kind in named.KINDS:
        notes.add(
            "segc's runtime makes the masks, of logits resized to the image; --decode graph puts them in the engine"
        )
        return replace(request, decode="host")
    if request.output is not None:
        return request
    if target.output == "logits" or info.kind != "mmseg" or info.mode == "slide":
        return replace(request, output="logits")
    notes.add(f"the {target.name} engine returns the mask, which is faster; --output logits returns logits")
    return replace(request, output=target.output)


def _with_slide(request: Request, info: ModelInfo, notes: Notes) -> ModelInfo:
    """`info` with the window that the request allows. Raises UsageError if --mode slide is given for a mask."""
    if request.output == "mask":
        if request.mode == "slide":
            raise UsageError(
                "--output mask and --mode slide exclude each other",
                code=Code.UNSUPPORTED_BY_MODEL,
                because="where windows overlap, their logits are averaged",
                so="--mode whole, or --output logits",
            )
        notes.add("the config uses a sliding window, which a mask engine cannot do: images run whole")
        return replace(info, mode="whole", slide_crop=None, slide_stride=None)
    crop, stride = info.slide_crop, info.slide_stride
    if request.shape is None or crop is None or stride is None or request.shape == crop:
        return info
    height, width = (max(1, s * side // c) for s, side, c in zip(stride, request.shape, crop, strict=True))
    notes.add(f"--shape replaces the sliding window {crop}, and its stride is scaled accordingly")
    return replace(info, slide_crop=request.shape, slide_stride=(height, width))


def _require_fitting(request: Request, info: ModelInfo) -> None:
    """Check the request's size against a size that an ONNX file fixes. Raises ShapeError."""
    wanted = request.shape or info.shape
    agrees = not request.dynamic and all(f in (None, w) for f, w in zip(info.fixed, wanted, strict=True))
    if info.fixed != (None, None) and not agrees:
        raise ShapeError(
            f"the input of '{info.name}' is fixed at {' x '.join(str(side or 'any') for side in info.fixed)}",
            code=Code.FIXED_SHAPE,
            because="--dynamic was given" if request.dynamic else f"--shape {wanted[0]}x{wanted[1]} was given",
            so="omit it, or export the file with free height and width",
        )
