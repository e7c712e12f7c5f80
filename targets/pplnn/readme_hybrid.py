"""README.md of a hybrid bundle with PPLNN: which segments run in which order, and which tensors they exchange."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segc.bundle.manifest import BoundaryTensor, Manifest

README = "README.md"
TEXT = """\
# This model in PPLNN and ONNX Runtime

PPLNN does not run all of this model: {hybrid}.
The segments run one after the other. Each reads the image or outputs of earlier segments, by the names in this table.

| segment | runs in | reads | writes |
|---|---|---|---|
{rows}

`segc run` and `segc.load` run them all. Without segc, run the folders in this order. In each PPLNN folder README.md
shows how to run `model.onnx` from the shell, Python and C++; the other `model.onnx` files are for ONNX Runtime.
`segc.json` gives the normalisation of images (`preprocessing`) and the meaning of the output `{output}`.
"""


def write_hybrid_readme(directory: Path, manifest: Manifest) -> None:
    """Write README.md of a hybrid bundle; a bundle with one engine has one already."""
    if not manifest.segments:
        return
    rows = [f"| `{s.directory}` | {s.target} | {_listed(s.inputs)} | {_listed(s.outputs)} |" for s in manifest.segments]
    text = TEXT.format(hybrid=manifest.hybrid, rows="\n".join(rows), output=manifest.output.name)
    (directory / README).write_text(text)


def _listed(tensors: Sequence[BoundaryTensor]) -> str:
    return ", ".join(f"`{t.name}` {t.dtype} ({_sizes(t)})" for t in tensors)


def _sizes(tensor: BoundaryTensor) -> str:
    return "?" if tensor.shape is None else ", ".join("?" if size is None else str(size) for size in tensor.shape)
