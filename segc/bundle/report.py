"""report.json as typed values: what a compile did and found. docs/bundle.md explains every field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segc.bundle.manifest import Count
from segc.bundle.typed import KEY, OMITTABLE, Number, WrongValue, decode
from segc.errors import BundleError, Code, FileError
from segc.files.regular import read_regular

REPORT = "report.json"
LARGEST_JSON = 1 << 26  # bytes
Figure = Number | Literal["inf", "-inf", "nan"]  # JSON has no such numbers


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits for every case. relative_error: None if parity is judged by pixels alone."""

    relative_error: Number | None
    agreement: Number


@dataclass(frozen=True, kw_only=True)
class Case:
    """The comparison on one input; see segc.parity.metrics."""

    name: str
    shape: tuple[Count, ...]
    max_abs_error: Figure | None
    relative_error: Figure | None
    agreement: Figure
    miou: Figure
    boundary_agreement: Figure
    differing_pixels: Count
    margin_ratio: Figure | None
    near_ties: Count | None = field(default=None, metadata=OMITTABLE)
    rounding: Figure | None = field(default=None, metadata=OMITTABLE)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The comparison with the reference. ran: what was run. failures: the limits that were exceeded, in words."""

    reference: str
    ran: str
    limits: Limits
    cases: tuple[Case, ...]
    failures: tuple[str, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FileCase:
    """`segment` against the source's own code on a made-up picture; see segc.compilation.file_gate."""

    name: str
    size: tuple[Count, Count]
    tensor_error: Figure | None
    agreement: Figure | None
    equal: Figure | None
    rounding: Figure | None = field(default=None, metadata=OMITTABLE)


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """How the target and ONNX Runtime share the graph.

    target_share: the target's share of the work, 0 to 1. refused: nodes that the target cannot run.
    """

    summary: str
    segments: Count
    host_nodes: Count
    target_share: Number
    refused: tuple[str, ...]
    moved: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ops:
    """The number of nodes of each op, before and after the passes."""

    before: Mapping[str, Count]
    after: Mapping[str, Count]


@dataclass(frozen=True, kw_only=True)
class PassRun:
    """One run of a pass, in execution order."""

    stage: str
    name: str
    changes: Count


@dataclass(frozen=True, kw_only=True)
class SkippedSite:
    """A site that a pass recognized but did not change, with the reason."""

    by: str = field(metadata={KEY: "pass"})
    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """Memory of the process in MB, resident and its peak until then, so many seconds after the compile began.

    step: the step that begins or ends there.
    """

    seconds: Number
    step: str
    resident_mb: Count
    peak_mb: Count


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds by step and by pass, milliseconds of each placement of the mask, and peak memory."""

    seconds: Mapping[str, Number]
    passes: Mapping[str, Number]
    pipeline: tuple[Number, ...]
    decode: Mapping[str, Number] | None
    peak_memory_mb: Number
    memory: tuple[MemorySample, ...] | None = field(default=None, metadata=OMITTABLE)


@dataclass(frozen=True, kw_only=True)
class LabelledClass:
    """IoU of a class, from 0 to 1: of the reference and of the engine; None where neither labels nor masks have it."""

    name: str
    iou: tuple[Number | None, Number | None]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Scores on labelled images, of the reference and of the engine; see segc.compilation.label_scores."""

    images: Count
    limit: Number | None
    drop: Number
    miou: tuple[Number | None, Number | None]
    boundary_miou: tuple[Number | None, Number | None]
    classes: tuple[LabelledClass, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of report.json. status_kind, status_reason: the same as status, for programs.

    graph: SHA-256 of the structure of the lowered graph; see segc.graph.structure. labels: scores on labelled images.
    quantization: what int8 measured. auto: what --precision auto tried.
    """

    status: str
    status_kind: Literal["ok", "built, not run", "emitted, not run", "not built, not run"]
    status_reason: str | None
    parity: Parity | None
    files: tuple[FileCase, ...] | None = field(default=None, metadata=OMITTABLE)
    labels: Labels | None = field(default=None, metadata=OMITTABLE)
    quantization: Mapping[str, Any] | None = field(default=None, metadata=OMITTABLE)
    auto: tuple[Mapping[str, Any], ...] | None = field(default=None, metadata=OMITTABLE)
    hybrid: Hybrid | None
    graph: str
    ops: Ops
    passes: tuple[PassRun, ...]
    skips: tuple[SkippedSite, ...]
    notes: tuple[str, ...]
    timings: Timings


def read_report(bundle: Path) -> dict[str, Any]:
    """The content of a bundle's report.json, checked. Raises BundleError, FileError."""
    try:
        content = read_regular(bundle / REPORT, LARGEST_JSON)
    except OSError as error:
        raise FileError(
            f"{bundle / REPORT} cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)
        ) from error
    try:
        value: dict[str, Any] = json.loads(content)
        decode(Report, value)
    except WrongValue as wrong:
        raise _refused(f"cannot be used: {wrong.name}", f"found {wrong.found}, needed: {wrong.wanted}") from wrong
    except (ValueError, RecursionError) as error:
        raise _refused("is damaged", f"it is not JSON: {error}") from error
    return value


def _refused(what: str, because: str) -> BundleError:
    return BundleError(
        f"{REPORT} {what}", code=Code.BUNDLE_FILE, because=because,
        so="copy the bundle again or compile the model again",
    )  # fmt: skip
