"""report.json of a bundle: the results of a compile and, later, of `segc build`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segc.bundle.status import Status
from segc.bundle.typed import encode
from segc.compilation.engine import Loaded
from segc.compilation.file_gate import FileCheck
from segc.compilation.label_scores import LabelScores
from segc.graph import structure
from segc.isolation.memory import peak_memory_mb
from segc.parity import metrics
from segc.parity.limits import Limits

REFERENCE_TORCH = "PyTorch, eager, unmodified model"
REFERENCE_ONNX = "ONNX Runtime on the source file"
STAND_IN = "the legalized graph in ONNX Runtime"  # what the gate compares if the engine does not run on this machine


@dataclass(frozen=True)
class Verified:
    """All comparisons with the reference, and their limits.

    files: `segment` against the source's own code on pictures. labels: against labels, where some were given.
    seen: inputs and reference outputs, recorded for targets whose engines are verified again on another machine.
    """

    cases: Sequence[metrics.Case]
    limits: Limits
    seen: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    files: FileCheck = field(default_factory=FileCheck)
    labels: LabelScores | None = None

    @property
    def failures(self) -> list[str]:
        """One sentence for each missed limit."""
        return [*metrics.failures(list(self.cases), self.limits), *(self.labels.failures if self.labels else ())]


def of_compile(loaded: Loaded, verified: Verified) -> dict[str, Any]:
    """The report of a compile."""
    made, journal = loaded.planned, loaded.planned.setup.journal
    skips = [
        {"pass": name, "node": skip.node, "reason": skip.reason}
        for name, result in made.results
        for skip in result.skips
    ]
    setup, reference = made.setup, REFERENCE_ONNX if made.source.info.kind == "onnx" else REFERENCE_TORCH
    return {
        **setup.status.to_json(),
        "parity": _parity(reference, setup.target.name, setup.status, verified) if verified.cases else None,
        **({"files": [case.to_json() for case in verified.files.cases]} if verified.files.cases else {}),
        **({"labels": verified.labels.to_json()} if verified.labels is not None else {}),
        **({"quantization": details[0]} if (details := [r.details for _, r in made.results if r.details]) else {}),
        "hybrid": loaded.hybrid(),
        "graph": structure.digest(made.graph),
        "ops": {"before": dict(sorted(made.exported.items())), "after": dict(sorted(loaded.ops.items()))},
        "passes": [
            {"stage": entry.stage, "name": name, "changes": result.changes}
            for (entry, _), (name, result) in zip(journal.passes.entries, made.results, strict=True)
        ],
        "skips": skips,
        "notes": list(journal.notes),
        "timings": {
            "seconds": {name: round(seconds, 4) for name, seconds in journal.seconds.items()},
            "passes": {name: round(seconds, 4) for name, seconds in journal.passes.by_name().items()},
            "pipeline": [round(seconds, 4) for _, seconds in journal.passes.entries],  # in the order of "passes" above
            "decode": None
            if journal.masks is None
            else {placement: round(ms, 3) for placement, ms in journal.masks.items()},
            "peak_memory_mb": peak_memory_mb(),
            **({"memory": [encode(sample) for sample in journal.memory]} if journal.memory else {}),
        },
    }


def of_build(
    before: Mapping[str, Any], target: str, status: Status, seconds: Mapping[str, float], verified: Verified | None
) -> dict[str, Any]:
    """The report `before` of a compile, updated after the build of its deferred engine.

    seconds: time of each step of the build. verified: against the stored outputs; None if the compile stored none.
    """
    parity = None if verified is None else _parity(before["parity"]["reference"], target, status, verified)
    return {
        **before,
        **status.to_json(),
        "parity": parity,
        "timings": {**before["timings"], "seconds": {name: round(taken, 4) for name, taken in seconds.items()}},
    }


def _parity(reference: str, target: str, status: Status, verified: Verified) -> dict[str, Any]:
    limits = verified.limits
    return {
        "reference": reference,
        "ran": target if status.ran else STAND_IN,
        "limits": {"relative_error": limits.relative_error, "agreement": limits.agreement},
        "cases": [case.to_json() for case in verified.cases],
        "failures": verified.failures,
        "advice": list(metrics.ADVICE) if verified.failures else [],
    }
