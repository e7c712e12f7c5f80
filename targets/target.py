"""What a target is: data that says what one runtime accepts, and the functions that use the runtime.

No other code branches on a target's name. Third parties add targets through the entry point group `segc.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from segc.bundle.manifest import Manifest
from segc.bundle.status import StatusKind
from segc.passes.base import Pass
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.targets.checks import BoundaryCheck, Check, static_map
from segc.targets.protocol import Emitted, Option, Package, Runtime, Session, Settings


@dataclass(frozen=True, kw_only=True)
class DeferredBuild:
    """How a target leaves its engine to `segc build`, and finishes it there."""

    graph: Callable[[Mapping[str, Any]], str | None]
    """(options of a bundle): the file in the bundle that the engine is built from; None where nothing was deferred."""
    pending: Callable[[Mapping[str, Any]], bool]
    """(options of a bundle): whether its engine is still to be built."""
    finish: Callable[[Path, Path, Settings], Emitted]
    """(bundle, directory, settings): build the engine of the bundle into the directory."""
    finish_options: Mapping[str, str] = field(default_factory=dict)
    """Options of the target under which `finish` runs, whatever the bundle was compiled with."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one runtime accepts, and how to write, load and run its files. Every field says what it is for."""

    # --- identity ---

    name: str
    """What users type after `--target`."""
    summary: str
    """One line for `segc targets`."""
    options: tuple[Option, ...] = ()
    """Settings of this target alone, with their flags on the command line."""
    precisions: tuple[str, ...] = ("fp32",)
    """What `--precision` may ask for; the first is the usual one."""
    no_precisions: Mapping[str, str] = field(default_factory=dict)
    """Why the target has not this one, for those of which that is known."""
    configure: Callable[[Target, Settings], Target] = lambda target, _: target
    """(target, settings): the target as these settings want it, e.g. with another table or more passes."""

    # --- table: what the runtime accepts ---

    ops: Mapping[str, tuple[Check, ...]]
    """Checks per op, "domain::Op" for domains other than ONNX's. Absent: unsupported. Empty: no condition."""
    table: str = ""
    """The file that holds the rows; refusals name it."""
    boundary: BoundaryCheck = static_map
    """Why a tensor cannot enter or leave an engine that is a segment of a graph, or None. The graph's own input and
    output are not asked about."""
    accepts_uint8: bool = False
    """Engines can take uint8 images and normalise them (`--input uint8`)."""
    needs_shape_range: bool = False
    """A dynamic engine has a greatest size and takes one image at a time. Without --shape-range the sizes come from the
    config."""

    # --- pipeline: how a graph becomes acceptable ---

    opset: int
    """The newest opset that the passes and the table know."""
    file_opset: int | None = None
    """The opset of the files that `emit` writes, where it is older than `opset`."""
    legalize: tuple[Pass, ...] = ()
    """Passes in this order, run after the dialect is lowered."""
    segment_passes: tuple[Pass, ...] = ()
    """The last of `legalize`, which bring a graph to `file_opset`. They run again on every segment of a hybrid, since
    the graph as a whole may have no form in that opset."""
    measured_passes: frozenset[str] = frozenset()
    """Names of passes in `legalize` that a compile leaves out where they make the model much less exact."""
    mask_lowering: Pass = field(default_factory=LowerResizeArgMax)
    """Lowers segc.ResizeArgMax."""
    skipped_passes: frozenset[str] = frozenset()
    """Names of clean-up passes that are not worth their rounding in this runtime."""

    # --- emission: what lies in a bundle ---

    emit: Callable[[onnx.ModelProto, Path, Settings], Emitted]
    """(model, directory, settings): write the files and return them. Imports the runtime only when called."""
    source_info: bool = False
    """The model that `emit` gets says of each node which source line it comes from (segc.graph.source_info)."""
    write_extras: Callable[[Path, Manifest], None] = lambda *_: None
    """(directory, manifest): write what else the bundle holds, e.g. an example for users without segc."""
    program: Path | None = None
    """The folder of runner.hpp and link.cmake: how the C++ program of a bundle runs engines."""
    kit: Path | None = None
    """The folder of run.py.txt and, for C++, runner.h.txt and link.cmake.txt: how a golden kit runs engines without
    segc."""
    wants_reference: bool = False
    """Bundles keep the inputs and outputs of the parity gate, for `segc build` on another machine."""
    deferred_build: DeferredBuild | None = None
    """How `segc build` finishes a bundle whose engine `emit` left to another machine; None where `emit` never does."""

    # --- runtime: how the files are loaded and run ---

    runtime: Runtime
    """How engines are loaded and run; the same object loads bundles where the compiler is not installed."""
    isolated: bool = False
    """Try a fresh engine in a process of its own, for runtimes that crash where others raise."""
    cannot_run: Callable[[Settings], str | None] = lambda _: None
    """(settings): why no engine runs on this machine, or None. The gate then judges the legalized graph in ONNX
    Runtime, and reports say `status_when_not_run` instead of ok."""

    # --- presentation: what users get and read ---

    output: str = "logits"
    """Of mmseg's models unless asked otherwise: "logits", or "mask" where that is faster to a mask on the host."""
    limits: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)
    """Per precision the limits of the parity gate where segc's own do not fit: (largest relative logit error or None,
    least share of equal pixels)."""
    status_when_not_run: StatusKind = StatusKind.BUILT
    """The status of a bundle whose engine cannot run on this machine."""
    risk: Callable[[Settings], str] = lambda _: ""
    """A sentence for bundles whose engine did not run on this machine: what is known about errors of the runtime, and
    what was done about them."""
    explain: Callable[[], str] = lambda: ""
    """More for `segc doctor`."""
    runs_on: Callable[[], str] = lambda: ""
    """What engines run on here, where results depend on it: the GPU, or the commit that a runtime was built from."""

    @property
    def package(self) -> Package | None:
        """The package that brings the runtime."""
        return self.runtime.package

    @property
    def load(self) -> Callable[[Path, Mapping[str, Any], int], Session]:
        """The runtime's `load`."""
        return self.runtime.load

    @property
    def multi_io(self) -> bool:
        """Whether engines may have several inputs and outputs."""
        return self.runtime.multi_io

    def why_not(self, node: gs.Node) -> str | None:
        """The first reason this target rejects `node`, or None."""
        op = f"{node.domain}::{node.op}" if node.domain else node.op
        if (checks := self.ops.get(op)) is None:
            return f"no {op} in {self.name}"
        return next((why for check in checks if (why := check(node))), None)
