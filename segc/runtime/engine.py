"""Running a bundle: `run` on normalised tensors, `segment` on images as `mmseg.apis.inference_model` does.

Where `segment` cannot do what mmseg does it deviates, as docs/bundle.md says:
- A static engine cannot take a patch below its size (mmseg runs the smaller patch): the patch is padded to the right
  and bottom with the preprocessing's pad value and the result cropped. The same holds for the least size and the
  divisor of a dynamic engine.
- An engine that gives masks has no logits to resize: its mask goes to the image's size by nearest neighbour. An
  engine whose masks segc's runtime makes (`output.decode` of the manifest), or that also gives the logits of its masks
  (`output.beside`), does not deviate.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from segc import ranges
from segc.bundle.manifest import Decode, Input, Manifest
from segc.bundle.preprocessing import Loader, usual_loader
from segc.bundle.store import read_bundle
from segc.bundle.typed import WrongValue, decode
from segc.errors import BundleError, Code, CompileError, MissingPackageError, ShapeError, UsageError
from segc.runtime.guard import runtime_errors
from segc.runtime.hybrid_session import HybridSession, step
from segc.runtime.images import MAX_PIXELS, as_loaded, decode_image, read_image
from segc.runtime.masks.dispatch import Via, resize_argmax, resize_threshold
from segc.runtime.own_transforms import Own, load_own
from segc.runtime.preprocessing import Floats, preprocess, resized
from segc.runtime.resize import ArrayRows, Mask, Rows, resize, resize_nearest
from segc.runtime.segmentation import Segmentation
from segc.runtime.sessions import Pool
from segc.runtime.slide import SlidingRows
from segc.suggestions import checked_keywords
from segc.targets.protocol import LogitsSession, Runtime, Session

Array = npt.NDArray[Any]

_log = logging.getLogger(__name__)


@checked_keywords
def load(
    path: Path | str,
    *,
    threads: int = 0,
    callers: int = 1,
    public_key: str | Path | None = None,
    python: bool = False,
) -> Engine:
    """Verify a bundle and load it into its runtime.

    threads: that compute one call, 0 leaves the number to the runtime. callers: how many threads will use the engine at
    the same time; more may, but what is computed at a time need not grow further. Runtimes that need it get memory for
    each caller.
    public_key: a key of minisign, as a file or in base64, that must have signed the bundle.
    python: run the transforms of one's own that the bundle names (`preprocessing.steps`), which imports their modules.
    Raises BundleError (damaged, incomplete, or not signed), MissingPackageError (runtime not installed), CompileError
    (the runtime refuses the engine). Cost: one pass over the files, and whatever the runtime does.
    """
    ranges.THREADS.require("threads", threads)
    ranges.JOBS.require("callers", callers)
    root, manifest = Path(path), read_bundle(path, public_key)
    made, settings, use = manifest.target, manifest.target.settings, _Use(threads, callers)
    own = load_own(manifest.preprocessing.chain, allowed=python, where=str(root))
    if not manifest.segments:
        where = f"{root}, made with {made.name} {made.runtime}"
        return Engine(manifest, _load(root, made.name, made.options, settings, use, where)[1], threads, own)
    steps = []
    for at, part in enumerate(manifest.segments):
        where = f"{root}, made with {part.target} {part.runtime}"
        runtime, session = _load(root / part.directory, part.target, part.options, settings, use, where)
        inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (part.inputs, part.outputs))
        steps.append(step(f"segment {at} ({part.target})", runtime.multi_io, session, inputs, outputs))
    return Engine(manifest, HybridSession(steps, manifest.input.name, manifest.output.name), threads, own)


@dataclass(frozen=True)
class _Use:
    """How an engine will be used, see `load`."""

    threads: int
    callers: int


def _load(
    directory: Path, name: str, options: Mapping[str, Any], settings: Mapping[str, str], use: _Use, where: str
) -> tuple[Runtime, Session]:
    """Load the files that one target wrote into `directory`. where: the bundle, in words."""
    from segc import targets

    if name not in targets.runtime_names():
        raise MissingPackageError(
            f"no installed package offers the target '{name}'",
            code=Code.TARGET_MISSING,
            where=where,
            so="install the package that adds it to segc",
        )
    plain = targets.runtime(name)
    _require_options(plain, name, options, where)
    runtime = plain.configure(plain, settings)
    package = runtime.package
    if package is not None and not _installed(package.module):
        raise MissingPackageError(
            f"{package.distribution} is not installed", code=Code.RUNTIME_MISSING, where=where, so=package.install
        )
    start = time.perf_counter()
    with runtime_errors(f"{name} cannot load the engine", Code.ENGINE_LOAD, where=where):
        try:
            session = _session(runtime, directory, options, use)
        except ImportError as error:
            named, so = (package.distribution, package.install) if package is not None else (name, ())
            raise MissingPackageError(
                f"{named} cannot be imported", code=Code.RUNTIME_BROKEN, because=str(error), where=where, so=so
            ) from error
    _log.info("%s loaded %s in %.3f s", name, directory, time.perf_counter() - start)
    return runtime, session


def _session(runtime: Runtime, directory: Path, options: Mapping[str, Any], use: _Use) -> Session:
    """What several threads may call at the same time."""
    if runtime.load_for is not None:
        return runtime.load_for(directory, options, use.threads, use.callers)
    if runtime.concurrent:
        return runtime.load(directory, options, use.threads)
    return Pool([runtime.load(directory, options, use.threads) for _ in range(use.callers)])


def _require_options(runtime: Runtime, name: str, options: Mapping[str, Any], where: str) -> None:
    """Refuse options that the target never writes, before its runtime, which may check nothing, sees them."""
    if runtime.options is None:
        return
    try:
        decode(runtime.options, options, "options")
    except WrongValue as wrong:
        raise BundleError(
            f"the bundle cannot be loaded with {name}: {wrong.name}",
            code=Code.MANIFEST_DAMAGED,
            because=f"found {wrong.found}, needed: {wrong.wanted}",
            where=where,
            so="compile the model again",
        ) from wrong


class Engine:
    """A bundle ready to run, in any number of threads at once: results are those of calls one after the other.

    It computes as many calls at a time as `callers` of segc.load says; ONNX Runtime and ncnn as many as come. Memory
    for intermediate results grows with the calls that run at the same time. An engine belongs to the process that
    loaded it: after a fork the child loads its own (UsageError says so), because the threads of a runtime do not come
    along.
    """

    def __init__(self, manifest: Manifest, session: Session, threads: int = 0, own: Own | None = None) -> None:
        self.manifest = manifest
        self._session = session
        self._threads = threads
        self._own: Own = own or {}
        self._process = os.getpid()

    def __repr__(self) -> str:
        m = self.manifest
        how = f"{m.target.name} {m.precision}" + (f" {m.hybrid}" if m.hybrid else "")
        return f"<segc.Engine {m.source.name}: {how}, {m.input.shape} to {m.output.kind}>"

    def run(self, x: Floats) -> dict[str, Array]:
        """x: float32 (N, 3, H, W), normalised, to {"logits": float32 (N, C, H, W)} or {"mask": uint8 (N, H, W)}.

        An engine for images takes uint8 (N, H, W, 3), BGR, of its own size instead. Batches beyond what the engine
        takes run in parts, shorter ones are filled up. Sides that are not multiples of the engine's divisor are padded
        with zeros to the right and bottom and the output is cropped.
        Raises ShapeError (rank, channels or size), UsageError (type), CompileError (the runtime failed).
        """
        check_tensor(x, self.manifest.input)
        return {self.manifest.output.kind: self._padded(x, 0.0, grow=False)}

    def _sides(self, x: Array) -> tuple[int, int]:
        """Height and width of a batch in the engine's layout."""
        at = 1 if self.manifest.input.layout == "NHWC" else 2
        return x.shape[at], x.shape[at + 1]

    def segment(self, image: npt.NDArray[np.generic], *, direct: bool = False) -> Segmentation:
        """image: uint8 (H, W, 3) BGR as cv2 reads it (also grey, BGRA, 16 bits); the mask has the image's size.

        A model that does not see 8 bits of colour (`preprocessing.loader` of the manifest) takes the array that its
        loader gives: (H, W) or (H, W, channels) in any numeric type. `read` decodes a file so.

        direct: where this runtime makes the mask from small logits, resize them to the image in one step. mmseg, and
        segc by default, resizes twice, to the network's input and then to the image; docs/masks.md has the difference.
        Raises ShapeError when the engine does not take the image's size after preprocessing, and what `run` raises.
        """
        manifest = self.manifest
        decoded = as_loaded(image, self._loader, manifest.input.shape[1])
        size = decoded.shape[:2]
        if manifest.input.dtype == "uint8":
            x: Array = resized(decoded, manifest.preprocessing, self._own)[None]
            bottom = right = 0
        else:
            x, (bottom, right) = preprocess(decoded, manifest.preprocessing, self._own)
        height, width = self._sides(x)
        kept = height - bottom, width - right
        if manifest.inference.mode == "slide":
            assert manifest.inference.crop and manifest.inference.stride
            mask = self._decide(
                SlidingRows(
                    self._forward, x, kept, manifest.output.channels, manifest.inference.crop, manifest.inference.stride
                ),
                size,
            )
        elif self._gives_small_logits():
            mask = self._from_small(x, kept, size, direct or bool(manifest.inference.direct))
        else:
            logits = manifest.output.beside is not None or manifest.output.decode is not None
            y = self._whole_logits(x) if logits else self._forward(x)
            y = y[..., : kept[0], : kept[1]]
            mask = resize_nearest(y, size) if y.ndim == 2 else self._decide(ArrayRows(y), size)
        return Segmentation(mask, manifest.classes, manifest.palette)

    def _gives_small_logits(self) -> bool:
        """Whether the engine's logits are resized by this runtime."""
        output = self.manifest.output
        if output.kind == "logits":
            return bool(self.manifest.inference.direct)
        return (output.decode or output.beside or Decode(resize=False)).resize

    def read(self, path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Array:
        """Decode an image file for `segment`, as this model's loader does. Raises FileError, MissingPackageError."""
        return read_image(path, max_pixels, self._loader)

    def decode(self, content: bytes, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Array:
        """Decode the bytes of an image file for `segment`. name: for messages. Raises as `read` does."""
        return decode_image(content, name, max_pixels, self._loader)

    @property
    def own(self) -> Own:
        """Functions of the preprocessing's steps that are Python classes."""
        return self._own

    def with_manifest(self, manifest: Manifest) -> Engine:
        """The same engine, described otherwise."""
        return Engine(manifest, self._session, self._threads, self._own)

    @property
    def _loader(self) -> Loader | None:
        return self.manifest.preprocessing.loader or usual_loader(self.manifest.input.shape[1])

    def _decide(self, logits: Rows, size: tuple[int, int], via: Via | None = None) -> Mask:
        """Logits resized to the image, as class numbers."""
        align = self.manifest.inference.align_corners
        if (threshold := self.manifest.output.threshold) is not None and logits.channels == 1:
            return resize_threshold(logits, size, align, threshold, via=via, threads=self._threads)
        return resize_argmax(logits, size, align, via=via, threads=self._threads)

    def _from_small(self, x: Array, kept: tuple[int, int], size: tuple[int, int], direct: bool) -> Mask:
        """The mask of one image, resized as mmseg does: to the input's size, cropped to `kept`, then to `size`."""
        x = self._filled(x, self.manifest.preprocessing.pad.value)
        logits, sides = self._batches(x, logits=True)[0], self._sides(x)
        via = None if (direct and kept == sides) or kept == sides == size else (sides, kept)
        return self._decide(ArrayRows(logits), size, via)

    def _whole_logits(self, x: Array) -> Array:
        """The logits (C, h, w) of one image, of an engine for masks that gives them too, at the size of its input."""
        x = self._filled(x, self.manifest.preprocessing.pad.value)
        logits, sides = self._batches(x, logits=True), self._sides(x)
        return np.asarray((logits if logits.shape[2:] == sides else self._grown_logits(logits, sides))[0])

    def _masks(self, logits: Array, size: tuple[int, int]) -> Array:
        """Masks (N, H, W) of the logits of an engine that leaves the decision to this runtime."""
        decode = self.manifest.output.decode
        assert decode is not None
        to = size if decode.resize else (logits.shape[2], logits.shape[3])
        return np.stack([self._decide(ArrayRows(one), to) for one in logits])

    def _forward(self, x: Array) -> Array:
        """One image or patch (1, 3, h, w), any size up to the engine's, to logits (C, h, w) or a mask (h, w)."""
        return np.asarray(self._padded(x, self.manifest.preprocessing.pad.value, grow=True)[0])

    def window_logits(self, x: Floats) -> Floats:
        """One window (1, C, h, w) of any size up to the engine's, normalized, to logits (classes, h, w).

        Of engines that give logits, also beside a mask or before this runtime's decision.
        """
        output = self.manifest.output
        if output.beside is None and output.decode is None:
            return self._forward(x)
        return self._whole_logits(x)[:, : x.shape[2], : x.shape[3]]

    def decide(self, logits: Floats) -> Mask:
        """Class numbers (H, W) of logits (classes, H, W) at the size of the mask."""
        return self._decide(ArrayRows(logits), (logits.shape[1], logits.shape[2]))

    @property
    def loader(self) -> Loader | None:
        """How `read` decodes files; None for 8 bits of colour."""
        return self._loader

    def filled(self, x: Array) -> Array:
        """`x` (1, C, H, W) padded by the preprocessing's value to a size the engine takes."""
        return self._filled(x, self.manifest.preprocessing.pad.value)

    def _filled(self, x: Array, value: float) -> Array:
        """`x` padded to the right and bottom to a size the engine takes."""
        if self.manifest.input.layout == "NHWC":
            return x
        sides = [accepted(x.shape[axis], axis, self.manifest.input) for axis in (2, 3)]
        more = [(0, wanted - side) for wanted, side in zip(sides, x.shape[2:], strict=True)]
        return np.pad(x, ((0, 0), (0, 0), *more), constant_values=value) if any(map(any, more)) else x

    def _padded(self, x: Array, value: float, *, grow: bool) -> Array:
        """Run `x` padded to a size the engine takes and crop the output; `grow`: the output takes the input's size."""
        height, width = self._sides(x)
        x = self._filled(x, value)
        sides = [*self._sides(x)]
        y = self._batches(x)
        if self.manifest.output.decode is not None:
            y = self._masks(y, (sides[0], sides[1]))
        if grow and [*y.shape[-2:]] != sides:
            y = self._grown(y, (sides[0], sides[1]))
        kept = [-(-side * out // whole) for side, out, whole in zip((height, width), y.shape[-2:], sides, strict=True)]
        return np.ascontiguousarray(y[..., : kept[0], : kept[1]])

    def _grown(self, y: Array, size: tuple[int, int]) -> Array:
        """Outputs of a smaller side than the input's, as mmseg's encode_decode resizes them."""
        if self.manifest.output.kind == "mask":
            return np.stack([resize_nearest(mask, size) for mask in y])
        return self._grown_logits(y, size)

    def _grown_logits(self, y: Array, size: tuple[int, int]) -> Array:
        return np.stack([resize(logits, size, self.manifest.inference.align_corners) for logits in y])

    def _batches(self, x: Array, *, logits: bool = False) -> Array:
        """Run any batch in parts of a size the engine takes. logits: those beside a mask, where there are some."""
        least, most = self.manifest.input.limits(0)
        step = most or len(x)
        parts = [self._call(x[at : at + step], least, logits) for at in range(0, len(x), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _call(self, x: Array, least: int, logits: bool) -> Array:
        if os.getpid() != self._process:
            raise _other_process(self._process)
        wanted = len(x)
        if wanted < least:
            x = np.concatenate([x, np.repeat(x[-1:], least - wanted, axis=0)])
        where = f"input {self.manifest.input.name} {x.dtype}{list(x.shape)}"
        with runtime_errors(f"{self.manifest.target.name} failed", Code.ENGINE_RUN, where=where):
            session, output = self._session, self.manifest.output
            beside = logits and output.beside is not None
            run = cast(LogitsSession, session).run_logits if beside else session.run
            y = run(np.ascontiguousarray(x))
        logits = beside or output.kind == "logits" or output.decode is not None
        fixed = (len(x), output.channels) if logits else (len(x),)
        if y.ndim != len(fixed) + 2 or y.shape[: len(fixed)] != fixed:
            raise CompileError(
                f"{self.manifest.target.name} gave an output of shape {y.shape}",
                code=Code.ENGINE_OUTPUT,
                because=f"the bundle promises {'logits' if logits else 'mask'} ({', '.join(map(str, fixed))}, H, W)",
            )
        return y[:wanted].astype(np.float32 if logits else output.dtype, copy=False)


def check_tensor(x: object, wanted: Input) -> None:
    """Refuse what `Engine.run` cannot take."""
    if not isinstance(x, np.ndarray):
        raise UsageError(
            f"the input is a {type(x).__name__}",
            code=Code.INPUT_TYPE,
            because="a NumPy array is needed",
            so=_to_numpy(x),
        )
    if wanted.dtype == "uint8":
        return _check_images(x, wanted)
    if x.dtype != np.float32:
        raise UsageError(
            f"the input is {x.dtype}, float32 is needed", code=Code.INPUT_TYPE, so="convert it: x.astype('float32')"
        )
    shown = f"({', '.join('?' if side is None else str(side) for side in wanted.shape)})"
    if x.ndim != 4:
        raise ShapeError(
            f"the input has {x.ndim} dimensions",
            code=Code.INPUT_SHAPE,
            because=f"the engine takes (N, C, H, W) = {shown}",
        )
    if not len(x):
        raise ShapeError("the batch is empty", code=Code.INPUT_SHAPE, because=f"the engine takes {shown}")
    if x.shape[1] != wanted.shape[1]:
        swapped = x.shape[3] == wanted.shape[1]
        raise ShapeError(
            f"the input has {x.shape[1]} channels",
            code=Code.INPUT_SHAPE,
            because=f"the engine takes {shown}",
            so="move the channels first: x.transpose(0, 3, 1, 2)" if swapped else (),
        )
    for axis in (2, 3):
        if x.shape[axis] < wanted.limits(axis)[0]:
            raise _out_of_range(x.shape[axis], axis, wanted)
        accepted(x.shape[axis], axis, wanted)


def _check_images(x: Array, wanted: Input) -> None:
    if x.dtype != np.uint8:
        raise UsageError(
            f"the input is {x.dtype}, uint8 is needed", code=Code.INPUT_TYPE,
            because="the engine normalises images itself",
            so="give the image as cv2 reads it, or compile without --input uint8",
        )  # fmt: skip
    shape = wanted.shape[2], wanted.shape[3], wanted.shape[1]
    if x.ndim != 4 or not len(x) or x.shape[1:] != shape:
        raise ShapeError(
            f"the input has shape {x.shape}",
            code=Code.INPUT_SHAPE,
            because=f"the engine takes (N, H, W, C) = (N, *{shape})",
        )


def accepted(side: int, axis: int, wanted: Input) -> int:
    """The least size from `side` on that the engine takes along axis 2 or 3. Raises ShapeError."""
    low, high = wanted.limits(axis)
    divisor = wanted.divisor(axis)
    size = -(-max(side, low) // divisor) * divisor
    if high is not None and size > high:
        raise _out_of_range(side, axis, wanted)
    return size


def _out_of_range(side: int, axis: int, wanted: Input) -> ShapeError:
    low, high = wanted.limits(axis)
    limits = str(low) if low == high else f"{low} to {high}" if high else f"{low} and more"
    divisor = f", multiples of {wanted.divisor(axis)}" if wanted.divisor(axis) > 1 else ""
    return ShapeError(
        f"the {'height' if axis == 2 else 'width'} {side} is outside of what the engine takes",
        code=Code.ENGINE_SHAPE,
        because=f"it takes {limits} pixels{divisor}",
        so="compile the model with --dynamic or for this --shape",
    )


def _other_process(owner: int) -> UsageError:
    return UsageError(
        "the engine was loaded in another process",
        code=Code.ENGINE_OF_OTHER_PROCESS,
        because=f"process {owner} loaded it and this one is a fork of it; a runtime's threads are not copied by a fork",
        so="call segc.load in each process, and start processes with multiprocessing's 'spawn' or 'forkserver'",
    )


def _to_numpy(x: object) -> str:
    return "convert it: x.detach().cpu().numpy()" if type(x).__module__.startswith("torch") else "use numpy.asarray"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
