"""What the support matrix is made of: jobs, one per config, and the cells that they fill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

OK, HYBRID, FAILED, CANNOT = "ok", "hybrid", "failed", "PyTorch cannot run it here"
SHAPES, OUTPUTS = ("static", "dynamic"), ("logits", "mask")


@dataclass(frozen=True)
class Job:
    """One config and the cells to fill. size: (H, W) to compile or trace at, None takes the config's crop size.

    same: configs of the very same model (they differ in training only); they get copies of this one's cells.
    """

    family: str
    config: str
    targets: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    outputs: tuple[str, ...] = OUTPUTS
    size: tuple[int, int] | None = None
    threads: int = 1
    same: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the job in a state file: equal keys, equal work."""
        size = "crop" if self.size is None else "x".join(map(str, self.size))
        return " ".join([self.config, size, *self.targets, *self.shapes, *self.outputs])

    def places(self) -> Iterator[tuple[str, str, str]]:
        """(shape, target, output) of every cell, in the order that shares most."""
        return ((s, t, o) for s in self.shapes for t in self.targets for o in self.outputs)

    def all(self, status: str, reason: str) -> list[Cell]:
        """Every cell with one status."""
        return [Cell(self.family, self.config, t, s, o, status, reason) for s, t, o in self.places()]


@dataclass(frozen=True)
class Cell:
    """One result. error and agreement are the worst over all inputs and sizes; seconds per step of the compile.

    status: OK, HYBRID, the target's word for an engine that does not run here, FAILED or CANNOT. same_as: the config
    of the same model that was compiled in place of this one. host_nodes: nodes that ONNX Runtime runs for the target.
    """

    family: str
    config: str
    target: str
    shape: str
    output: str
    status: str
    reason: str = ""
    error: float | None = None
    agreement: float | None = None
    margin_ratio: float | None = None
    sizes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    same_as: str = ""
    segments: int = 1
    host_nodes: int = 0

    @property
    def hybrid(self) -> bool:
        """Whether ONNX Runtime runs a part of it."""
        return self.host_nodes > 0

    @property
    def good(self) -> bool:
        """Whether a bundle came out that passed its gate."""
        return self.status not in (FAILED, CANNOT)
