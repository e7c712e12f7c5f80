"""What the page shows of a bundle, in the words and the order in which it shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc.bundle.evidence import EVIDENCE, Evidence, read_evidence
from segc.bundle.manifest import Manifest
from segc.bundle.report import REPORT, read_report
from segc.bundle.store import read_manifest
from segc.reporting import charts
from segc.reporting.charts import Bar, Chart

_BARS = 30


@dataclass(frozen=True)
class Cell:
    """A cell of a table. value: what the column is sorted by, where that is not the text."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class PassRow:
    """A run of a pass. nodes: before and after, None where it changed nothing. removed, added: the text on click."""

    number: int
    stage: str
    name: str
    changes: int
    milliseconds: float | None
    nodes: tuple[int, int] | None = None
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    more: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Profile:
    """Time of layers: the slowest as bars, by module as bars, all as rows. method: how it was measured."""

    engine: str
    method: str
    total_ms: float
    slowest: tuple[Bar, ...]
    modules: tuple[Bar, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class ClassScores:
    """val results: names of the columns, and a row for each class."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    images: int


@dataclass(frozen=True)
class Column:
    """Everything that the page shows of one bundle."""

    name: str
    target: str
    facts: Mapping[str, str]
    verdict: str
    parity: tuple[tuple[Cell, ...], ...]
    pictures: tuple[Any, ...]
    layers: Chart | None
    layer_rows: tuple[tuple[Cell, ...], ...]
    layers_note: str
    profile: Profile | None
    memory: Chart | None
    seconds: tuple[Bar, ...]
    files: tuple[tuple[Cell, ...], ...]
    passes: tuple[PassRow, ...]
    skips: tuple[tuple[Cell, ...], ...]
    ops: tuple[tuple[Cell, ...], ...]
    segments: tuple[Any, ...]
    refused: tuple[str, ...]
    moved: tuple[str, ...]
    labels: ClassScores | None
    notes: tuple[str, ...]


def column(bundle: Path, profiles: Sequence[Mapping[str, Any]] = (), *, name: str | None = None) -> Column:
    """Read a bundle. Files that earlier versions did not write are missing parts.

    name: by default that of its folder. Raises BundleError, FileError.
    """
    manifest = read_manifest(bundle)
    report = read_report(bundle) if REPORT in manifest.files else {}
    evidence = read_evidence(bundle) if EVIDENCE in manifest.files else Evidence()
    digest = manifest.to_json()["sha256"]
    mine = next((one for one in profiles if one["sha256"] == digest), None)
    timings, hybrid = report.get("timings", {}), report.get("hybrid") or {}
    samples = [(s["seconds"], s["step"], s["resident_mb"], s["peak_mb"]) for s in timings.get("memory") or ()]
    return Column(
        name or bundle.resolve().name, manifest.target.name, _facts(manifest, report, digest), _verdict(report),
        _parity(report), evidence.pictures,
        _layers(evidence), _layer_rows(evidence), evidence.layers_note, None if mine is None else _profile(mine),
        charts.memory(samples) if len(samples) > 1 else None,
        charts.bars([(step, "", seconds) for step, seconds in timings.get("seconds", {}).items()]),
        _files(manifest), _passes(report, evidence),
        tuple((Cell(s["pass"]), Cell(s["node"]), Cell(s["reason"])) for s in report.get("skips", ())),
        _ops(report), manifest.segments, tuple(hybrid.get("refused", ())), tuple(hybrid.get("moved", ())),
        _labels(report), tuple(report.get("notes", ())),
    )  # fmt: skip


def scores(content: Mapping[str, Any]) -> ClassScores:
    """The content of a val.json."""
    columns = content["columns"]
    by_class = zip(*(one["overall"]["classes"] for one in columns), strict=True)
    rows = [("all classes", *(one["overall"]["m_iou"] for one in columns))]
    rows += [(each[0]["name"], *(one["iou"] for one in each)) for each in by_class]
    names = tuple(f"{one['name']} ({one['engine']})" for one in columns)
    return ClassScores(names, _shares(rows), content["images"])


def _shares(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple((Cell(row[0]), *(_percent(share) for share in row[1:])) for row in rows)


def _percent(share: float | None) -> Cell:
    return Cell("-", -1.0) if share is None else Cell(f"{100 * share:.2f} %", share)


def _facts(manifest: Manifest, report: Mapping[str, Any], digest: str) -> dict[str, str]:
    """What was compiled from what: the rows of the first table."""
    source, target, size = manifest.source, manifest.target, sum(f.bytes for f in manifest.files.values())
    point = manifest.source.checkpoint
    ops = report.get("ops", {"before": {}, "after": {}})
    seconds = report.get("timings", {}).get("seconds", {})
    found = {
        "source": f"{source.name} ({source.kind})",
        "source's SHA-256": source.sha256 or "-",
        "weights": source.weights if point is None else f"{source.weights}: {point.name}, SHA-256 {point.sha256}",
        "target": f"{target.name} {target.runtime}",
        "settings": ", ".join(f"{k}={v}" for k, v in target.settings.items()) or "-",
        "precision": manifest.precision,
        "input": f"{manifest.input.dtype} {manifest.input.layout} {_sizes(manifest.input.shape)}",
        "output": f"{manifest.output.kind}, {manifest.output.channels} channels",
        "inference": manifest.inference.mode,
        "classes": f"{len(manifest.classes)}: {', '.join(manifest.classes[:6])}{' …' * (len(manifest.classes) > 6)}",
        "status": report.get("status", "-"),
        "nodes": f"{sum(ops['before'].values())} → {sum(ops['after'].values())}",
        "size": f"{size / 1e6:.2f} MB in {len(manifest.files)} files",
        "compile time": f"{sum(seconds.values()):.1f} s" if seconds else "-",
        "peak memory": f"{report['timings']['peak_memory_mb']} MB" if seconds else "-",
        "hybrid": manifest.hybrid or "no: one engine runs everything",
        "segc": manifest.segc,
        "bundle's digest": digest,
    }
    return found


def _sizes(shape: Sequence[int | None]) -> str:
    return "x".join("any" if side is None else str(side) for side in shape)


def _verdict(report: Mapping[str, Any]) -> str:
    parity = report.get("parity")
    if parity is None:
        return "not checked"
    return "misses limits" if parity["failures"] else "within limits"


def _parity(report: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    parity = report.get("parity")
    if parity is None:
        return ()
    limit = parity["limits"]
    allowed = "-" if limit["relative_error"] is None else f"{limit['relative_error']:.0e}"
    return tuple(
        (
            Cell(case["name"]), _error(case["relative_error"]), Cell(allowed), _agreement(case["agreement"]),
            Cell(f"{100 * limit['agreement']:.2f} %"), _percent(float(case["miou"])),
            _percent(float(case["boundary_agreement"])), Cell(str(case["differing_pixels"]), case["differing_pixels"]),
        )
        for case in parity["cases"]
    )  # fmt: skip


def _error(value: Any) -> Cell:
    return Cell("-", -1.0) if value is None else Cell(f"{float(value):.2e}", float(value))


def _agreement(value: Any) -> Cell:
    return Cell(f"{100 * float(value):.4f} %", float(value))


def _layers(evidence: Evidence) -> Chart | None:
    if not evidence.layers:
        return None
    errors, rounding = ([float(getattr(one, name)) for one in evidence.layers] for name in ("error", "rounding"))
    return charts.errors([f"{one.op} {one.tensor}" for one in evidence.layers], errors, rounding)


def _layer_rows(evidence: Evidence) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(str(at), at), Cell(one.tensor), Cell(one.op), Cell(one.origin), _error(one.error),
            _error(one.rounding),
        )
        for at, one in enumerate(evidence.layers, 1)
    )  # fmt: skip


def _profile(found: Mapping[str, Any]) -> Profile:
    layers = found["layers"]
    modules: dict[str, float] = defaultdict(float)
    for one in layers:
        modules[one["module"] or "no module"] += one["ms"]
    return Profile(
        found["engine"], found["method"], found["total_ms"],
        charts.bars([(f"{one['op']} {one['name']}", one["origin"], one["ms"]) for one in layers])[:_BARS],
        charts.bars([(name, "", ms) for name, ms in modules.items()])[:_BARS],
        tuple(
            (Cell(str(at), at), Cell(one["name"]), Cell(one["op"]), Cell(one["origin"]),
             Cell(f"{one['ms']:.3f}", one["ms"]))
            for at, one in enumerate(layers, 1)
        ),
    )  # fmt: skip


def _files(manifest: Manifest) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (Cell(name), Cell(f"{file.bytes:,}", file.bytes), Cell(file.sha256)) for name, file in manifest.files.items()
    )


def _passes(report: Mapping[str, Any], evidence: Evidence) -> tuple[PassRow, ...]:
    texts = {one.run: one for one in evidence.passes}
    times = report.get("timings", {}).get("pipeline", ())
    rows = []
    for at, one in enumerate(report.get("passes", ())):
        taken = 1e3 * times[at] if at < len(times) else None
        text = texts.get(at)
        base = (at + 1, one["stage"], one["name"], one["changes"], taken)
        rows.append(PassRow(*base) if text is None else PassRow(*base, text.nodes, text.removed, text.added, text.more))
    return tuple(rows)


def _ops(report: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    counts = report.get("ops", {"before": {}, "after": {}})
    before, after = counts["before"], counts["after"]
    return tuple(
        (Cell(op), *(Cell(str(n), n) for n in (before.get(op, 0), after.get(op, 0))))
        for op in sorted({*before, *after})
    )


def _labels(report: Mapping[str, Any]) -> ClassScores | None:
    labels = report.get("labels")
    if labels is None:
        return None
    rows = [("all classes", *labels["miou"]), ("near boundaries", *labels["boundary_miou"])]
    rows += [(one["name"], *one["iou"]) for one in labels["classes"]]
    return ClassScores(("reference", "engine"), _shares(rows), labels["images"])
