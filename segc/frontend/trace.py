"""Tracing: `torch.export` to ONNX, with static or dynamic batch, height and width."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import NoReturn

import onnx
import torch
from torch import nn

from segc.errors import Code, CompileError, ShapeError, SourceError
from segc.frontend.quiet import quiet
from segc.frontend.rewrites import table
from segc.frontend.torch_tail import NotLogitsError
from segc.frontend.traced import Traced

_log = logging.getLogger(__name__)

INPUT, OUTPUT = "input", "logits"
ONE_BY_ONE = "the model's batch cannot be dynamic: the engine takes one image, and larger batches run in parts"

Shape = tuple[int, int, int, int]


def trace(module: nn.Module, shape: Shape, *, opset: int, dynamic: bool = False) -> Traced:
    """Trace `module` (eval mode, logits out) at `shape` (N, C, H, W).

    dynamic: batch, height and width become symbols, and the sizes near `shape` that are traced divide by no stride:
    so the model's branches for remainders are part of the trace, and do nothing where there is none. Where the batch
    alone cannot be a symbol it stays 1, and a note says so. Raises ShapeError when the model itself rejects the shape,
    SourceError when it gives no logits, and CompileError with the model's source line when tracing fails.
    """
    module.eval()
    if not dynamic:
        return _traced(module, shape, None, opset)
    uneven = _uneven(module, shape)
    if uneven == shape:
        _require_other_sizes(module, shape)
    try:
        return _traced(module, (2, *uneven[1:]), (0, 2, 3), opset)  # a batch of 1 would be traced as a constant
    except (CompileError, ShapeError) as error:  # or the model itself takes one image at a time
        _log.info("the batch cannot be dynamic; tracing again with a batch of 1")
        try:
            traced = _traced(module, (1, *uneven[1:]), (2, 3), opset)
        except (CompileError, ShapeError):
            raise error from error.__cause__
    return replace(traced, notes=(*traced.notes, ONE_BY_ONE))


def _traced(module: nn.Module, shape: Shape, axes: tuple[int, ...] | None, opset: int) -> Traced:
    """One attempt, with symbols for `axes`."""
    example = torch.zeros(shape)
    dims = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC),) if axes else None
    try:
        with quiet(), torch.no_grad(), table.applied(dynamic=axes is not None) as applied:
            program = torch.onnx.export(
                module, (example,), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=dims, verbose=False, external_data=False,
            )  # fmt: skip
            if program is None:
                raise RuntimeError("the exporter returned nothing")
            model = program.model_proto
    except Exception as error:  # whatever user code and the exporter raise becomes one message
        _raise(module, example, axes, applied.refused, error)
    if axes:
        _name_dynamic_dims(model)
    _log.debug("traced at %s, rewrites: %s", "x".join(map(str, shape)), ", ".join(applied.fired) or "none")
    return Traced(model, tuple(applied.fired), tuple(applied.refused))


def _uneven(module: nn.Module, shape: Shape) -> Shape:
    """Sides near those of `shape` that leave a remainder in every division by more than the model's own divisor.

    A side of 64 k + d, with d the least power of two the model accepts, is an odd multiple of d, and divided by any
    stride up to 64 and rounded up it is odd again.
    """
    batch, channels, height, width = shape
    for step in (1, 2, 4, 8, 16, 32) if accepts(module, shape) is None else ():
        high, wide = (max(64, side // 64 * 64) + step for side in (height, width))
        sides = (high, wide + 64 if wide == high else wide)  # equal sides could become one symbol
        if accepts(module, (batch, channels, *sides)) is None:
            return (batch, channels, *sides)
    return shape


def _require_other_sizes(module: nn.Module, shape: Shape) -> None:
    """Refuse a model that runs at one size only, such as a transformer with an embedding for each place.

    Refuse too one that takes squares only, because it takes the root of the number of places for both sides.
    """
    batch, channels, height, width = shape
    if accepts(module, shape) is not None:
        return
    others = [accepts(module, (batch, channels, height + more, width + more)) for more in (64, 128)]
    if None not in others:
        raise ShapeError(
            f"the model runs at {height}x{width} only", code=Code.FIXED_SHAPE,
            because=f"at {height + 64}x{width + 64}: {others[0]}", so=f"compile with --shape {height}x{width}",
        )  # fmt: skip
    more = ((0, 64), (64, 0), (128, 64))
    oblong = [accepts(module, (batch, channels, height + high, width + wide)) for high, wide in more]
    if height == width and None not in oblong:
        raise ShapeError(
            "the model takes squares only", code=Code.FIXED_SHAPE, because=f"at {height}x{width + 64}: {oblong[0]}",
            so=f"compile with --shape {height}x{width}",
        )  # fmt: skip


def _name_dynamic_dims(model: onnx.ModelProto) -> None:
    """Call the input's dynamic dimensions N, H and W: the exporter's names say nothing."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    new = {dims[at].dim_param: name for at, name in ((0, "N"), (2, "H"), (3, "W")) if dims[at].dim_param}
    for info in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in new:
                dim.dim_param = new[dim.dim_param]


