"""Judge a file that `segc opt` wrote: is it valid ONNX in its opset, and does it compute what the given file computes?

Both files run unchanged in ONNX Runtime, in a child process, on the same random inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.errors import Code, CompileError
from segc.graph import dialect, ir, libraries
from segc.graph.onnx_reader import parse_model, read_model
from segc.isolation import native
from segc.isolation.supervisor import ChildEnded, ChildRaised, call
from segc.parity.difference import largest_difference
from segc.parity.limits import Limits
from segc.passes.support import evaluate
from segc.pipeline.first_difference import rounding
from segc.runtime.ort import outputs_of

LARGEST = 1 << 30  # size limit of one input in bytes
_SIZES = {"Resize": 3, "Reshape": 1, "Expand": 1}  # op -> which input holds the sizes of the result
ROUNDING = 20  # equal files may differ by this many times the effect of rounding the inputs
NO_RANK = "Field 'shape' of 'type' is required but missing."  # runtimes accept outputs of unknown rank


@dataclass(frozen=True)
class Sizes:
    """Sizes for dimensions that a file leaves open. shape: height and width in pixels, None: try some."""

    shape: tuple[int, int] | None
    batch: int | None


@dataclass(frozen=True)
class Given:
    """The given file after one run. model: its path, or the model itself if function bodies had to be added.

    inputs: types by name. feeds, outputs: the arrays of the run. outputs: None if ONNX Runtime cannot run the
    file; then `why` gives the reason.
    """

    path: Path
    model: Path | bytes
    inputs: Mapping[str, np.dtype[Any]]
    feeds: evaluate.Arrays
    outputs: evaluate.Arrays | None
    why: str = ""

    def run(self, feeds: Mapping[str, np.ndarray]) -> evaluate.Arrays:
        """Raises CannotRun."""
        return run(self.model, feeds)

    def on_inputs_of(self, graph: gs.Graph) -> Given | None:
        """A run on inputs that fit `graph`. None if its inputs are other tensors than the file's."""
        if all(_fits(t, self.feeds) for t in graph.inputs):
            return self
        if any(self.inputs.get(t.name) != t.dtype for t in graph.inputs):
            return None
        feeds = {**self.feeds, **evaluate.random_inputs(graph)}
        try:
            return replace(self, feeds=feeds, outputs=self.run(feeds))
        except evaluate.CannotRun:
            return None


@dataclass(frozen=True)
class Judged:
    """The verdict on a written file. error: the largest relative error of its outputs; if None, `note` says why."""

    file: Path
    opset: int
    error: float | None
    note: str = ""


def given(path: Path, graph: gs.Graph, sizes: Sizes) -> Given:
    """Run a file on random inputs. graph: the file as a graph, for the types of its inputs."""
    model = _as_given(path)
    why = ""
    try:
        types = {t.name: _dtype(t) for t in graph.inputs}
        for feeds in candidates(graph, sizes):
            try:
                return Given(path, model, types, feeds, run(model, feeds))
            except evaluate.CannotRun as error:
                why = why or str(error)
    except _NoInput as error:
        why = why or str(error)
    return Given(path, model, {}, {}, None, why)


def require_runnable(found: Given) -> None:
    """Raise CompileError if the given file could not be run."""
    if found.outputs is None:
        raise CompileError(
            "ONNX Runtime cannot run the file, so nothing can be compared", code=Code.NUMBERS_DIFFER, because=found.why,
            so="give an input size that it takes with --shape HxW and --batch N, or omit --check",
        )  # fmt: skip


def judge(
    staged: Path, name: Path, graph: gs.Graph, reference: Given, tolerance: float | None, *, exact: bool
) -> Judged:
    """Read a written file back, check it, run it, and compare it with the file as given.

    staged: its temporary path; name: its final path. graph: its content. tolerance: the largest relative error allowed;
    None: 1e-5, or 20 times the effect of rounding the inputs if that is larger. exact: if False and `tolerance` is
    None, no error is too large. Raises CompileError.
    """
    _require_valid(staged, name, reference)
    opset = next(o.version for o in parse_model(staged).opset_import if o.domain in ir.STANDARD)
    if reference.outputs is None:
        why = f"'{name}' was not compared with '{reference.path}', which ONNX Runtime cannot run: {reference.why}"
        return Judged(name, opset, None, why)
    alike = reference.on_inputs_of(graph)
    outputs = _outputs(staged, name, evaluate.random_inputs(graph) if alike is None else alike.feeds)
    if alike is None or alike.outputs is None or _interface(outputs) != _interface(alike.outputs):
        return Judged(name, opset, None, f"'{name}' takes or gives other tensors than '{reference.path}': not compared")
    return Judged(name, opset, _compared(name, alike, outputs, tolerance, exact=exact))


