"""Time of each layer of a bundle's engine, with the line and module of the model that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segc.bundle.evidence import EVIDENCE, NodeOrigin, read_evidence
from segc.bundle.manifest import Manifest
from segc.errors import Code, UsageError
from segc.runtime.guard import runtime_errors
from segc.runtime.hybrid_session import step
from segc.targets.protocol import LayerTimes


@dataclass(frozen=True)
class LayerOrigin:
    """A layer and its milliseconds. origin, module: "" where the bundle does not say, or the runtime made it up."""

    name: str
    op: str
    origin: str
    module: str
    ms: float


@dataclass(frozen=True)
class EngineProfile:
    """Layers in running order. sha256: of the bundle's manifest. method: how their time was measured."""

    sha256: str
    engine: str
    method: str
    total_ms: float
    layers: tuple[LayerOrigin, ...]


def measured(bundle: Path, manifest: Manifest, x: np.ndarray, threads: int, runs: int) -> EngineProfile:
    """Measure the layers of the engine, or of all segments, on the input `x`.

    Raises UsageError for a runtime that cannot say, CompileError when it fails.
    """
    origins = _origins(bundle, manifest)
    found = list(_profiles(bundle, manifest, x, threads, runs))
    layers = tuple(_with_origin(each, origins) for one in found for each in one.layers)
    return EngineProfile(
        manifest.to_json()["sha256"], f"{manifest.target.name} {manifest.target.runtime}",
        " ".join(dict.fromkeys(one.method for one in found)), sum(each.ms for each in layers), layers,
    )  # fmt: skip


def _profiles(
    bundle: Path, manifest: Manifest, x: np.ndarray, threads: int, runs: int
) -> Iterator[LayerTimes]:  # fmt: skip
    made, settings = manifest.target, manifest.target.settings
    if not manifest.segments:
        yield _profile(bundle, made.name, made.options, settings, {manifest.input.name: x}, threads, runs)
        return
    from segc import targets

    tensors = {manifest.input.name: x}
    for part in manifest.segments:
        folder, given = bundle / part.directory, {t.name: tensors[t.name] for t in part.inputs}
        yield _profile(folder, part.target, part.options, settings, given, threads, runs)
        plain = targets.runtime(part.target)
        session = plain.configure(plain, settings).load(folder, part.options, threads)
        names = ([each.name for each in each_of] for each_of in (part.inputs, part.outputs))
        tensors.update(step(part.target, plain.multi_io, session, *names).run(given))


def _profile(
    folder: Path, name: str, options: Mapping[str, Any], settings: Mapping[str, str],
    inputs: Mapping[str, np.ndarray], threads: int, runs: int,
) -> LayerTimes:  # fmt: skip
    from segc import targets

    plain = targets.runtime(name)
    profile = plain.configure(plain, settings).profile
    if profile is None:
        raise UsageError(
            f"the runtime of {name} does not say what layers take", code=Code.UNSUPPORTED_BY_TARGET,
            so="omit --profile",
        )  # fmt: skip
    with runtime_errors(f"{name} cannot be profiled", Code.ENGINE_RUN, where=str(folder)):
        return profile(folder, options, threads, inputs, runs)


def _origins(bundle: Path, manifest: Manifest) -> dict[str, NodeOrigin]:
    """Nodes by their names and by the tensors that they write."""
    nodes = read_evidence(bundle).nodes if EVIDENCE in manifest.files else ()
    return {**{node.tensor: node for node in nodes}, **{node.name: node for node in nodes}}


def _with_origin(layer: Any, origins: Mapping[str, NodeOrigin]) -> LayerOrigin:
    node = next((origins[name] for name in layer.of if name in origins), None)
    if node is None:
        return LayerOrigin(layer.name, layer.op, "", "", layer.milliseconds)
    words = " in ".join(part for part in (node.line, node.module) if part)
    return LayerOrigin(layer.name, layer.op, words, node.module, layer.milliseconds)
