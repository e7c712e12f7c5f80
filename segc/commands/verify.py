"""`segc.verify`: check a bundle's files, and compare its engine with the model that it was compiled from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segc import targets
from segc.bundle.manifest import Input, Manifest
from segc.bundle.store import read_bundle
from segc.compilation import file_gate, randomness
from segc.compilation.file_gate import FileCase
from segc.compilation.guarded import guarded_libraries
from segc.errors import Code, ParityError, SourceError
from segc.frontend.given import Given
from segc.frontend.model import Source
from segc.frontend.named import split
from segc.frontend.source import is_onnx, open_source, zoo_names
from segc.golden import result
from segc.golden.result import KitResult
from segc.parity import metrics, rounding, sample_inputs
from segc.parity.limits import Limits, by_pixels, limits_of
from segc.parity.reference import reference_of
from segc.runtime.engine import Engine, load
from segc.suggestions import checked_keywords

_FREE_SIZE = (384, 640)  # (H, W) for a dynamic engine, rounded up to its divisor


@dataclass(frozen=True)
class Verification:
    """Comparisons within the limits. files: with the source's own way from a file to a mask.

    hybrid: 'hybrid (...)' if two runtimes share the model, else None. kit: what was found on another machine, which
    `cases` and `files` are then empty for.
    """

    bundle: Path
    cases: tuple[metrics.Case, ...]
    files: tuple[FileCase, ...]
    limits: Limits
    hybrid: str | None
    kit: KitResult | None = None


@checked_keywords
def verify(
    bundle: str | Path,
    *,
    source: str | Path | None = None,
    checkpoint: str | Path | None = None,
    allow_mismatch: bool = False,
    images: str | Path | None = None,
    kit_result: str | Path | None = None,
    max_error: float | None = None,
    min_agreement: float | None = None,
    public_key: str | Path | None = None,
    threads: int = 0,
    memory_limit: float | None = None,
    time_limit: float | None = None,
    channels: int | None = None,
    skip_transforms: Sequence[str] = (),
    allow_file_difference: bool = False,
    python: bool = False,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare a bundle's engine with its source on noise and a photograph, or on the user's images.

    images: a file or folder; each image is preprocessed as `segment` does. kit_result: judge what the checker of
    a kit (`segc.kit`) found on another machine instead; nothing runs here. public_key: a key of minisign, as a file or
    in base64, that must have signed the bundle. memory_limit (GiB), time_limit (seconds): of libraries that look at an
    ONNX source. channels, skip_transforms, allow_file_difference: as at compile time. python: as in `segc.load`.
    trust_remote_code: as at compile time.
    Raises BundleError (damaged or not signed), SourceError (another source or checkpoint), ParityError (a limit is
    missed).
    """
    progress("checking the bundle's files")
    if kit_result is not None:
        return _of_kit(Path(bundle), Path(kit_result), public_key, max_error, min_agreement)
    engine = load(bundle, threads=threads, public_key=public_key, python=python)
    own = targets.get(engine.manifest.target.name).limits
    limits = limits_of(own, engine.manifest.precision, max_error, min_agreement)
    if engine.manifest.model.top_k:
        limits = by_pixels(limits)
    progress("opening the source")
    named = pictures(engine, Path(images)) if images is not None else standard(engine.manifest)
    of_file = source is not None and is_onnx(source)
    with guarded_libraries(str(source), memory_limit, time_limit) if of_file else nullcontext():
        opened = open_same(
            engine.manifest, source, checkpoint=checkpoint, allow_mismatch=allow_mismatch, channels=channels,
            skip_transforms=skip_transforms, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        progress("comparing")
        cases = metrics.run_cases(
            reference_for(engine.manifest, opened), lambda x: next(iter(engine.run(x).values())), named,
            engine.manifest.output.threshold,
            rounding.measure(opened, engine.manifest.precision, images=engine.manifest.input.dtype == "uint8"),
            limits.agreement,
        )  # fmt: skip
    if missed := metrics.failures(cases, limits):
        raise ParityError(
            f"the {engine.manifest.target.name} engine does not compute what its source computes",
            code=Code.VERIFY_FAILED,
            because=missed,
            so=metrics.ADVICE,
        )
    files = _on_files(engine, opened, limits, allow_file_difference, progress)
    return Verification(Path(bundle), tuple(cases), files, limits, engine.manifest.hybrid)


def _of_kit(
    bundle: Path, path: Path, public_key: str | Path | None, max_error: float | None, min_agreement: float | None
) -> Verification:
    """Judge the result file of a kit by the bundle's limits. Raises ParityError, FileError, BundleError."""
    manifest = read_bundle(bundle, public_key)
    limits = limits_of(targets.get(manifest.target.name).limits, manifest.precision, max_error, min_agreement)
    if manifest.model.top_k:
        limits = by_pixels(limits)
    found = result.read(path, bundle)
    if missed := found.failures(limits):
        raise ParityError(
            f"in {found.runtime}, on {found.machine or 'a machine'}, the engine does not compute what its source does",
            code=Code.VERIFY_FAILED, because=missed, where=str(path),
            so=["try another version of the runtime there, or other options of the target", *metrics.ADVICE[1:]],
        )  # fmt: skip
    return Verification(bundle, (), (), limits, manifest.hybrid, found)


def open_same(
    manifest: Manifest, source: str | Path | None, *, checkpoint: str | Path | None, allow_mismatch: bool,
    channels: int | None, skip_transforms: Sequence[str], trust_remote_code: bool,
) -> Source:  # fmt: skip
    """Open what a bundle was compiled from, with its random numbers: the source, or the one of its name.

    Raises SourceError.
    """
    opened = open_source(
        source or _source_name(manifest), checkpoint=checkpoint, allow_mismatch=allow_mismatch,
        mode=manifest.inference.mode, channels=channels, skipped=tuple(skip_transforms),
        given=_given(manifest, trust_remote_code),
    )  # fmt: skip
    _require_same(manifest, opened)
    return randomness.settle(opened, manifest.source.random_seed, manifest.input.shape)[0]


def _on_files(
    engine: Engine, opened: Source, limits: Limits, allowed: bool, progress: Callable[[str], None]
) -> tuple[FileCase, ...]:
    """`segment` against the source's own code on pictures. Raises ParityError unless `allowed`."""
    if opened.on_files is None:
        return ()
    progress("comparing on a file")
    bound = rounding.measure(opened, engine.manifest.precision, images=False)
    found = file_gate.check(engine, opened.on_files, limits, rounding=bound)
    if found.failures and not allowed:
        raise ParityError(
            "`segment` differs from the source's own way from a file to a mask",
            code=Code.FILES_DIFFER,
            because=list(found.failures),
            so="compile the model again, or --allow-file-difference if you know the reason",
        )
    return found.cases


def reference_for(manifest: Manifest, opened: Source) -> Callable[[np.ndarray], np.ndarray]:
    """The source's logits for inputs as the engine takes them."""
    if manifest.output.kind == "mask" and opened.info.direct:
        from segc.frontend.logits_model import grown

        opened = grown(opened)
    reference, pre = reference_of(opened), manifest.preprocessing
    if manifest.input.dtype == "uint8":
        return sample_inputs.of_images(reference, pre.mean, pre.std, pre.channel_order)
    return reference


def _given(manifest: Manifest, trust_remote_code: bool) -> Given | None:
    """What the user said about the output at compile time."""
    if manifest.source.kind == "mmseg":
        return None
    return Given(
        classes=manifest.classes, output_name=manifest.source.output, output_values=manifest.source.values,
        dequantize=bool(manifest.source.dequantized), trust_remote_code=trust_remote_code,
    )  # fmt: skip


def _source_name(manifest: Manifest) -> str:
    kind, name = manifest.source.kind, manifest.source.name
    if (kind == "mmseg" and name in zoo_names()) or split(name) is not None:
        return name
    raise SourceError(
        f"the bundle was compiled from '{manifest.source.name}', which is not in the zoo",
        code=Code.SOURCE_CHANGED,
        so="name it after the bundle: segc verify BUNDLE SOURCE, segc kit BUNDLE SOURCE",
    )


def _require_same(manifest: Manifest, source: Source) -> None:
    """Check that source and checkpoint have the digests that the bundle records. Raises SourceError."""
    info = source.info
    if info.sha256 != manifest.source.sha256:
        raise SourceError(
            f"'{info.name}' is not what the bundle was compiled from",
            code=Code.SOURCE_CHANGED,
            because=f"its sha256 is {info.sha256[:16]}..., the bundle records {str(manifest.source.sha256)[:16]}...",
            so="give the same file as at compile time, or compile again",
        )
    recorded = manifest.source.checkpoint.sha256 if manifest.source.checkpoint else None
    given = info.checkpoint["sha256"] if info.checkpoint else None
    if recorded != given:
        raise SourceError(
            "the checkpoint is not the one the bundle was compiled with",
            code=Code.SOURCE_CHANGED,
            because=f"the bundle records {manifest.source.checkpoint.name if manifest.source.checkpoint else 'none'}",
            so="give the same file with --checkpoint" if recorded else "omit --checkpoint",
        )


def standard(manifest: Manifest) -> Iterator[tuple[str, np.ndarray]]:
    """Noise and the photograph, at the engine's size or a usual one."""
    batch, channels, height, width = manifest.input.shape
    divisor = manifest.input.dynamic.divisor if manifest.input.dynamic else 1
    sides = [s or -(-free // divisor) * divisor for s, free in zip((height, width), _FREE_SIZE, strict=True)]
    if manifest.input.dtype == "uint8":
        return sample_inputs.image_inputs((batch or 1, channels, sides[0], sides[1]))
    pre = manifest.preprocessing
    return sample_inputs.inputs((batch or 1, channels, sides[0], sides[1]), pre.mean, pre.std, pre.channel_order)


def pictures(engine: Engine, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The preprocessed images; for a sliding window, the window in the upper left corner."""
    from segc.runtime.images import find_images
    from segc.runtime.preprocessing import preprocess, resized

    for image in find_images([path]):
        if engine.manifest.input.dtype == "uint8":
            yield image.path.name, resized(engine.read(image.path), engine.manifest.preprocessing, engine.own)[None]
            continue
        x, _ = preprocess(engine.read(image.path), engine.manifest.preprocessing, engine.own)
        yield image.path.name, _window(x, engine.manifest.input)


def _window(x: np.ndarray, wanted: Input) -> np.ndarray:
    """`x` cropped, or padded with zeros, at the right and bottom to a size that the engine takes."""
    sides = []
    for axis in (2, 3):
        divisor, (low, _) = wanted.divisor(axis), wanted.limits(axis)
        sides.append(wanted.shape[axis] or max(low, -(-x.shape[axis] // divisor) * divisor))
    x = x[:, :, : sides[0], : sides[1]]
    return np.pad(x, ((0, 0), (0, 0), (0, sides[0] - x.shape[2]), (0, sides[1] - x.shape[3])))
