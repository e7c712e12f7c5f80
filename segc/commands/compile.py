"""`segc.compile`: source in, verified bundle out."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc import targets
from segc.bundle import store as bundles
from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import Decode, Manifest
from segc.compilation import manifest_builder, parity_gate, shape_range
from segc.compilation import mask_placement as decode
from segc.compilation.cache import Shared, Unshared
from segc.compilation.request import Request, open_fitting, require_sane, with_output
from segc.compilation.settings import limits_of, settings_of
from segc.errors import MissingPackageError, ParityError, ShapeError, UsageError
from segc.frontend.model import ModelInfo, Source
from segc.graph import invariants, ir
from segc.hybrid.emit import emit as emit_segments
from segc.hybrid.plan import Plan
from segc.hybrid.split import plan_summary, session_of, split_graph
from segc.isolation.memory import peak_memory_mb
from segc.isolation.session import IsolatedSession
from segc.legality import report as legality
from segc.parity import metrics, stored_reference
from segc.parity.ort_stand_in import stand_in
from segc.passes.base import PassResult
from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.masks.strip_final_resize import StripFinalResize
from segc.pipeline import hooks, stages
from segc.pipeline.pipeline import Hook, Pipeline, PipelineError

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

REFERENCE_TORCH = "PyTorch, eager, unmodified model"
REFERENCE_ONNX = "ONNX Runtime on the source file"
STAND_IN = "ONNX Runtime"
HOST = "onnxruntime"  # the target that runs what another refuses
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Bundle:
    """A published bundle: where it lies, its manifest and its report."""

    path: Path
    manifest: Manifest
    report: Mapping[str, Any]


@dataclass
class _Built:
    """An engine that was written and loaded. way: where its masks are made, None without masks."""

    graph: gs.Graph
    results: list[tuple[str, PassResult]]
    ops: Counter[str]
    emitted: targets.Emitted
    segments: list[dict[str, Any]]
    told: dict[str, Any] | None
    session: targets.Session
    way: str | None

    @property
    def decode(self) -> Decode | None:
        """What the runtime does with the logits."""
        left = any(name == StripFinalResize.name and result.changes for name, result in self.results)
        return Decode(resize=left) if self.way == "host" else None


def compile(
    source: str | Path, *, target: str = "onnxruntime", progress: Progress = lambda _: None, **options: Any
) -> Bundle:
    """Compile SOURCE for a target and publish a bundle that was loaded, run and compared with PyTorch.

    source: an mmseg config path or zoo name, a Python file with `model` or `build_model()`, or an .onnx file.
    shape: (height, width) in pixels, default the config's crop size; dynamic: any batch, height and width instead,
    traced at `trace_shape`, default the config's crop size.
    checkpoint: path of a .pth file. mode: "whole" or "slide", default the config's.
    output: "logits" or "mask", by default logits, but a mask of mmseg's models where the target makes that faster.
    decode: of a mask, made in the "graph" (default), on the "host" by segc's runtime, or "auto", what is faster here.
    input: "float32", normalised, or "uint8": images, which the engine normalises.
    precision: "fp32", or "fp16" where the target has it. options: the target's own, e.g. {"flavor": "rtx"}.
    shape_range: of a dynamic engine. verify: run the parity gate; max_error, min_agreement: other limits.
    out: the bundle's folder, default NAME-TARGET here; force: replace a bundle there. keep_onnx, dump_ir, check,
    simplify, allow_mismatch, threads: as on the command line. hybrid: give ONNX Runtime what the target refuses;
    partitioning: which parts are worth it, see docs/partitioning.md.
    Raises SegcError; nothing is published then. Source: docs/bundle.md says what lies in the bundle.
    """
    try:
        request = Request(source, target=target, **options)
    except TypeError as error:
        raise UsageError("compile got an option it does not know", because=str(error)) from error
    return compile_request(request, progress)


def compile_request(request: Request, progress: Progress = lambda _: None, shared: Shared | None = None) -> Bundle:
    """`compile` for a Request; compiles of one source that are given one `shared` open, trace and run it once."""
    return _Compilation(request, progress, shared or Unshared()).run()


class _Compilation:
    """One compile, step by step; each step is timed under its name."""

    def __init__(self, request: Request, progress: Progress, shared: Shared) -> None:
        self.request = request
        self.progress = progress
        self.shared = shared
        self.seconds: dict[str, float] = {}
        self.plain = targets.get(request.target)
        self.settings = settings_of(self.plain, request.precision, request.options, request.shape_range)
        self.target = self.plain.configure(self.plain, self.settings)
        self.timing = hooks.Timing()
        self.choice: decode.Choice | None = None
        self.recorder: stored_reference.Recorder | None = None

    def run(self) -> Bundle:
        require_sane(self.request, self.target)
        self.runtime = runtime_version(self.target)
        self.unrun = self.target.cannot_run(self.settings)
        out = Path(self.request.out) if self.request.out is not None else self._default_out()
        with bundles.write_bundle(out, force=self.request.force) as staging:
            with self._step("open", "opening the source"):
                source = open_fitting(self.request, self.shared)
            info = source.info
            self.request = with_output(self.request, self.target, info)
            assert self.request.output is not None
            shape = self.request.shape or self.request.trace_shape or info.shape
            with self._step("export", f"tracing {info.name} at {shape[0]}x{shape[1]}"):
                model = self._export(source, shape)
            before = _count_ops(model)
            self._settle(info, shape)
            built = self._built(model, source, shape, staging.directory)
            del model
            manifest_builder.note_resize(info, built.graph)
            cases = self._verify(source, built)
            self._store_reference(staging.directory / stored_reference.NAME, cases, info)
            limits = parity_gate.fitting_limits(self._asked_limits(), built.graph, info)
            staging.report = report = self._report(info, before, built.ops, built.results, cases, limits, built.told)
            floor = parity_gate.floor(source, built.graph, self.request, self.settings.shape_range, cases, limits)
            self._require_parity(report, out, floor)
            staging.manifest = manifest_builder.manifest(
                info, built.graph, built.results, target=self.target, runtime=self.runtime,
                options=built.emitted.options, settings=self.settings, output=self.request.output,
                decode=built.decode, segments=built.segments,
            )  # fmt: skip
            self.target.write_extras(staging.directory, staging.manifest)
        return Bundle(out.resolve(), bundles.read_bundle(out), report)

    def _built(self, model: onnx.ModelProto, source: Source, shape: tuple[int, int], directory: Path) -> _Built:
        """The engine; where the faster way to masks is asked for, that for the host first, and what is faster then."""
        way = None if self.request.output == "logits" else self.request.decode or "graph"
        if way != "auto":
            return self._build(model, source, shape, directory, way)
        again = type(model)()
        again.CopyFrom(model)  # importing a model consumes it
        built = self._build(model, source, shape, directory, "host")
        if self._faster_way(built, source, shape) == "host":
            return built
        del built
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self._build(again, source, shape, directory, "graph")

    def _build(
        self, model: onnx.ModelProto, source: Source, shape: tuple[int, int], directory: Path, way: str | None
    ) -> _Built:
        with self._step("passes", f"running passes for {self.target.name}"):
            graph, results = self._transform(model, source, shape, way)
            manifest_builder.complete_head(source.info, graph)
            plan = self._plan(graph, results, (source.info.batch, *shape))
        with self._step("emit", f"writing the {self.target.name} engine"):
            final = ir.to_model(graph, functions=False, origins=self.target.source_info)
            emitted, segments = self._emit(graph, final, plan, directory)
            if self.request.keep_onnx:
                _save(ir.to_model(graph, origins=True), directory / "final.onnx")
        with self._step("load", "loading the engine"):
            session = self._session(graph, final, plan, directory, emitted, segments)
        told = plan_summary(graph, self.target, plan) if plan is not None else None
        return _Built(graph, results, _count_ops(final), emitted, segments, told, session, way)

    def _faster_way(self, built: _Built, source: Source, shape: tuple[int, int]) -> str:
        """Where masks are made faster, measured on the logits of the natural image. Notes what was found."""
        info = source.info
        if self.unrun is not None:
            info.notes.append("where masks are made faster cannot be measured here: in the graph")
            return "graph"
        with self._step("decode", "measuring where masks are made faster"):
            _, x = list(parity_gate.inputs((info.batch, info.in_channels, *shape), info, self.request))[-1]
            logits = parity_gate.guarded(built.session, self.target.name)(x)
            size = shape if built.decode is not None and built.decode.resize else (logits.shape[2], logits.shape[3])
            tail = decode.Tail(size, info.align_corners, info.threshold)
            self.choice = decode.measure(tail, logits, self.target, self.settings, self.request.threads)
        where = "by segc's runtime" if self.choice.way == "host" else "in the graph"
        info.notes.append(f"masks are made {where}, which is faster here")
        return self.choice.way

    def _settle(self, info: ModelInfo, shape: tuple[int, int]) -> None:
        """What of the settings the source decides: how its images come, and the sizes of a dynamic engine."""
        sizes = self.settings.shape_range
        if self.request.dynamic and (sizes is not None or self.target.needs_shape_range):
            sizes = shape_range.fitted(sizes or shape_range.usual(info, shape), info)
        images = targets.Images(info.mean, info.std, info.channel_order)
        self.settings = replace(self.settings, shape_range=sizes, images=images, threads=self.request.threads)
        self.target = self.plain.configure(self.plain, self.settings)

    def _plan(self, graph: gs.Graph, results: list[tuple[str, PassResult]], image: tuple[int, int, int]) -> Plan | None:
        """How target and ONNX Runtime share the graph; None where the target runs it all. Raises LegalityError."""
        options = self.request.partitioning if self.request.hybrid else None
        skips = {name: result.skips for name, result in results}
        return split_graph(graph, self.target, targets.get(HOST), options, image, skips)

    def _emit(
        self, graph: gs.Graph, final: onnx.ModelProto, plan: Plan | None, directory: Path
    ) -> tuple[targets.Emitted, list[dict[str, Any]]]:
        """Write one engine, or the segments of a plan, of which the manifest tells."""
        try:
            if plan is None:
                return self.target.emit(final, directory, self.settings), []
            versions = {HOST: runtime_version(targets.get(HOST)), self.target.name: self.runtime}
            return targets.Emitted(()), emit_segments(graph, plan, directory, self.settings, versions)
        except targets.NodesRefused as error:
            raise legality.refused_by_runtime(graph, self.target, error.refusals) from error

    def _session(
        self, graph: gs.Graph, final: onnx.ModelProto, plan: Plan | None, directory: Path,
        emitted: targets.Emitted, segments: list[dict[str, Any]],
    ) -> targets.Session:  # fmt: skip
        """What was emitted, or where it cannot run here ONNX Runtime on the graph it was made from."""
        threads, stand_ins = self.request.threads, self.unrun is not None
        if plan is not None:
            return session_of(graph, plan, directory, segments, threads, stand_ins=stand_ins)
        if stand_ins:
            return stand_in(final, threads)
        if self.target.isolated:
            return IsolatedSession(self.target.name, directory, emitted.options, threads)
        return self.target.load(directory, emitted.options, threads)

    def _asked_limits(self) -> metrics.Limits:
        request = self.request
        return limits_of(self.target, request.precision, request.max_error, request.min_agreement)

    def _default_out(self) -> Path:
        return Path(f"{Path(self.request.source).stem}-{self.target.name}")

    def _export(self, source: Source, shape: tuple[int, int]) -> onnx.ModelProto:
        if source.onnx_model is not None:
            from segc.frontend.onnx_file import at_opset

            return at_opset(source.onnx_model, self.target.opset)
        from segc.frontend.trace import dynamic_limits, trace

        module, dynamic, opset = source.module, self.request.dynamic, self.target.opset
        assert module is not None
        full = (1, source.info.in_channels, *shape)
        if dynamic:
            info = source.info
            info.divisor, info.minimum = self.shared.limits(lambda: dynamic_limits(module, info.in_channels))
        traced = self.shared.traced((full, dynamic, opset), lambda: trace(module, full, opset=opset, dynamic=dynamic))
        source.info.rewrites = list(traced.rewrites)
        source.info.notes += traced.notes
        return traced.model

    def _transform(
        self, model: onnx.ModelProto, source: Source, shape: tuple[int, int], way: str | None
    ) -> tuple[gs.Graph, list[tuple[str, PassResult]]]:
        graph = ir.from_model(model)
        ir.infer_shapes(graph)
        if self.request.output == "mask":  # afterwards the channels are gone
            manifest_builder.complete_head(source.info, graph)
        try:
            pipeline = stages.standard(
                self.target,
                shape=self._specialized(source.info, shape),
                mask=way == "graph",
                threshold=source.info.threshold,
                leave=StripFinalResize(source.info.align_corners) if way == "host" else None,
                images=self._normalisation(source.info),
                simplify=self.request.simplify,
            )
            results = pipeline.run(graph, self._hooks(source, shape, pipeline))
        except (PipelineError, ValueError) as error:
            raise ShapeError("the graph cannot be specialized", because=str(error)) from error
        if way == "graph" and (why := invariants.INVARIANTS["mask output"](graph)):
            reasons = [s.reason for result in results for s in result.skips]
            raise UsageError("the output cannot become a mask", because=[why, *reasons], so="--output logits")
        return graph, list(zip((p.name for p in pipeline.passes), results, strict=True))

    def _normalisation(self, info: ModelInfo) -> FoldPreprocessing | None:
        if self.request.input != "uint8":
            return None
        mean, std = (v if len(v) == 3 else (v[0],) * 3 for v in (info.mean, info.std))
        return FoldPreprocessing(tuple(mean), tuple(std), info.channel_order == "RGB")

    def _specialized(self, info: ModelInfo, shape: tuple[int, int]) -> tuple[int, int | None, int | None] | None:
        if self.request.dynamic:
            return (info.batch, None, None) if self.target.needs_shape_range else None
        return (info.batch, *shape)

    def _hooks(self, source: Source, shape: tuple[int, int], pipeline: Pipeline) -> list[Hook]:
        self.timing = hooks.Timing()  # of the transformation that counts: the last
        found: list[Hook] = [self.timing]
        if self.request.dump_ir is not None:
            found.append(hooks.DumpIR(Path(self.request.dump_ir)))
        if self.request.check:
            sizes = (source.info.batch, source.info.in_channels, *shape)
            x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
            found += [hooks.CheckGraph(), hooks.CheckInvariants(pipeline)]
            found.append(hooks.CheckNumerics({_input_name(source): x}))
        return found

    def _verify(self, source: Source, built: _Built) -> list[metrics.Case]:
        if not self.request.verify:
            return []
        with self._step(
            "verify", "comparing with PyTorch" if source.module is not None else "comparing with the source file"
        ):
            from segc.parity.reference import reference_of

            info = source.info
            reference = self.shared.reference(reference_of(source))
            if self.request.input == "uint8":
                reference = metrics.of_images(reference, info.mean, info.std, info.channel_order)
            if self.target.wants_reference:
                reference = self.recorder = stored_reference.Recorder(reference)
            run = parity_gate.guarded(built.session, self.target.name)
            return parity_gate.cases(
                reference, lambda size: parity_gate.masked(run, built.decode, info, size, self.request.threads),
                built.graph, info, self.request, self.settings.shape_range,
            )  # fmt: skip

    def _store_reference(self, path: Path, cases: list[metrics.Case], info: ModelInfo) -> None:
        """Keep what the gate compared with, for a target that runs it again elsewhere."""
        if self.target.wants_reference and self.recorder is not None:
            names, logits = [case.name for case in cases], self.request.output == "logits"
            stored_reference.write(path, names, self.recorder.seen, info.threshold, logits)

    def _require_parity(self, report: Mapping[str, Any], out: Path, floor: list[str]) -> None:
        """Keep the report of a compile that fails the gate beside the destination, and raise ParityError."""
        if report["parity"] is None or not report["parity"]["failures"]:
            return
        kept = out.with_name(f"{out.name}.parity-failed.json")
        with contextlib.suppress(OSError):  # the figures are in the message too; the error below matters more
            kept.write_bytes(canonical(report))
        raise ParityError(
            f"the {self.target.name} engine misses the parity limits; the bundle is not published",
            because=[*report["parity"]["failures"], *floor],
            where=f"all figures: {kept}" if kept.is_file() else "",
            so=[*metrics.ADVICE, "--no-verify skips the gate"],
        )

    def _report(
        self, info: ModelInfo, before: Counter[str], after: Counter[str], results: list[tuple[str, PassResult]],
        cases: list[metrics.Case], limits: metrics.Limits, told: dict[str, Any] | None,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "status": "ok" if self.unrun is None else f"{self.target.status_when_not_run}: {self.unrun}",
            "parity": {
                "reference": REFERENCE_ONNX if info.kind == "onnx" else REFERENCE_TORCH,
                "ran": self.target.name if self.unrun is None else f"the legalized graph in {STAND_IN}",
                "limits": {"relative_error": limits.relative_error, "agreement": limits.agreement},
                "cases": [case.to_json() for case in cases],
                "failures": (missed := metrics.failures(cases, limits)),
                "advice": list(metrics.ADVICE) if missed else [],
            } if cases else None,
            "hybrid": told,
            "ops": {"before": dict(sorted(before.items())), "after": dict(sorted(after.items()))},
            "passes": [
                {"stage": entry.stage, "name": name, "changes": r.changes}
                for (entry, _), (name, r) in zip(self.timing.entries, results, strict=True)
            ],
            "skips": [{"pass": name, "node": s.node, "reason": s.reason} for name, r in results for s in r.skips],
            "notes": info.notes,
            "timings": {
                "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
                "passes": {k: round(v, 4) for k, v in self.timing.by_name().items()},
                "pipeline": [round(v, 4) for _, v in self.timing.entries],  # in the order of "passes" above
                "decode": None if self.choice is None else {k: round(v, 3) for k, v in self.choice.figures().items()},
                "peak_memory_mb": peak_memory_mb(),
            },
        }  # fmt: skip

    @contextmanager
    def _step(self, name: str, said: str) -> Iterator[None]:
        self.progress(said)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def _input_name(source: Source) -> str:
    return source.onnx_model.graph.input[0].name if source.onnx_model is not None else "input"


def runtime_version(target: targets.Target) -> str:
    """Installed version of the target's runtime. Raises MissingPackageError with the install command."""
    from importlib.metadata import PackageNotFoundError, version

    if target.package is None:
        return "not packaged"
    try:
        return version(target.package.distribution)
    except PackageNotFoundError as error:
        raise MissingPackageError(
            f"target '{target.name}' needs the package '{target.package.distribution}'",
            because="it is not installed", so=target.package.install,
        ) from error  # fmt: skip


def _count_ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in model.graph.node)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
