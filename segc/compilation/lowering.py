"""The steps from a source to a graph that the target runs: open, export, lower, plan."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segc import targets
from segc.compilation import manifest_builder, measured_passes, randomness
from segc.compilation.request import Request, open_fitting, with_output
from segc.compilation.setup import Setup, settled
from segc.errors import Code, CompileError, LegalityError, ShapeError, SourceError, UsageError
from segc.frontend.model import ModelInfo, Source, with_found
from segc.frontend.remembered import kind_of, real_module
from segc.graph import invariants, ir, libraries
from segc.graph.sizes import require_fitting, require_memory
from segc.hybrid.plan import Plan
from segc.hybrid.split import split_graph
from segc.isolation import native
from segc.parity import sample_inputs
from segc.parity.reference import reference_of
from segc.passes.base import PassResult
from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.masks.strip_final_resize import StripFinalResize
from segc.passes.precision.quantize_measured import QuantizeMeasured
from segc.passes.support.newer_opsets import NEWEST, at_most, opset_of
from segc.pipeline import hooks, stages
from segc.pipeline.pipeline import Hook, Pipeline, PipelineError

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

    from segc.frontend.traced import Traced

HOST = "onnxruntime"  # the target that runs the nodes that another target refuses
Masks = Literal["graph", "host"]
DEQUANTIZE = "--dequantize computes a quantized file in float32, which every target can"
_BYTES_OF_INPUT = 12  # a value: noise is made in float64 and kept in float32


@dataclass(frozen=True)
class Opened:
    """An opened source that fits the request. The request now names the engine's output."""

    setup: Setup
    source: Source

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) that the model is traced at; the input size of a static engine."""
        return self.setup.request.shape or self.setup.request.trace_shape or self.source.info.shape


@dataclass(frozen=True)
class Exported(Opened):
    """The exported ONNX model. `lower` consumes `model`: to lower the same export twice, pass it a `copy`."""

    model: onnx.ModelProto
    ops: Counter[str]

    def copy(self) -> Exported:
        """A copy with a model of its own. Cost: another copy of the weights in memory."""
        model = type(self.model)()
        model.CopyFrom(self.model)
        return replace(self, model=model)


@dataclass(frozen=True)
class Lowered(Opened):
    """The graph after the target's pipeline. masks: where they are made, None for logits. exported: its ops before."""

    graph: gs.Graph
    results: Sequence[tuple[str, PassResult]]
    masks: Masks | None
    exported: Counter[str]


@dataclass(frozen=True)
class Planned(Lowered):
    """A graph of which each node is assigned to a runtime. plan: None if the target runs all nodes."""

    plan: Plan | None


def open_source(setup: Setup) -> Opened:
    """Open the source, and check that it fits the request.

    Raises SourceError, CheckpointError, ShapeError, UsageError.
    """
    journal = setup.journal
    with journal.step("open", "opening the source"):
        source = open_fitting(setup.request, journal.cache, journal.notes)
    request = with_output(setup.request, setup.target, source.info, journal.notes)
    if request.output == "mask" and source.info.direct:
        source = journal.cache.grown(source, partial(_grown, source))
    sides = (None, None) if request.dynamic else request.shape or source.info.shape
    image = (source.info.batch, source.info.in_channels, *sides)
    source, note = randomness.settle(source, request.freeze_random, image)
    if note is not None:
        journal.notes.add(note)
    return Opened(replace(setup, request=request), source)


def export(opened: Opened) -> Exported:
    """Trace the PyTorch model, or convert that of an ONNX file to the target's opset.

    The target of the result's setup has no pass that costs this model too much, see segc.compilation.measured_passes.
    Raises ShapeError, CompileError, SourceError.
    """
    info, shape = opened.source.info, opened.shape
    image = (info.batch, info.in_channels, *shape)
    require_memory(
        "the input", image, _BYTES_OF_INPUT, native.Limits.of(opened.setup.request.memory_limit, None).memory
    )
    with opened.setup.journal.step("export", f"tracing {info.name} at {shape[0]}x{shape[1]}"):
        model, info = _exported(opened)
        randomness.require_none(model, opened.setup.request.freeze_random)
        _try_reference(opened)
    setup, source = settled(opened.setup, info, shape), replace(opened.source, info=info)
    return measured_passes.settle(Exported(setup, source, model, count_ops(model)))


