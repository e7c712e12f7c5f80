"""A request as a command line: what an error names, complete, for the next step."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segc.compilation.request import Request
from segc.errors import Code, SegcError
from segc.targets.flags import FLAGS
from segc.targets.option import typed

# fields whose option is of another name or form; those of `Given` are fields of it
_SWITCHES = {"dynamic": "--dynamic", "allow_mismatch": "--allow-mismatch", "simplify": "--simplify"}
_SIZES = {"shape": "--shape", "trace_shape": "--trace-shape"}
_VALUES = {
    "target": "--target", "precision": "--precision", "output": "--output", "decode": "--decode", "input": "--input",
    "mode": "--mode", "max_error": "--max-error", "min_agreement": "--min-agreement", "checkpoint": "--checkpoint",
    "threads": "--threads", "memory_limit": "--memory-limit", "time_limit": "--time-limit", "channels": "--channels",
    "freeze_random": "--freeze-random",
    "calibration": "--calibration", "calibration_labels": "--calibration-labels", "max_drop": "--max-drop",
    "state": "--state",
}  # fmt: skip
# a bisection writes no bundle, publishes nothing, and always runs the source itself
LEFT_OUT = ("verify", "out", "force", "keep_onnx", "dump_ir", "check", "allow_file_difference", "cache")


# what `segc bisect` finds the reason of
_EXPLAINED = (
    Code.PARITY_GATE, Code.OUTPUT_SHAPE, Code.REFUSED_BY_BUILDER, Code.EMISSION, Code.ENGINE_LOAD, Code.ENGINE_RUN,
    Code.ENGINE_PROCESS, Code.PASS_FAULT, Code.NUMBERS_DIFFER,
)  # fmt: skip


@contextmanager
def naming_bisect(request: Request) -> Iterator[None]:
    """In the block, an error of the engine or the numbers says first what to type to find the reason."""
    try:
        yield
    except SegcError as error:
        if error.code in _EXPLAINED:
            found = f"{bisect(request)} finds the pass, the nodes, or the part that the runtime is wrong on"
            error.details["so"].insert(0, found)
        raise


def bisect(request: Request) -> str:
    """`segc bisect` with the source and the options of a request."""
    return shlex.join(["segc", "bisect", str(request.source), *_words(request)])


def _words(request: Request) -> Iterator[str]:
    plain = {f.name: f.default for f in dataclasses.fields(Request) if f.default is not dataclasses.MISSING}
    yield from ("--target", request.target)
    for name, option in _VALUES.items():
        if name != "target" and (value := getattr(request, name)) != plain[name]:
            yield from (option, str(value))
    for name, option in _SIZES.items():
        if (size := getattr(request, name)) is not None:
            yield from (option, _size(size))
    yield from (option for name, option in _SWITCHES.items() if getattr(request, name))
    if (sizes := request.shape_range) is not None:
        yield from ("--shape-range", ":".join(_size(each) for each in (sizes.least, sizes.best, sizes.most)))
    if not request.hybrid:
        yield "--no-hybrid"
    if request.partitioning.min_nodes != type(request.partitioning)().min_nodes:
        yield from ("--min-segment", str(request.partitioning.min_nodes))
    for name in request.skip_transforms:
        yield from ("--skip-transform", name)
    for name, value in request.options.items():
        yield from _option(name, value)
    yield from _given(request)


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _option(name: str, value: str) -> list[str]:
    """An option of a target, as its flag where it has one."""
    known = {option.name: option for _, option in FLAGS}
    if name in known and known[name].is_switch:
        return [f"--{name}"] if value == "yes" else []
    return (known[name].typed(value) if name in known else typed(name, value)).split(" ", 1)


def _given(request: Request) -> Iterator[str]:
    """What the user said about an ONNX or a Python source; names and colours of classes change no number."""
    for field in dataclasses.fields(request.given):
        option, value = f"--{field.name.replace('_', '-')}", getattr(request.given, field.name)
        if field.name in ("classes", "palette") or value in (None, False):
            continue
        yield option if value is True else f"{option}={_text(value)}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
