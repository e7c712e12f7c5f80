"""`segc.compile`: source in, verified bundle out."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc import bundle as bundles
from segc import describe, facts, hooks, hybrid, ir, parity, pipelines, targets
from segc.canonical import canonical
from segc.errors import CompileError, MissingPackageError, ParityError, SegcError, ShapeError, UsageError
from segc.frontend.info import ModelInfo
from segc.frontend.source import Source, open_source
from segc.hybrid import Partitioning
from segc.isolation import IsolatedSession
from segc.manifest import Manifest
from segc.memory import peak_memory_mb
from segc.passes.base import PassResult
from segc.pipeline import Hook, PipelineError
from segc.settings import limits_of, settings_of
from segc.shared import Shared, Unshared
from segc.standin import stand_in

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
    output: str = "logits"
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
    simplify: bool = True
    allow_mismatch: bool = False
    threads: int = 0
    hybrid: bool = True
    partitioning: Partitioning = field(default_factory=Partitioning)


def compile(
    source: str | Path, *, target: str = "onnxruntime", progress: Progress = lambda _: None, **options: Any
) -> Bundle:
    """Compile SOURCE for a target and publish a bundle that was loaded, run and compared with PyTorch.

    source: an mmseg config path or zoo name, a Python file with `model` or `build_model()`, or an .onnx file.
    shape: (height, width) in pixels, default the config's crop size; dynamic: any batch, height and width instead,
    traced at `trace_shape`, default the config's crop size.
    checkpoint: path of a .pth file. output: "logits" or "mask". mode: "whole" or "slide", default the config's.
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
        target = targets.get(request.target)
        self.settings = settings_of(target, request.precision, request.options, request.shape_range)
        self.target = target.configure(target, self.settings)
        self.timing = hooks.Timing()

    def run(self) -> Bundle:
        self._require_sane()
        out = Path(self.request.out) if self.request.out is not None else self._default_out()
        with bundles.write_bundle(out, force=self.request.force) as staging:
            with self._step("open", "opening the source"):
                source = self._open()
            info = source.info
            shape = self.request.shape or self.request.trace_shape or info.shape
            with self._step("export", f"tracing {info.name} at {shape[0]}x{shape[1]}"):
                model = self._export(source, shape)
            before = _count_ops(model)
            with self._step("passes", f"running passes for {self.target.name}"):
                graph, results = self._transform(model, source, shape)
                describe.complete_head(info, graph)
                describe.note_resize(info, graph)
                plan = self._plan(graph, results, (source.info.batch, *shape))
            with self._step("emit", f"writing the {self.target.name} engine"):
                final = ir.to_model(graph, functions=False, origins=self.target.origins)
                emitted, segments = self._emit(graph, final, plan, staging.directory)
                if self.request.keep_onnx:
                    _save(ir.to_model(graph, origins=True), staging.directory / "final.onnx")
            after = _count_ops(final)
            with self._step("load", "loading the engine"):
                session = self._session(graph, final, plan, staging.directory, emitted, segments)
            del model, final
            cases = self._verify(source, graph, session)
            limits = _limits(self._asked_limits(), graph, info)
            told = hybrid.told(graph, self.target, plan) if plan is not None else None
            staging.report = report = self._report(info, before, after, results, cases, limits, told)
            self._require_parity(report, out)
            staging.manifest = describe.manifest(
                info, graph, results, target=self.target, runtime=self.runtime, options=emitted.options,
                settings=self.settings, output=self.request.output, segments=segments,
            )  # fmt: skip
            self.target.accompany(staging.directory, staging.manifest)
        return Bundle(out.resolve(), bundles.read_bundle(out), report)

    def _require_sane(self) -> None:
        request = self.request
        if request.output not in ("logits", "mask"):
            raise UsageError(f"there is no output '{request.output}'", because="an engine gives 'logits' or 'mask'")
        if request.mode not in (None, "whole", "slide"):
            raise UsageError(f"there is no mode '{request.mode}'", because="images are run 'whole' or by a 'slide'")
        if request.dynamic and request.shape is not None:
            raise UsageError("--shape and --dynamic exclude each other", so="leave one of them away")
        if request.shape is not None and (len(request.shape) != 2 or min(request.shape) < 1):
            raise UsageError(f"shape {request.shape} is not (height, width) of at least 1 pixel each")
        if request.threads < 0:
            raise UsageError(f"--threads {request.threads} is no number of threads", so="0 leaves it to the runtime")
        if request.shape_range is not None and not request.dynamic:
            raise UsageError(
                "--shape-range needs --dynamic", because="a static engine has one size", so="add --dynamic"
            )
        self.runtime = _runtime_version(self.target)
        self.unrun = self.target.cannot_run(self.settings)

    def _plan(
        self, graph: gs.Graph, results: list[tuple[str, PassResult]], image: tuple[int, int, int]
    ) -> hybrid.Plan | None:
        """How target and ONNX Runtime share the graph; None where the target runs it all. Raises LegalityError."""
        options = self.request.partitioning if self.request.hybrid else None
        skips = {name: result.skips for name, result in results}
        return hybrid.split(graph, self.target, targets.get(HOST), options, image, skips)

    def _emit(
        self, graph: gs.Graph, final: onnx.ModelProto, plan: hybrid.Plan | None, directory: Path
    ) -> tuple[targets.Emitted, list[dict[str, Any]]]:
        """Write one engine, or the segments of a plan, of which the manifest tells."""
        if plan is None:
            return self.target.emit(final, directory, self.settings), []
        versions = {HOST: _runtime_version(targets.get(HOST)), self.target.name: self.runtime}
        return targets.Emitted(()), hybrid.emit(graph, plan, directory, self.settings, versions)

    def _session(
        self, graph: gs.Graph, final: onnx.ModelProto, plan: hybrid.Plan | None, directory: Path,
        emitted: targets.Emitted, segments: list[dict[str, Any]],
    ) -> targets.Session:  # fmt: skip
        """What was emitted, or where it cannot run here ONNX Runtime on the graph it was made from."""
        threads, stand_ins = self.request.threads, self.unrun is not None
        if plan is not None:
            return hybrid.session_of(graph, plan, directory, segments, threads, stand_ins=stand_ins)
        if stand_ins:
            return stand_in(final, threads)
        if self.target.isolated:
            return IsolatedSession(self.target.name, directory, emitted.options, threads)
        return self.target.load(directory, emitted.options, threads)

    def _asked_limits(self) -> parity.Limits:
        request = self.request
        return limits_of(self.target, request.precision, request.max_error, request.min_agreement)

    def _default_out(self) -> Path:
        return Path(f"{Path(self.request.source).stem}-{self.target.name}")

    def _open(self) -> Source:
        request = self.request
        source = self.shared.source(
            (request.source, request.checkpoint, request.allow_mismatch, request.mode),
            lambda: open_source(
                request.source, checkpoint=request.checkpoint, allow_mismatch=request.allow_mismatch, mode=request.mode
            ),
        )
        self._require_fitting(source.info)
        if source.info.mode == "slide":
            self._fit_slide(source.info)
        return source

    def _fit_slide(self, info: ModelInfo) -> None:
        """A mask engine cannot slide; another shape replaces the window. Asked for by name, a conflict is an error."""
        request = self.request
        if request.output == "mask":
            if request.mode == "slide":
                raise UsageError(
                    "--output mask cannot slide", because="overlapping windows average their logits", so="--mode whole"
                )
            info.mode, info.slide_crop, info.slide_stride = "whole", None, None
            info.notes.append("the config slides, but a mask engine cannot: images run whole")
        elif request.shape is not None and info.slide_crop is not None and request.shape != info.slide_crop:
            assert info.slide_stride is not None
            info.slide_stride = tuple(  # type: ignore[assignment]
                max(1, stride * side // crop)
                for stride, side, crop in zip(info.slide_stride, request.shape, info.slide_crop, strict=True)
            )
            info.notes.append(f"--shape replaces the sliding window {info.slide_crop}; its stride is scaled alike")
            info.slide_crop = request.shape

    def _require_fitting(self, info: ModelInfo) -> None:
        """A size that an ONNX file prescribes cannot be changed here."""
        wanted = self.request.shape or info.shape
        agrees = not self.request.dynamic and all(f in (None, w) for f, w in zip(info.fixed, wanted, strict=True))
        if info.fixed != (None, None) and not agrees:
            raise ShapeError(
                f"the input of '{info.name}' is fixed at {' x '.join(str(side or 'any') for side in info.fixed)}",
                because="--dynamic was given" if self.request.dynamic else f"--shape {wanted[0]}x{wanted[1]} was given",
                so="leave it away, or export the file with free height and width",
            )

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
        self, model: onnx.ModelProto, source: Source, shape: tuple[int, int]
    ) -> tuple[gs.Graph, list[tuple[str, PassResult]]]:
        graph = ir.from_model(model)
        ir.infer_shapes(graph)
        if self.request.output == "mask":  # afterwards the channels are gone
            describe.complete_head(source.info, graph)
        try:
            pipeline = pipelines.standard(
                self.target,
                shape=None if self.request.dynamic else (source.info.batch, *shape),
                mask=self.request.output == "mask",
                threshold=source.info.threshold,
                simplify=self.request.simplify,
            )
            results = pipeline.run(graph, self._hooks(source, shape))
        except (PipelineError, ValueError) as error:
            raise ShapeError("the graph cannot be specialized", because=str(error)) from error
        if self.request.output == "mask" and (why := facts.FACTS["mask-output"](graph)):
            reasons = [s.reason for result in results for s in result.skips]
            raise UsageError("the output cannot become a mask", because=[why, *reasons], so="--output logits")
        return graph, list(zip((p.name for p in pipeline.passes), results, strict=True))

    def _hooks(self, source: Source, shape: tuple[int, int]) -> list[Hook]:
        found: list[Hook] = [self.timing]
        if self.request.dump_ir is not None:
            found.append(hooks.DumpIR(Path(self.request.dump_ir)))
        if self.request.check:
            sizes = (source.info.batch, source.info.in_channels, *shape)
            x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
            found += [hooks.CheckGraph(), hooks.CheckNumerics({_input_name(source): x})]
        return found

    def _verify(self, source: Source, graph: gs.Graph, session: targets.Session) -> list[parity.Case]:
        if not self.request.verify:
            return []
        with self._step(
            "verify", "comparing with PyTorch" if source.module is not None else "comparing with the source file"
        ):
            from segc.reference import reference_of

            info = source.info
            reference = self.shared.reference(reference_of(source))
            shapes = _verified_shapes(graph.inputs[0].shape, info, self.request)
            cases = [
                case
                for shape in shapes
                for case in parity.run_cases(
                    reference,
                    self._guarded(session),
                    parity.inputs(shape, info.mean, info.std, info.channel_order),
                    info.threshold,
                )
            ]
        return cases

    def _guarded(self, session: targets.Session) -> Callable[[np.ndarray], np.ndarray]:
        def run(x: np.ndarray) -> np.ndarray:
            try:
                return session.run(x)
            except (SegcError, MemoryError):
                raise
            except Exception as error:  # each runtime has exceptions of its own, and some are private
                raise CompileError(
                    f"the {self.target.name} engine fails on an input of shape {'x'.join(map(str, x.shape))}",
                    because=str(error), so="try another target or a fixed --shape: this is a limit of the runtime",
                ) from error  # fmt: skip

        return run

    def _require_parity(self, report: Mapping[str, Any], out: Path) -> None:
        """Keep the report of a compile that fails the gate beside the destination, and raise ParityError."""
        if report["parity"] is None or not report["parity"]["failures"]:
            return
        kept = out.with_name(f"{out.name}.parity-failed.json")
        with contextlib.suppress(OSError):  # the figures are in the message too; the error below matters more
            kept.write_bytes(canonical(report))
        raise ParityError(
            f"the {self.target.name} engine misses the parity limits; the bundle is not published",
            because=report["parity"]["failures"],
            where=f"all figures: {kept}" if kept.is_file() else "",
            so=[*parity.ADVICE, "--no-verify skips the gate"],
        )

    def _report(
        self, info: ModelInfo, before: Counter[str], after: Counter[str], results: list[tuple[str, PassResult]],
        cases: list[parity.Case], limits: parity.Limits, told: dict[str, Any] | None,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "status": "ok" if self.unrun is None else f"{self.target.unrun}: {self.unrun}",
            "parity": {
                "reference": REFERENCE_ONNX if info.kind == "onnx" else REFERENCE_TORCH,
                "ran": self.target.name if self.unrun is None else f"the legalized graph in {STAND_IN}",
                "limits": {"relative_error": limits.relative_error, "agreement": limits.agreement},
                "cases": [case.to_json() for case in cases],
                "failures": (missed := parity.failures(cases, limits)),
                "advice": list(parity.ADVICE) if missed else [],
            } if cases else None,
            "hybrid": told,
            "ops": {"before": dict(sorted(before.items())), "after": dict(sorted(after.items()))},
            "skips": [{"pass": name, "node": s.node, "reason": s.reason} for name, r in results for s in r.skips],
            "notes": info.notes,
            "timings": {
                "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
                "passes": {k: round(v, 4) for k, v in self.timing.seconds},
                "peak_memory_mb": peak_memory_mb(),
            },
        }  # fmt: skip

    @contextmanager
    def _step(self, name: str, said: str) -> Iterator[None]:
        self.progress(said)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def _limits(limits: parity.Limits, graph: gs.Graph, info: ModelInfo) -> parity.Limits:
    """The limits asked for; a graph that selects by top-k is judged by pixels, and a note says so."""
    if not describe.selects_by_top_k(graph):
        return limits
    info.notes.append("the model selects points by top-k, whose ties rounding decides: parity is judged by pixels")
    return replace(limits, relative_error=None)


def _input_name(source: Source) -> str:
    return source.onnx_model.graph.input[0].name if source.onnx_model is not None else "input"


def _runtime_version(target: targets.Target) -> str:
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


def _verified_shapes(shape: list[Any], info: ModelInfo, request: Request) -> list[tuple[int, int, int, int]]:
    """The engine's own shape; of a dynamic one the traced size and two it has never seen, one with a batch of two."""
    batch = shape[0] if isinstance(shape[0], int) else 1
    height, width = (
        s if isinstance(s, int) else d
        for s, d in zip(shape[2:], request.shape or request.trace_shape or info.shape, strict=True)
    )
    found: list[tuple[int, int, int, int]] = [(batch, info.in_channels, height, width)]
    if request.dynamic:
        step = info.divisor
        high, wide = (
            max(low, (s * 5 // 8 + 1) // step * step) for s, low in zip((height, width), info.minimum, strict=True)
        )
        several = batch if isinstance(shape[0], int) else 2
        found += [(several, info.in_channels, high, wide), (batch, info.in_channels, wide, high)]
    return found
