"""The parity gate of a compile: the sizes and inputs that an engine is compared at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from segc import targets
from segc.bundle.manifest import Decode
from segc.compilation import calibration, manifest_builder, mask_placement, shape_range
from segc.compilation.request import Request
from segc.errors import Code
from segc.frontend.model import ModelInfo
from segc.frontend.remembered import real_module
from segc.parity import metrics, sample_inputs
from segc.parity.limits import Limits
from segc.runtime.guard import runtime_errors

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from segc.frontend.model import Source

_SMALL = 256  # pixels a side
Run = Callable[[np.ndarray], np.ndarray]


def cases(
    reference: Run,
    engine: Callable[[tuple[int, int]], Run],
    graph: gs.Graph,
    info: ModelInfo,
    request: Request,
    bounds: targets.ShapeRange | None,
    rounding: Callable[[np.ndarray], float | None] | None = None,
    agreement: float = 0.0,
    see: Callable[[str, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
) -> list[metrics.Case]:
    """Compare engine and reference on noise and the photograph, at every size of the gate.

    engine(size): the bundle's function for inputs of this (height, width). bounds: the engine's range of sizes.
    rounding, agreement, see: see `metrics.run_cases`.
    """
    return [
        case
        for shape in _shapes(graph, info, request, bounds)
        for case in metrics.run_cases(
            reference, engine(shape[2:]), inputs(shape, info, request), info.threshold, rounding, agreement, see
        )
    ]


def floor(
    source: Source,
    graph: gs.Graph,
    request: Request,
    bounds: targets.ShapeRange | None,
    found: list[metrics.Case],
    limits: Limits,
) -> list[str]:
    """A sentence if PyTorch's own rounding explains the first case that misses the limits; else empty."""
    missed = next((c for c in found if c.relative_error is not None and c.failures(limits)), None)
    if missed is None or source.module is None or request.input == "uint8":
        return []
    from segc.parity.noise_floor import own_error

    x = input_of(missed, graph, source.info, request, bounds)
    own = own_error(real_module(source.module), x)
    if own is None or not own >= (missed.relative_error or 0.0) / 2:
        return []
    return [f"{missed.name}: PyTorch in float32 itself differs from float64 by {own:.2e}: no engine can be closer"]


def input_of(
    case: metrics.Case, graph: gs.Graph, info: ModelInfo, request: Request, bounds: targets.ShapeRange | None
) -> np.ndarray:
    """The input of a case that `cases` returned."""
    return next(x for name, x in all_inputs(graph, info, request, bounds) if metrics.title(name, x) == case.name)


def all_inputs(
    graph: gs.Graph, info: ModelInfo, request: Request, bounds: targets.ShapeRange | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The inputs that `cases` compares on, with their names, in order."""
    return (named for shape in _shapes(graph, info, request, bounds) for named in inputs(shape, info, request))


def inputs(shape: tuple[int, int, int, int], info: ModelInfo, request: Request) -> Iterator[tuple[str, np.ndarray]]:
    """The sample inputs, in the engine's layout; for int8 the images that it was not calibrated with."""
    if request.precision == "int8":
        return iter(calibration.shown(calibration.pictures(request, info, shape[2:])))
    if request.input == "uint8":
        return sample_inputs.image_inputs(shape)
    return sample_inputs.inputs(shape, info.mean, info.std, info.channel_order)


def masked(run: Run, todo: Decode | None, info: ModelInfo, size: tuple[int, int], threads: int) -> Run:
    """The bundle's function: the engine's output, or the mask that segc's runtime makes from it."""
    if todo is None:
        return run

    def mask(x: np.ndarray) -> np.ndarray:
        logits = run(x)
        tail = mask_placement.Tail(size if todo.resize else logits.shape[2:], info.align_corners, info.threshold)
        return tail.on_host(logits, threads)

    return mask


def guarded(session: targets.Session, name: str) -> Run:
    """The session's `run`. An exception of the runtime of target `name` becomes a CompileError."""

    def run(x: np.ndarray) -> np.ndarray:
        what = f"the {name} engine fails on an input of shape {'x'.join(map(str, x.shape))}"
        so = "try another target or a fixed --shape: this is a limit of the runtime"
        with runtime_errors(what, Code.ENGINE_RUN, so=so):
            return session.run(x)

    return run


def _shapes(
    graph: gs.Graph, info: ModelInfo, request: Request, bounds: targets.ShapeRange | None
) -> list[tuple[int, int, int, int]]:
    """The shapes of `_verified_shapes`, limited to the engine's range of sizes."""
    asked = _verified_shapes(manifest_builder.image_shape(graph), info, request)
    return [(*shape[:2], *shape_range.clamped(shape[2:], bounds)) for shape in asked]


def _verified_shapes(shape: list[Any], info: ModelInfo, request: Request) -> list[tuple[int, int, int, int]]:
    """The engine's shape; for a dynamic one the traced size and two other sizes, one of them with a batch of two."""
    batch = shape[0] if isinstance(shape[0], int) else 1
    height, width = (
        s if isinstance(s, int) else d
        for s, d in zip(shape[2:], request.shape or request.trace_shape or info.shape, strict=True)
    )
    found: list[tuple[int, int, int, int]] = [(batch, info.in_channels, height, width)]
    if request.dynamic:
        step = info.divisor
        high, wide = (
            max(low, _unseen(s, request) // step * step) for s, low in zip((height, width), info.minimum, strict=True)
        )
        several = batch if isinstance(shape[0], int) else 2
        found += [(several, info.in_channels, high, wide), (batch, info.in_channels, wide, high)]
    return found


def _unseen(side: int, request: Request) -> int:
    """A side other than the traced one: smaller, or larger if the traced one is small and has no upper bound.

    In an image of a few thousand pixels, a few near ties exceed the limit of one pixel in a thousand.
    """
    return side * 5 // 4 + 1 if side < _SMALL and request.shape_range is None else side * 5 // 8 + 1
