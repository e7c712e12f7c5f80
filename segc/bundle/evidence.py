"""evidence.json: what the page about a compile shows beyond report.json. docs/bundle.md explains every field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from segc.bundle.manifest import Count
from segc.bundle.report import LARGEST_JSON, Figure
from segc.bundle.typed import Matching, WrongValue, decode
from segc.errors import BundleError, Code, FileError
from segc.files.regular import read_regular

EVIDENCE = "evidence.json"
Base64 = Annotated[str, Matching("[A-Za-z0-9+/]*={0,2}", "base64")]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A small picture, (height, width) in pixels."""

    kind: Literal["image/jpeg", "image/png"]
    height: Count
    width: Count
    data: Base64


@dataclass(frozen=True, kw_only=True)
class CasePictures:
    """The first image of a parity case: what went in, both masks, and in white where they differ."""

    case: str
    input: Panel
    reference: Panel
    engine: Panel
    difference: Panel


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A tensor before and after the passes. error: relative to the greatest number before. rounding: the error that
    moving the input by its last bit makes. values: how many of the tensor's values were compared, evenly spread.
    """

    tensor: str
    op: str
    origin: str
    values: Count
    error: Figure
    rounding: Figure


@dataclass(frozen=True, kw_only=True)
class PassText:
    """Nodes that a run of a pass took away and put in, one line each. run: its place in report.json's `passes`.

    nodes: their number before and after. more: lines of `removed` and `added` that were left out.
    """

    run: Count
    nodes: tuple[Count, Count]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    more: tuple[Count, Count]


@dataclass(frozen=True, kw_only=True)
class NodeOrigin:
    """A node of the engine's graph, the first tensor that it writes, and the line and module that it comes from."""

    name: str
    tensor: str
    line: str
    module: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of evidence.json. layers_note: why there are no layers, or what was compared. nodes: in running order."""

    pictures: tuple[CasePictures, ...] = ()
    layers: tuple[Layer, ...] = ()
    layers_note: str = ""
    passes: tuple[PassText, ...] = ()
    nodes: tuple[NodeOrigin, ...] = ()


def read_evidence(bundle: Path) -> Evidence:
    """The content of a bundle's evidence.json, checked. Raises BundleError, FileError."""
    try:
        content = read_regular(bundle / EVIDENCE, LARGEST_JSON)
    except OSError as error:
        raise FileError(
            f"{bundle / EVIDENCE} cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)
        ) from error
    try:
        evidence: Evidence = decode(Evidence, json.loads(content))
    except WrongValue as wrong:
        raise _refused(f"{wrong.name}: found {wrong.found}, needed: {wrong.wanted}") from wrong
    except (ValueError, RecursionError) as error:
        raise _refused(f"it is not JSON: {error}") from error
    return evidence


def _refused(because: str) -> BundleError:
    return BundleError(
        f"{EVIDENCE} cannot be used", code=Code.BUNDLE_FILE, because=because,
        so="copy the bundle again or compile the model again",
    )  # fmt: skip
