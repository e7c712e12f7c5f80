"""The README of a bundle of which PPLNN runs some segments: what runs in which order, and what goes between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segc.bundle.manifest import Border, Manifest

README = "README.md"
TEXT = """\
# This model in PPLNN and ONNX Runtime

PPLNN does not run all of this model: {hybrid}.
The segments run one after the other; each reads the image or what earlier segments gave, by the names in this table.

| segment | runs in | reads | gives |
|---|---|---|---|
{rows}

`segc run` and `segc.load` run them all. Without segc, go through the folders in this order: in those of PPLNN a
README.md says how to run `model.onnx` from the shell, Python and C++; the other `model.onnx` are for ONNX Runtime.
`segc.json` says how images are normalised (`preprocessing`) and what the output `{output}` holds.
"""


def overview(directory: Path, manifest: Manifest) -> None:
    """Write README.md of a hybrid bundle; a bundle of one engine has its own already."""
    if not manifest.segments:
        return
    rows = [f"| `{s.directory}` | {s.target} | {_listed(s.inputs)} | {_listed(s.outputs)} |" for s in manifest.segments]
    text = TEXT.format(hybrid=manifest.hybrid, rows="\n".join(rows), output=manifest.output.name)
    (directory / README).write_text(text)


def _listed(borders: Sequence[Border]) -> str:
    return ", ".join(f"`{b.name}` {b.dtype} ({_sizes(b)})" for b in borders)


def _sizes(border: Border) -> str:
    return "?" if border.shape is None else ", ".join("?" if size is None else str(size) for size in border.shape)
