"""What targets, their runtimes and the compiler exchange: sessions, settings, options, emitted files.

Nothing here imports the compiler: loading a bundle needs these types and no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segc.targets.option import Option as Option


class NodesRefused(Exception):  # noqa: N818 - what the runtime answers; the driver adds where the nodes come from
    """Raised by `emit` when the runtime itself refuses nodes. refusals: (node's name, the runtime's words)."""

    def __init__(self, refusals: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(reason for _, reason in refusals))
        self.refusals = list(refusals)


class Session(Protocol):
    """A loaded engine."""

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), contiguous, of the shape the engine was built for. Returns the only output."""


class NamedSession(Session, Protocol):
    """A loaded engine of a target with `multi_io`."""

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name, contiguous, to all outputs by name; names are those of the emitted model."""


class LogitsSession(Session, Protocol):
    """A loaded engine whose output is a mask, and which gives the logits that it was made from too."""

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        """x: as for `run`. Returns float32 (N, C, h, w), before the last resize."""


@dataclass(frozen=True)
class ShapeRange:
    """Heights and widths, in pixels, of a dynamic engine: the least, the one to be fastest at, the greatest."""

    least: tuple[int, int]
    best: tuple[int, int]
    most: tuple[int, int]


@dataclass(frozen=True)
class Images:
    """How the model wants its images: mean and std are in the order of `channel_order`, RGB or BGR."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """Inputs of an int8 engine: those that its ranges come from, and others that it is judged by.

    agreement: the least share of pixels of each that must keep their class. labels: classes of the pixels (N, H, W) of
    those that judge, negative where they do not count; empty without labels. max_drop: points of mIoU that may be
    lost. memory: what earlier searches measured. say: called with a sentence for each trial.
    """

    images: tuple[np.ndarray, ...]
    held_out: tuple[np.ndarray, ...]
    agreement: float
    labels: tuple[np.ndarray, ...] = ()
    max_drop: float | None = None
    memory: Any = None
    say: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Settings:
    """What an engine is to be beside the graph. options: every Option of the target, defaults filled in.

    shape_range: of a dynamic engine, where the user gave one or the target needs one. images: known once the source is.
    threads: of trials while emitting; 0 takes as many as the runtime does by itself. metadata: for files that have a
    place for keys and values. calibration: for int8, known once the source is.
    """

    precision: str = "fp32"
    shape_range: ShapeRange | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    images: Images | None = None
    threads: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None


@dataclass(frozen=True)
class LogitsBeside:
    """An engine that gives a mask also gives the logits before its last resize; see LogitsSession.

    resize: whether there is one, which is bilinear, to the input's size. align_corners: of that resize.
    """

    resize: bool
    align_corners: bool


@dataclass(frozen=True)
class Emitted:
    """What an emitter wrote. files: names below the directory; options: what `load` needs, kept in the manifest.

    beside: of an engine for masks whose sessions give logits too.
    """

    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    beside: LogitsBeside | None = None


@dataclass(frozen=True)
class Package:
    """A package the target runs on: module to import, distribution to install, extra of segc that brings it."""

    module: str
    distribution: str
    extra: str | None = None

    @property
    def install(self) -> str:
        """The exact command that installs it."""
        return f"pip install 'segc[{self.extra}]'" if self.extra else f"pip install {self.distribution}"


@dataclass(frozen=True)
class LayerTime:
    """What one layer of a runtime takes. of: names of nodes or tensors of the emitted graph that it computes."""

    name: str
    op: str
    of: tuple[str, ...]
    milliseconds: float


@dataclass(frozen=True)
class LayerTimes:
    """Layers in running order, and a sentence that says how their time was measured."""

    layers: tuple[LayerTime, ...]
    method: str


Profile = Callable[[Path, Mapping[str, Any], int, Mapping[str, np.ndarray], int], LayerTimes]


@dataclass(frozen=True)
class Runtime:
    """How the engines of one target are loaded and run: all that running a bundle needs to know of the target.

    load(directory, options, threads) gives a Session; it imports the runtime's package only when called.
    package: None where no package index has the runtime. build: the version or commit of such a runtime, or "" if it is
    not on this machine.
    multi_io: engines may have several inputs and outputs, and `load` gives a NamedSession.
    concurrent: several threads may call one session at the same time, and what it computes at a time grows with them.
    Otherwise an Engine loads a session for each of its `callers`, and calls each from one thread at a time.
    load_for(directory, options, threads, callers): instead of `load`, where one session serves several callers at a
    time only if that is said when it is loaded. threads: for each caller.
    configure(runtime, options): the runtime as the user's options of the target want it, e.g. with another package.
    options: a dataclass of what `load` reads from a bundle, in the types of segc.bundle.typed; a bundle with others is
    refused before the runtime sees them. None: any.
    profile(directory, options, threads, inputs, runs): times of layers on inputs by name. None: not offered.
    """

    load: Callable[[Path, Mapping[str, Any], int], Session]
    package: Package | None = None
    build: Callable[[], str] = lambda: ""
    multi_io: bool = False
    concurrent: bool = False
    load_for: Callable[[Path, Mapping[str, Any], int, int], Session] | None = None
    configure: Callable[[Runtime, Mapping[str, str]], Runtime] = lambda runtime, _: runtime
    options: type | None = None
    profile: Profile | None = None