def lower(exported: Exported, *, masks: Masks | None = None, watching: Sequence[Hook] = ()) -> Lowered:
    """Run the target's pipeline on the exported model, and complete the ModelInfo from the graph.

    masks: "graph" or "host", overrides the request's placement. watching: hooks beside those of the request.
    Raises ShapeError, UsageError.
    """
    journal, request = exported.setup.journal, exported.setup.request
    memory = native.Limits.of(request.memory_limit, None).memory
    if request.output == "mask":
        masks = masks or ("host" if request.decode == "host" else "graph")
    with journal.step("passes", f"running passes for {exported.setup.target.name}"):
        graph = _imported(exported)
        info = exported.source.info
        if masks is not None:  # after the pipeline, the graph has no channels
            info = manifest_builder.with_head(info, graph, journal.notes)
        results = _run_pipeline(graph, exported, info, masks, watching)
        if masks is None:
            info = manifest_builder.with_head(info, graph, journal.notes)
        require_fitting(graph, memory)
        journal.notes.add(*(note for _, result in results for note in result.notes))
        _require_quantized(request, results)
    source = replace(exported.source, info=info)
    return Lowered(exported.setup, source, graph, results, masks, exported.ops)


def _require_quantized(request: Request, results: Sequence[tuple[str, PassResult]]) -> None:
    """Refuse an int8 engine without integers. Raises UsageError."""
    if request.precision != "int8" or any(result.notes for name, result in results if name == QuantizeMeasured.name):
        return
    reasons = [skip.reason for name, result in results if name == QuantizeMeasured.name for skip in result.skips]
    raise UsageError(
        "nothing of the model can be computed in int8", code=Code.UNSUPPORTED_BY_MODEL,
        because=reasons[:3] or "it has no convolution or matrix product with constant weights before its last"
        " convolution",
        so="omit --precision int8",
    )  # fmt: skip


def plan(lowered: Lowered) -> Planned:
    """Check each node against the target's table, and assign refused nodes to ONNX Runtime. Raises LegalityError."""
    setup, request = lowered.setup, lowered.setup.request
    with setup.journal.step("passes"):
        options = request.partitioning if request.hybrid else None
        skips = {name: result.skips for name, result in lowered.results}
        image = (lowered.source.info.batch, *lowered.shape)
        try:
            shared = split_graph(lowered.graph, setup.target, targets.get(HOST), options, image, skips)
        except LegalityError as error:
            if lowered.source.info.quantized:
                error.details["so"].append(DEQUANTIZE)
            raise
    source, results = lowered.source, lowered.results
    return Planned(setup, source, lowered.graph, results, lowered.masks, lowered.exported, shared)


def _imported(exported: Exported) -> gs.Graph:
    """The exported model as a graph with types and shapes. Raises SourceError for a file that contradicts itself."""
    try:
        graph = ir.from_model(exported.model)
        ir.infer_shapes(graph)
    except (*libraries.CHECK_ERRORS, ValueError) as error:
        if exported.source.onnx_model is None:
            raise
        raise SourceError(
            f"'{exported.setup.request.source}' is not a valid ONNX model", code=Code.NOT_ONNX,
            because=str(error).splitlines()[:1], so="export it again",
        ) from error  # fmt: skip
    return graph


def _try_reference(opened: Opened) -> None:
    """Run an ONNX file once in the guard's child, before anything is made of it: it may end the process that runs it.

    What ONNX Runtime says against the file is the parity gate's business, which asks for this input again.
    """
    info = opened.source.info
    if opened.source.onnx_model is None or not native.is_guarded():
        return
    shape = (info.batch, info.in_channels, *opened.shape)
    _, x = next(iter(sample_inputs.inputs(shape, info.mean, info.std, info.channel_order)))
    with contextlib.suppress(CompileError, native.NativeError):
        reference_of(opened.source)(x)


