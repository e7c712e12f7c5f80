"""Whether the engine of a bundle ran where it was compiled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StatusKind(StrEnum):
    """What became of the engine."""

    OK = "ok"
    BUILT = "built, not run"
    EMITTED = "emitted, not run"
    DEFERRED = "not built, not run"


@dataclass(frozen=True)
class Status:
    """What became of the engine, and why it did not run; no reason: it ran."""

    kind: StatusKind
    reason: str | None = None

    @classmethod
    def of(cls, reason: str | None, otherwise: StatusKind) -> Status:
        """OK without a reason why no engine runs here; `otherwise` with one."""
        return RAN if reason is None else cls(otherwise, reason)

    @property
    def ran(self) -> bool:
        """Whether the engine itself was judged, not the graph it was made from."""
        return self.kind is StatusKind.OK

    def __str__(self) -> str:
        return self.kind.value if self.ran else f"{self.kind.value}: {self.reason}"

    def to_json(self) -> dict[str, str | None]:
        """The fields of report.json: one to read, two for programs."""
        return {"status": str(self), "status_kind": self.kind.value, "status_reason": self.reason}


RAN = Status(StatusKind.OK)
