"""The status of a bundle's engine: whether it ran on the machine that compiled it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StatusKind(StrEnum):
    """How far the engine got on the machine that compiled it."""

    OK = "ok"
    BUILT = "built, not run"
    EMITTED = "emitted, not run"
    DEFERRED = "not built, not run"


@dataclass(frozen=True)
class Status:
    """How far the engine got, and the reason why it did not run; None if it ran."""

    kind: StatusKind
    reason: str | None = None

    @classmethod
    def of(cls, reason: str | None, otherwise: StatusKind) -> Status:
        """RAN if there is no reason against running; otherwise the status `otherwise` with the reason."""
        return RAN if reason is None else cls(otherwise, reason)

    @property
    def ran(self) -> bool:
        """Whether the engine itself was verified, rather than the graph that it was made from."""
        return self.kind is StatusKind.OK

    def __str__(self) -> str:
        return self.kind.value if self.ran else f"{self.kind.value}: {self.reason}"

    def to_json(self) -> dict[str, str | None]:
        """The fields of report.json: one for people, two for programs."""
        return {"status": str(self), "status_kind": self.kind.value, "status_reason": self.reason}


RAN = Status(StatusKind.OK)
