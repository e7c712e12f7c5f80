"""Jobs and cells of the support matrix: a job fills the cells of one config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

OK, HYBRID, FAILED, CANNOT = "ok", "hybrid", "failed", "PyTorch cannot run it here"
SHAPES, OUTPUTS = ("static", "dynamic"), ("logits", "mask")


@dataclass(frozen=True)
class Job:
    """One config and the cells to fill.

    size: (H, W) to compile or trace at; None for the config's crop size. same: configs of the same model, which differ
    in training only; they get copies of this config's cells. only: (shape, target, output) of the cells to fill; empty
    for every combination.
    """

    family: str
    config: str
    targets: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    outputs: tuple[str, ...] = OUTPUTS
    size: tuple[int, int] | None = None
    threads: int = 1
    same: tuple[str, ...] = ()
    only: tuple[tuple[str, str, str], ...] = ()

    @property
    def key(self) -> str:
        """The job's key in a state file. Jobs with equal keys do equal work."""
        size = "crop" if self.size is None else "x".join(map(str, self.size))
        only = (",".join(place) for place in self.only)
        return " ".join([self.config, size, *self.targets, *self.shapes, *self.outputs, *only])

    def places(self) -> Iterator[tuple[str, str, str]]:
        """(shape, target, output) of every cell, ordered so that cells with a common trace follow each other."""
        every = ((s, t, o) for s in self.shapes for t in self.targets for o in self.outputs)
        return (place for place in every if not self.only or place in self.only)

    def all(self, status: str, reason: str) -> list[Cell]:
        """All cells of the job with this status and reason."""
        return [Cell(self.family, self.config, t, s, o, status, reason) for s, t, o in self.places()]


@dataclass(frozen=True)
class Cell:
    """One result. error, agreement: the worst over all inputs and sizes. seconds: by step of the compile.

    status: OK, HYBRID, FAILED, CANNOT, or the target's status of an engine that does not run on this machine. same_as:
    the config of the same model that was compiled instead. host_nodes: the number of nodes that ONNX Runtime runs.
    graph: digest of the structure of the lowered graph. ran_with: what the engine ran on, if not on this machine.
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
    graph: str = ""
    ran_with: str = ""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Where in the matrix it stands: config, target, shape, output."""
        return self.config, self.target, self.shape, self.output

    @property
    def hybrid(self) -> bool:
        """Whether ONNX Runtime runs a part of the graph."""
        return self.host_nodes > 0

    @property
    def good(self) -> bool:
        """Whether the compile wrote a bundle that passed the parity gate."""
        return self.status not in (FAILED, CANNOT)
