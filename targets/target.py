"""What a target is: data that says what one runtime accepts, and three functions that use the runtime.

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
from segc.passes.base import Pass
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.targets.checks import BoundaryCheck, Check, static_map
from segc.targets.protocol import Emitted, Option, Package, Session, Settings


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
    that `emit` gets says of each node which line it comes from (segc.graph.source_info).
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
    border: BoundaryCheck = static_map
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
