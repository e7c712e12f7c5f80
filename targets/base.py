"""What a target is: data that says what one runtime accepts, and three functions that use the runtime.

No other code branches on a target's name. Third parties add targets through the entry point group `segc.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.manifest import Manifest
from segc.passes.base import Pass
from segc.passes.lower_resize_argmax import LowerResizeArgMax

_PROTOBUF_LIMIT = 2_000_000_000 - 50_000_000  # bytes, with room for the nodes
Check = Callable[[gs.Node], str | None]  # None: fine; otherwise the reason, in a few words
BorderCheck = Callable[[gs.Tensor], str | None]


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


@dataclass(frozen=True)
class Option:
    """A setting of one target that users choose by name (`--flavor`, `--device`, `--set NAME=VALUE`)."""

    name: str
    choices: tuple[str, ...]
    default: str
    summary: str


@dataclass(frozen=True)
class Settings:
    """What an engine is to be beside the graph. options: every Option of the target, defaults filled in.

    shape_range: of a dynamic engine, where the user gave one or the target needs one. images: known once the source is.
    threads: of trials while emitting; 0 takes as many as the runtime does by itself.
    """

    precision: str = "fp32"
    shape_range: ShapeRange | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    images: Images | None = None
    threads: int = 0


@dataclass(frozen=True)
class Emitted:
    """What an emitter wrote. files: names below the directory; options: what `load` needs, kept in the manifest."""

    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


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


def static_map(tensor: gs.Tensor) -> str | None:
    """What every engine takes and gives: float32 of four axes, all of known size."""
    if tensor.dtype != np.float32:
        return f"'{tensor.name}' is {tensor.dtype}, not float32"
    if tensor.shape is None or len(tensor.shape) != 4:
        return f"'{tensor.name}' does not have four axes"
    fixed = all(isinstance(size, (int, np.integer)) for size in tensor.shape)
    return None if fixed else f"the size of '{tensor.name}' is not fixed"


def any_tensor(_: gs.Tensor) -> str | None:
    """For runtimes that exchange whatever ONNX has."""
    return None


@dataclass(frozen=True)
class Target:
    """What one runtime accepts, and how to write, load and run its files.

    ops: per op, "domain::Op" for other domains than ONNX's; absent: unsupported; empty: no condition. legalize: passes
    in this order, after the dialect is lowered. emit(model, directory, settings) writes the files and returns them;
    load(directory, options, threads) gives a Session. Both import the runtime only when called.
    package: None where no package index has the runtime. output: of mmseg's models unless asked otherwise, what is
    faster to a mask on the host: "logits" or "mask". mask_tail: spells segc.ResizeArgMax.
    configure(target, settings): the target as these settings want it, e.g. with another table or more passes.
    limits: per precision the (largest relative logit error or None, least share of equal pixels) of the parity gate,
    where segc's own do not fit. cannot_run(settings): why no engine runs on this machine, or None; the gate then
    judges the legalized graph in ONNX Runtime, and reports say `unrun` instead of ok. images: whether engines can take
    uint8 images and normalise them (`--input uint8`). bounded: a dynamic engine has a
    greatest size and takes one image at a time; without --shape-range the sizes come from the config.
    explain: more for `segc doctor`. wants_reference: bundles keep the inputs and outputs of the parity gate, and
    finish(bundle, directory, settings) writes what `emit` left for `segc build`; such bundles name the legalized graph
    in the option "onnx".
    isolated: try a fresh engine in a process of its own, for runtimes that crash where others raise. origins: the model
    that `emit` gets says of each node which line it comes from (segc.origin).
    multi_io: engines may have several inputs and outputs, and `load` gives a NamedSession. border: why a tensor cannot
    go into or out of an engine that is a segment of a graph, or None; the graph's own input and output are not asked.
    accompany(directory, manifest): write what else the bundle holds, e.g. an example for users without segc.
    file_opset: of what `emit` writes, where that is older than `opset`. spell: the last of `legalize`, which bring a
    graph there; they run on every segment again, since the graph as a whole may have no form in that opset.
    skips: names of clean-up passes that are not worth their rounding in this runtime.
    """

    name: str
    summary: str
    opset: int
    package: Package | None
    ops: Mapping[str, tuple[Check, ...]]
    emit: Callable[[onnx.ModelProto, Path, Settings], Emitted]
    load: Callable[[Path, Mapping[str, Any], int], Session]
    legalize: tuple[Pass, ...] = ()
    output: str = "logits"
    table: str = ""  # the file with the rows, named in refusals
    spell: tuple[Pass, ...] = ()
    file_opset: int | None = None
    mask_tail: Pass = field(default_factory=LowerResizeArgMax)
    skips: frozenset[str] = frozenset()
    precisions: tuple[str, ...] = ("fp32",)
    options: tuple[Option, ...] = ()
    configure: Callable[[Target, Settings], Target] = lambda target, _: target
    limits: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)
    cannot_run: Callable[[Settings], str | None] = lambda _: None
    unrun: str = "built, not run"
    images: bool = False
    isolated: bool = False
    origins: bool = False
    multi_io: bool = False
    border: BorderCheck = static_map
    accompany: Callable[[Path, Manifest], None] = lambda *_: None
    bounded: bool = False
    explain: Callable[[], str] = lambda: ""
    wants_reference: bool = False
    finish: Callable[[Path, Path, Settings], Emitted] | None = None

    def why_not(self, node: gs.Node) -> str | None:
        """The first reason this target rejects `node`, or None."""
        op = f"{node.domain}::{node.op}" if node.domain else node.op
        if (checks := self.ops.get(op)) is None:
            return f"no {op} in {self.name}"
        return next((why for check in checks if (why := check(node))), None)


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Whether the model stays below protobuf's 2 GB. Counts weights only: `ByteSize` would serialize the model."""
    return sum(len(t.raw_data) for t in model.graph.initializer) < _PROTOBUF_LIMIT


def attr_is(name: str, want: object, default: object) -> Check:
    """Attribute `name` must equal `want`; ONNX's `default` counts when it is absent."""

    def check(node: gs.Node) -> str | None:
        got = node.attrs.get(name, default)
        return None if got == want else f"{name}={got!r}, only {want!r} is supported"

    return check


def attr_in(name: str, wanted: frozenset[object], default: object) -> Check:
    """Attribute `name` must be one of `wanted`."""

    def check(node: gs.Node) -> str | None:
        got = node.attrs.get(name, default)
        return None if got in wanted else f"{name}={got!r}, supported are {', '.join(sorted(map(repr, wanted)))}"

    return check


def input_dtype(at: int, *wanted: type) -> Check:
    """Input number `at` must have one of these NumPy types (unknown types pass: inference has the last word)."""
    names = {np.dtype(t).name for t in wanted}

    def check(node: gs.Node) -> str | None:
        if at >= len(node.inputs) or node.inputs[at].dtype is None:
            return None
        got = np.dtype(node.inputs[at].dtype).name
        return None if got in names else f"input {at} is {got}, supported are {', '.join(sorted(names))}"

    return check


def constant_input(at: int) -> Check:
    """Input number `at`, where present, must be a constant."""

    def check(node: gs.Node) -> str | None:
        if at >= len(node.inputs) or node.inputs[at].is_empty() or isinstance(node.inputs[at], gs.Constant):
            return None
        return f"input {at} is computed at run time, only a constant is supported"

    return check


def no_subgraph(node: gs.Node) -> str | None:
    """Control flow is refused."""
    return "contains a subgraph" if any(True for _ in node.subgraphs()) else None