def require_same(graph: gs.Graph, reference: Given, tolerance: float | None) -> None:
    """Compare a graph whose opset was raised with the given file. Raises CompileError."""
    if reference.outputs is None:
        return
    try:
        outputs = evaluate.outputs(graph, reference.feeds)
    except evaluate.CannotRun as error:
        raise CompileError(
            f"'{reference.path}' in opset {graph.opset} cannot be run", code=Code.NUMBERS_DIFFER, because=str(error)
        ) from error
    _compared(reference.path, reference, outputs, tolerance, exact=True)


def _outputs(staged: Path, name: Path, feeds: evaluate.Arrays) -> evaluate.Arrays:
    taken = {info.name for info in parse_model(staged).graph.input}
    try:
        return run(staged, {key: value for key, value in feeds.items() if key in taken})
    except evaluate.CannotRun as error:
        raise CompileError(
            f"'{name}' is not written: ONNX Runtime cannot run it", code=Code.NUMBERS_DIFFER, because=str(error),
            so="rerun with --check to see which pass is at fault",
        ) from error  # fmt: skip


def _require_valid(staged: Path, name: Path, reference: Given) -> None:
    """Run ONNX's full check. A complaint is ignored if the given file is refused too. Raises CompileError."""
    why = _why_invalid(staged)
    if why is not None and _why_invalid(reference.path) is None:
        raise CompileError(
            f"'{name}' is not written: ONNX refuses it",
            code=Code.PASS_FAULT,
            because=why,
            so="rerun with --check to see which pass is at fault",
        )


def run(model: Path | bytes, feeds: Mapping[str, np.ndarray]) -> evaluate.Arrays:
    """All outputs of a model in ONNX Runtime, in a child process. Raises CannotRun with the reason in a line."""
    source, limits = model.resolve() if isinstance(model, Path) else model, native.limits()
    try:
        outputs: evaluate.Arrays = call(
            outputs_of, source, dict(feeds), seconds=limits.seconds, memory=limits.memory
        )  # fmt: skip
    except ChildRaised as error:
        raise evaluate.CannotRun(str(error).splitlines()[0][:200]) from error
    except ChildEnded as error:
        raise evaluate.CannotRun(error.reason) from error
    return dict(evaluate.tensors(outputs))


class _NoInput(Exception):  # noqa: N818 - caught in this module
    """No random values can be made for an input; the message says why."""


def candidates(graph: gs.Graph, sizes: Sizes) -> Iterable[evaluate.Arrays]:
    """Random inputs of the requested sizes, or of growing sizes if none are requested.

    A symbol has one size everywhere. Raises _NoInput for unsupported types and for inputs beyond `LARGEST`.
    """
    dynamic = any(ir.static_shape(t) is None for t in graph.inputs)
    for side in evaluate.SIDES if dynamic and sizes.shape is None else evaluate.SIDES[:1]:
        yield _random_inputs(graph.inputs, sizes.shape or (side, side), sizes.batch or 1)


def _random_inputs(inputs: Sequence[gs.Variable], shape: tuple[int, int], batch: int) -> evaluate.Arrays:
    sizes: dict[str, int] = {}
    for tensor in inputs:
        if tensor.shape is not None and len(tensor.shape) == 4:
            for size, wanted in zip(tensor.shape, (batch, None, *shape), strict=True):
                if isinstance(size, str) and wanted is not None:
                    sizes.setdefault(size, wanted)
    made: evaluate.Arrays = {}
    for tensor in inputs:
        dims = list(tensor.shape or [])
        known = (batch, shape[0], *shape) if len(dims) == 4 else (batch, *[shape[0]] * len(dims))
        full = [d if isinstance(d, int) else sizes.get(d or "", k) for d, k in zip(dims, known, strict=False)]
        declared = _declared(tensor)
        made[tensor.name] = _random(tensor, full) if declared is None else declared
    return made


