"""When a segment is worth running on the target. docs/partitioning.md explains the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from segc.errors import Code, UsageError


@dataclass(frozen=True)
class Partitioning:
    """Options of the partitioning. Raises UsageError for numbers out of range.

    min_nodes: least number of nodes of a segment for the target, at least 1. work_per_byte: least number of
    multiply-adds per byte that it exchanges with the host. min_share: the least share (0 to 1) of the model's
    multiply-adds that the target's segments do together; below it the target is refused.
    """

    min_nodes: int = 1
    work_per_byte: float = 8.0
    min_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.min_nodes < 1:
            raise UsageError(
                f"--min-segment {self.min_nodes} is not a valid number of nodes",
                code=Code.INVALID_NUMBER,
                so="1 keeps every segment",
            )
        if not self.work_per_byte >= 0:
            raise UsageError(
                f"work_per_byte is {self.work_per_byte}",
                code=Code.INVALID_NUMBER,
                because="it must be 0 or more multiply-adds per byte",
            )
        if not 0 <= self.min_share <= 1:
            raise UsageError(
                f"min_share is {self.min_share}", code=Code.INVALID_NUMBER, because="a share is between 0 and 1"
            )
