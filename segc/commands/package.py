"""`segc.package`: make a bundle ready for where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segc.bundle.store import read_bundle
from segc.errors import Code, UsageError
from segc.packaging import web
from segc.packaging.folder import write_package
from segc.suggestions import checked_keywords, did_you_mean

PURPOSES = ("web",)


@dataclass(frozen=True)
class Package:
    """A finished package: its folder, what it is for, and the number of bytes of its files."""

    path: Path
    purpose: str
    bytes: int


@checked_keywords
def package(
    bundle: str | Path,
    *,
    purpose: str,
    out: str | Path,
    force: bool = False,
    onnxruntime_web: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Package:
    """Make a folder that runs a bundle elsewhere.

    purpose: "web" makes a page that runs a bundle of ONNX Runtime in the browser, with the masks of `Engine.segment`;
    it needs the npm package onnxruntime-web, in node_modules or in the folder `onnxruntime_web`. force: replace an
    earlier package. Raises BundleError (damaged), UsageError (the bundle cannot be used so), MissingPackageError,
    FileError.
    """
    if purpose not in PURPOSES:
        raise UsageError(
            f"there are no packages for '{purpose}'", code=Code.UNKNOWN_CHOICE,
            so=did_you_mean(purpose, PURPOSES) or f"choose from: {', '.join(PURPOSES)}",
        )  # fmt: skip
    root = Path(bundle)
    progress("checking the bundle's files")
    manifest = read_bundle(root)
    web.check(manifest)
    runtime = web.find_runtime(onnxruntime_web)
    progress("copying")
    with write_package(out, purpose, manifest, force=force) as folder:
        web.fill(folder, root, manifest, runtime)
    path = Path(out)
    return Package(path, purpose, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