def _declared(tensor: gs.Variable) -> np.ndarray | None:
    """The sizes that an input must hold so that what reads them gives the shape that the file declares."""
    for node in tensor.outputs:
        at = _SIZES.get(node.op, len(node.inputs)) if node.domain is None else len(node.inputs)
        shape = ir.static_shape(node.outputs[0]) if at < len(node.inputs) and node.inputs[at] is tensor else None
        if shape is not None and tensor.dtype == np.int64:
            sides = [shape[axis] for axis in node.attrs.get("axes", range(len(shape)))]
            return np.array(sides, np.int64) if tensor.shape in ([len(sides)], [None]) else None
    return None


def _dtype(tensor: gs.Tensor) -> np.dtype[Any]:
    """The NumPy type. Raises _NoInput if there is none (then graphsurgeon keeps ONNX's number) or it is not numeric."""
    dtype = np.dtype(object) if isinstance(tensor.dtype, int) else np.dtype(tensor.dtype)
    if dtype.kind not in "fiub":
        raise _NoInput(f"there are no random numbers of the type of input '{tensor.name}'")
    return dtype


def _random(tensor: gs.Tensor, sizes: list[int]) -> np.ndarray:
    dtype = _dtype(tensor)
    if (size := math.prod(sizes) * dtype.itemsize) > LARGEST:
        raise _NoInput(f"input '{tensor.name}' takes {size:,} bytes")
    return evaluate.random_array(tensor.name, dtype, sizes)


def _as_given(path: Path) -> Path | bytes:
    """The path, or the model with the bodies of dialect ops added if the file lacks them."""
    model = parse_model(path)
    if model.functions or not any(node.domain == dialect.DOMAIN for node in model.graph.node):
        return path
    model = read_model(path)
    opset = next(o.version for o in model.opset_import if o.domain in ir.STANDARD)
    ops = {node.op_type for node in model.graph.node if node.domain == dialect.DOMAIN}
    model.functions.extend(dialect.function(op, opset) for op in sorted(ops))
    return bytes(model.SerializeToString())


def _why_invalid(path: Path) -> str | None:
    try:
        libraries.check_file(path)
    except (*libraries.CHECK_ERRORS, ValueError) as error:
        because = (str(error).splitlines() or [type(error).__name__])[0]
        return None if because == NO_RANK else because
    return None


def _fits(tensor: gs.Tensor, feeds: evaluate.Arrays) -> bool:
    """Whether an input accepts the array that the given file was run with."""
    value = feeds.get(tensor.name)
    if value is None or tensor.dtype != value.dtype or tensor.shape is None or len(tensor.shape) != value.ndim:
        return False
    return all(not isinstance(want, int) or want == size for want, size in zip(tensor.shape, value.shape, strict=True))


def _interface(outputs: evaluate.Arrays) -> list[tuple[tuple[int, ...], np.dtype[np.generic]]]:
    return [(value.shape, value.dtype) for value in outputs.values()]


def _compared(name: Path, reference: Given, outputs: evaluate.Arrays, tolerance: float | None, *, exact: bool) -> float:
    """The largest relative error. Raises CompileError above the limit."""
    want = reference.outputs or {}
    pairs = list(zip(want.values(), outputs.values(), strict=True))
    error = max((largest_difference(a, b)[1] for a, b in pairs if a.dtype.kind == "f"), default=0.0)
    apart = max((float(np.mean(a != b)) for a, b in pairs if a.dtype.kind != "f" and a.size), default=0.0)
    if not exact and tolerance is None:
        return error
    limit = 1e-5 if tolerance is None else tolerance
    if error > limit and tolerance is None:
        limit = max(limit, ROUNDING * rounding(reference, reference.feeds, want))
    if error > limit or apart > 1 - Limits.agreement:
        what = f"relative error {error:.2e}, tolerance {limit:.1e}"
        raise CompileError(
            f"'{name}' does not compute what '{reference.path}' does; it is not written",
            code=Code.NUMBERS_DIFFER,
            because=what if error > limit else f"{apart:.2%} of the values of an output are others",
            so="rerun with --check to see which pass is at fault",
        )
    return error
