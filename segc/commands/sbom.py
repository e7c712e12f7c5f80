"""`segc.sbom`: the bill of materials of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segc.bundle.store import read_bundle
from segc.commands.bill_of_materials import bill_of_materials
from segc.files.whole import write_whole
from segc.suggestions import checked_keywords


@dataclass(frozen=True)
class BillOfMaterials:
    """The document as text: CycloneDX 1.6 in JSON. bundle: what it describes."""

    bundle: Path
    text: str


@checked_keywords
def sbom(bundle: str | Path, *, out: str | Path | None = None) -> BillOfMaterials:
    """The bill of materials of a bundle; with `out` also written to that file.

    It names the source, the checkpoint and every file with their SHA-256, the runtimes with their versions, and segc.
    Raises BundleError (the bundle is damaged), FileError, MissingPackageError.
    """
    text = bill_of_materials(read_bundle(bundle))
    if out is not None:
        write_whole(Path(out), text.encode())
    return BillOfMaterials(Path(bundle), text)
