"""What makes a segment worth running on the target; docs/partitioning.md explains the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from segc.errors import UsageError


@dataclass(frozen=True)
class Partitioning:
    """Options of the partitioning.

    min_nodes: a segment of the target has at least so many nodes. work_per_byte: and at least so many multiply-adds for
    each byte that goes from the host to it or back. min_share: all of them together do at least this share of the
    model's multiply-adds; otherwise the target is refused.
    """

    min_nodes: int = 1
    work_per_byte: float = 8.0
    min_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.min_nodes < 1:
            raise UsageError(f"--min-segment {self.min_nodes} is no number of nodes", so="1 keeps every segment")
        if not self.work_per_byte >= 0:
            raise UsageError(f"work_per_byte is {self.work_per_byte}", because="it is 0 or more multiply-adds")
        if not 0 <= self.min_share <= 1:
            raise UsageError(f"min_share is {self.min_share}", because="a share lies between 0 and 1")
