"""`segc.kit`: a bundle with inputs, reference outputs and a checker, for a machine that has the runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc import targets
from segc.bundle.manifest import Manifest
from segc.bundle.store import read_bundle
from segc.commands import verify
from segc.compilation.guarded import guarded_libraries
from segc.frontend.source import is_onnx
from segc.golden import kit_files
from segc.packaging.folder import write_package
from segc.parity.limits import Limits, by_pixels, limits_of
from segc.runtime.engine import load
from segc.suggestions import checked_keywords


@dataclass(frozen=True)
class Kit:
    """A finished kit: its folder, the names of its cases, and the languages of its checkers."""

    path: Path
    cases: tuple[str, ...]
    checkers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"path": str(self.path), "cases": list(self.cases), "checkers": list(self.checkers)}


@checked_keywords
def kit(
    bundle: str | Path,
    *,
    source: str | Path | None = None,
    out: str | Path,
    force: bool = False,
    checkpoint: str | Path | None = None,
    allow_mismatch: bool = False,
    images: str | Path | None = None,
    max_error: float | None = None,
    min_agreement: float | None = None,
    channels: int | None = None,
    skip_transforms: Sequence[str] = (),
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Kit:
    """Write a folder that says on another machine whether its engine computes what the model computes.

    The outputs are those of the source, which must be what the bundle was compiled from. images: a file or folder, in
    place of noise and a photograph. force: replace an earlier kit. The other options are those of `verify`.
    Raises BundleError (damaged), UsageError (an engine that runs only with segc), SourceError (another source),
    FileError.
    """
    root = Path(bundle)
    progress("checking the bundle's files")
    manifest = read_bundle(root)
    kit_files.require_usable(manifest)
    limits = _limits(manifest, max_error, min_agreement)
    of_file = source is not None and is_onnx(source)
    with guarded_libraries(str(source), None, None) if of_file else nullcontext():
        progress("opening the source")
        opened = verify.open_same(
            manifest, source, checkpoint=checkpoint, allow_mismatch=allow_mismatch, channels=channels,
            skip_transforms=skip_transforms, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        reference = verify.reference_for(manifest, opened)
        given = verify.standard(manifest) if images is None else verify.pictures(load(root), Path(images))
        cases = ((name, x, reference(x)) for name, x in given)
        with write_package(out, "kit", manifest, force=force) as folder:
            names = kit_files.write(folder, root, manifest, limits, cases, progress)
            checkers = ("python", "c++") if (folder / "check.cpp").is_file() else ("python",)
    return Kit(Path(out), tuple(names), checkers)


def _limits(manifest: Manifest, max_error: float | None, min_agreement: float | None) -> Limits:
    """The limits by which `verify` judges."""
    limits = limits_of(targets.get(manifest.target.name).limits, manifest.precision, max_error, min_agreement)
    return by_pixels(limits) if manifest.model.top_k else limits