def accepts(module: nn.Module, shape: tuple[int, int, int, int]) -> str | None:
    """None when eager PyTorch runs `module` at `shape`, otherwise what it says.

    Tensors carry no data, which is cheap, unless the module reads values where no rewrite replaces that.
    """
    try:
        made_of(module, shape)
    except Exception as error:  # user code may raise anything
        return f"{type(error).__name__}: {_short(error)}"
    return None


def made_of(module: nn.Module, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """What eager PyTorch's `module` gives at `shape`, if possible without data. Raises what the module raises."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

    made: torch.Tensor
    with quiet(), torch.no_grad():
        try:
            with FakeTensorMode(allow_non_fake_inputs=True), table.applied():
                made = module(torch.zeros(shape))
        except (DataDependentOutputException, DynamicOutputShapeException):
            made = module(torch.zeros(shape))
    return made


def dynamic_limits(module: nn.Module, channels: int) -> tuple[int, tuple[int, int]]:
    """Divisor of height and width that the eager model asks for (1, 2, 4, … 64), and the least (height, width)."""
    steps = (1, 2, 4, 8, 16, 32, 64)
    divisor = next((s for s in steps if accepts(module, (1, channels, 128 + s, 256 + 3 * s)) is None), 64)
    least = next((s for s in (*steps, 128) if s >= divisor and accepts(module, (1, channels, s, s)) is None), 128)
    least = max(least, 2 * divisor, 16)  # torch.export assumes that no dynamic size is 0 or 1 anywhere in the model
    return divisor, (least, least)


def _raise(
    module: nn.Module, example: torch.Tensor, axes: tuple[int, ...] | None, refused: Sequence[str], error: Exception
) -> NoReturn:
    height, width = (int(s) for s in example.shape[2:])
    eager = _eager_failure(module, example)
    if isinstance(eager, NotLogitsError):
        raise SourceError(
            "the model gives no logits",
            code=Code.NOT_SEGMENTATION,
            because=str(eager),
            so="return logits, or a dictionary with them under 'out'",
        ) from error
    if eager is not None:
        near = " and ".join(f"{h}x{w}" for h, w in _accepted_near(module, tuple(example.shape)))  # type: ignore[arg-type]
        raise ShapeError(
            f"the PyTorch model does not run at {height}x{width}",
            code=Code.MODEL_SHAPE,
            because=f"{type(eager).__name__}: {_short(eager)}",
            where=_user_line(eager),
            so=f"it accepts {near}" if near else "try a larger shape, for example the config's crop size",
        ) from error
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    what = "" if not axes else " with dynamic batch and size" if 0 in axes else " with dynamic size"
    raise CompileError(
        f"tracing with torch.export failed at {height}x{width}{what}",
        code=Code.EXPORT,
        because=[f"{type(cause).__name__}: {_short(cause)}", *refused],
        where=_user_line(cause) or _user_line(error),
        tried="eager PyTorch runs the model at this shape",
        so="compile with a fixed --shape instead of --dynamic"
        if axes
        else "make the line above traceable by torch.export",
    ) from error


def _eager_failure(module: nn.Module, example: torch.Tensor) -> Exception | None:
    """What plain PyTorch says to real data: without data, values that decide about the flow look like failures."""
    try:
        with quiet(), torch.no_grad():
            module(example)
    except Exception as error:  # user code may raise anything
        return error
    return None


def _accepted_near(module: nn.Module, shape: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """The nearest sizes below and above that divide by the smallest power of two the model is content with."""
    batch, channels, height, width = shape
    for step in (2, 4, 8, 16, 32, 64):
        up = (-(-height // step) * step, -(-width // step) * step)
        if accepts(module, (batch, channels, *up)) is None:
            down = (height // step * step, width // step * step)
            below = [down] if min(down) > 0 and accepts(module, (batch, channels, *down)) is None else []
            return list(dict.fromkeys([*below, up]))
    return []


def _user_line(error: BaseException) -> str:
    """The innermost frame of the traceback that is not torch's or segc's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = PurePath(frame.filename).parts
        if (
            "torch" not in parts
            and "segc" not in parts
            and "contextlib.py" not in parts[-1:]
            and not frame.filename.startswith("<")
        ):
            cut = max((i for i, p in enumerate(parts) if p == "site-packages"), default=len(parts) - 2)
            return f"{'/'.join(parts[cut + 1 :])}:{frame.lineno} {frame.name}"
    return ""


def _short(error: BaseException) -> str:
    """The telling lines of a message: the exporter wraps them in advice and reports."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[:3]) if lines else "no message"
