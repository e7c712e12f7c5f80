"""`segc.package`: make a bundle ready for where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segc import targets
from segc.bundle.manifest import Manifest
from segc.bundle.store import read_bundle
from segc.errors import Code, UsageError
from segc.packaging import http, ovms, triton, web
from segc.packaging.folder import write_package
from segc.suggestions import checked_keywords, did_you_mean

PURPOSES = ("web", "triton", "ovms", "http")


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
    it needs the npm package onnxruntime-web, in node_modules or in the folder `onnxruntime_web`. "triton" makes a model
    repository for NVIDIA Triton's Python backend, "ovms" a folder for OpenVINO Model Server, of an engine of OpenVINO
    that takes images and gives masks, "http" a folder that runs `segc serve`, with
    what to install and a Dockerfile. force: replace an earlier package. Raises BundleError (damaged), UsageError (the
    bundle cannot be used so), MissingPackageError, FileError.
    """
    if purpose not in PURPOSES:
        raise UsageError(
            f"there are no packages for '{purpose}'", code=Code.UNKNOWN_CHOICE,
            so=did_you_mean(purpose, PURPOSES) or f"choose from: {', '.join(PURPOSES)}",
        )  # fmt: skip
    root = Path(bundle)
    progress("checking the bundle's files")
    manifest = read_bundle(root)
    fill = _filler(purpose, root, manifest, onnxruntime_web)
    progress("copying")
    with write_package(out, purpose, manifest, force=force) as folder:
        fill(folder)
    path = Path(out)
    return Package(path, purpose, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))


def _filler(purpose: str, root: Path, manifest: Manifest, onnxruntime_web: str | Path | None) -> Callable[[Path], None]:
    """What writes the package into a folder, after all that can be refused is."""
    if onnxruntime_web is not None and purpose != "web":
        raise UsageError(
            "onnxruntime-web is for pages", code=Code.CONFLICTING_OPTIONS, so="omit --onnxruntime-web, or use --for web"
        )
    if purpose == "web":
        web.check(manifest)
        runtime = web.find_runtime(onnxruntime_web)
        return lambda folder: web.fill(folder, root, manifest, runtime)
    if purpose == "http":
        http.check(manifest)
        return lambda folder: http.fill(folder, root, manifest, _requirements(manifest))
    chosen = {"triton": triton, "ovms": ovms}[purpose]
    chosen.check(manifest)
    return lambda folder: chosen.fill(folder, root, manifest)


def _requirements(manifest: Manifest) -> list[str]:
    """segc as it wrote the bundle, and the runtimes that it was compiled with. Raises UsageError."""
    parts = [(part.target, part.runtime) for part in manifest.segments] or [
        (manifest.target.name, manifest.target.runtime)
    ]
    lines = [f"segc[serve,fast]=={manifest.segc}"]
    for name, version in dict(parts).items():
        runtime = targets.runtime(name).configure(targets.runtime(name), manifest.target.settings)
        if runtime.package is None:
            raise UsageError(
                f"no package of pip has the runtime of {name}", code=Code.PACKAGE,
                so="install it on the server, and start `segc serve` there",
            )  # fmt: skip
        lines.append(f"{runtime.package.distribution}=={version}")
    return lines