def _exported(opened: Opened) -> tuple[onnx.ModelProto, ModelInfo]:
    """The exported model, and the ModelInfo with the sizes that tracing found."""
    source, dynamic, opset = opened.source, opened.setup.request.dynamic, opened.setup.target.opset
    if source.onnx_model is not None:
        from segc.frontend.onnx_file import at_opset

        if (given := opset_of(source.onnx_model)) > opset:
            opened.setup.journal.notes.add(
                f"the file's opset {given} becomes {opset}; where ONNX Runtime lacks ops of {given}, the engine is"
                f" compared with the file at opset {NEWEST}"
            )
        return at_most(at_opset(source.onnx_model), opset), source.info
    module, info, journal = source.module, source.info, opened.setup.journal
    assert module is not None
    full = (1, info.in_channels, *opened.shape)
    if dynamic:
        divisor, minimum = journal.cache.limits(partial(_limits, module, info.in_channels))
        info = replace(info, divisor=divisor, minimum=minimum)
    traced = journal.cache.traced(
        (kind_of(module), info.random_seed, full, dynamic, opset), partial(_traced, module, full, opset, dynamic)
    )
    journal.cache.described(module)
    journal.notes.add(*traced.notes)
    if (found := getattr(module, "found", None)) is not None:  # of PlainLogits
        journal.notes.add(*found.notes)
        info = with_found(info, found.threshold, shifted=found.shifted)
    return traced.model, replace(info, rewrites=traced.rewrites)


def _grown(source: Source) -> Source:
    from segc.frontend.logits_model import grown

    return grown(source)


def _limits(module: Any, channels: int) -> tuple[int, tuple[int, int]]:
    from segc.frontend.trace import dynamic_limits

    return dynamic_limits(real_module(module), channels)


def _traced(module: Any, full: tuple[int, int, int, int], opset: int, dynamic: bool) -> Traced:
    from segc.frontend.trace import trace

    return trace(real_module(module), full, opset=opset, dynamic=dynamic)


def _run_pipeline(
    graph: gs.Graph, exported: Exported, info: ModelInfo, masks: Masks | None, watching: Sequence[Hook]
) -> list[tuple[str, PassResult]]:
    """Run the passes on the graph, in place. Returns each pass's name and result."""
    try:
        pipeline = _pipeline(exported, info, masks)
        results = pipeline.run(graph, [*_hooks(exported, pipeline), *watching])
    except (PipelineError, ValueError) as error:
        raise ShapeError("the graph cannot be specialized", code=Code.FIXED_SHAPE, because=str(error)) from error
    if masks == "graph" and (why := invariants.INVARIANTS["mask output"](graph)):
        reasons = [s.reason for result in results for s in result.skips]
        raise UsageError(
            "the output cannot become a mask",
            code=Code.UNSUPPORTED_BY_MODEL,
            because=[why, *reasons],
            so="--output logits",
        )
    return list(zip((p.name for p in pipeline.passes), results, strict=True))


def _pipeline(exported: Exported, info: ModelInfo, masks: Masks | None) -> Pipeline:
    request, target = exported.setup.request, exported.setup.target
    fixed: tuple[int, int | None, int | None] | None = (info.batch, *exported.shape)
    if request.dynamic:
        fixed = (info.batch, None, None) if target.needs_shape_range else None
    return stages.standard(
        target,
        shape=fixed,
        mask=masks == "graph",
        threshold=info.threshold,
        leave=StripFinalResize(info.align_corners) if masks == "host" else None,
        images=_normalisation(request, info),
        simplify=request.simplify,
    )


def _normalisation(request: Request, info: ModelInfo) -> FoldPreprocessing | None:
    if request.input != "uint8":
        return None
    mean, std = (v if len(v) == 3 else (v[0],) * 3 for v in (info.mean, info.std))
    return FoldPreprocessing(tuple(mean), tuple(std), info.channel_order == "RGB")


def _hooks(exported: Exported, pipeline: Pipeline) -> list[Hook]:
    request, source, journal = exported.setup.request, exported.source, exported.setup.journal
    journal.passes = hooks.Timing()  # restarted: only the last lowering counts
    found: list[Hook] = [journal.passes]
    if journal.evidence is not None:
        found.append(journal.evidence.changes)
    if request.dump_ir is not None:
        found.append(hooks.DumpIR(Path(request.dump_ir)))
    if request.check:
        sizes = (source.info.batch, source.info.in_channels, *exported.shape)
        feeds = {_input_name(source): sample_inputs.noise(sizes)}
        found += [hooks.CheckGraph(), hooks.CheckInvariants(pipeline), hooks.CheckNumerics(feeds)]
    return found


def _input_name(source: Source) -> str:
    return source.onnx_model.graph.input[0].name if source.onnx_model is not None else "input"


def count_ops(model: onnx.ModelProto) -> Counter[str]:
    """How often each op occurs in the model; "domain::Op" for domains other than ONNX's."""
    return Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in model.graph.node)
