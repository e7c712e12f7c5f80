"""segc.json, format 1, as typed values. docs/bundle.md describes every field.

`Manifest.from_json` accepts exactly what `Manifest.to_json` returns: every field is present, has its type and is within
its range, and there are no other fields. Errors name the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from segc import __version__
from segc.bundle.canonical_json import canonical, sha256_of
from segc.bundle.preprocessing import Channels, Pair, Preprocessing, Side
from segc.bundle.typed import LARGEST, OMITTABLE, Number, Sha256, Within, WrongValue, decode, encode, require
from segc.errors import BundleError, Code

FORMAT = 1
NAME = "segc.json"

Count = Annotated[int, Within(0, LARGEST)]
Byte = Annotated[int, Within(0, 255)]
Range = tuple[Side, Side | None]  # both ends inclusive; None: no upper bound
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The file that the weights came from."""

    name: str
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class Source:
    """The compiled source. output, values: of several outputs the one the user chose, and what it holds, if given.

    dequantized: a quantized file was compiled in floats. random_seed: of the random numbers that were drawn once.
    """

    kind: str
    name: str
    sha256: Sha256 | None
    weights: str
    checkpoint: Checkpoint | None
    output: str | None = field(default=None, metadata=OMITTABLE)
    values: Literal["logits", "probabilities", "classes"] | None = field(default=None, metadata=OMITTABLE)
    dequantized: Literal[True] | None = field(default=None, metadata=OMITTABLE)
    random_seed: int | None = field(default=None, metadata=OMITTABLE)


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """The target, the version of its runtime at compile time, the options for its `load`, and the user's settings."""

    name: str
    runtime: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """The ranges of the sizes that `shape` leaves open. Heights and widths are multiples of `divisor`."""

    batch: Range
    height: Range
    width: Range
    divisor: Side

    def __post_init__(self) -> None:
        for name in ("batch", "height", "width"):
            low, high = getattr(self, name)
            good = low >= 1 and (high is None or high >= low)
            require(good, f"input.dynamic.{name}", [low, high], "a range that starts at 1 or above")


@dataclass(frozen=True, kw_only=True)
class Input:
    """The engine's input. shape: (N, C, H, W) for every layout; None for sizes whose range `dynamic` gives.

    dtype uint8 and layout NHWC: BGR images, which the engine normalizes itself.
    """

    name: str
    dtype: Literal["float32", "uint8"] = "float32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    shape: tuple[Side | None, Channels, Side | None, Side | None]
    dynamic: Dynamic | None

    def __post_init__(self) -> None:
        image = self.dtype == "uint8"
        require(self.layout == ("NHWC" if image else "NCHW"), "input.layout", self.layout, f"the one of {self.dtype}")
        require(not image or (self.dynamic is None and self.shape[1] == 3), "input.shape", self.shape, "static, RGB")
        open_ended = self.dynamic is None and None in self.shape
        require(not open_ended, "input.dynamic", None, "ranges for the dimensions that input.shape leaves open")

    def limits(self, axis: int) -> Range:
        """The smallest and the largest size along axis 0 (N), 2 (H) or 3 (W). A fixed size overrides a range."""
        if (side := self.shape[axis]) is not None:
            return side, side
        assert self.dynamic is not None
        return {0: self.dynamic.batch, 2: self.dynamic.height, 3: self.dynamic.width}[axis]

    def divisor(self, axis: int) -> int:
        """The number that sizes along axis 2 or 3 are multiples of."""
        return 1 if self.shape[axis] is not None or self.dynamic is None else self.dynamic.divisor


@dataclass(frozen=True, kw_only=True)
class Decode:
    """How segc's runtime makes the mask from the engine's logits (N, channels, h, w).

    resize: whether it first resizes them to the input's size, with inference.align_corners.
    """

    resize: bool


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a run: logits (N, channels, H, W) or a mask (N, H, W). With `decode`, the engine returns logits.

    beside: the engine returns the mask, and on demand the logits it is made from, which `segment` decodes so.
    """

    name: str
    kind: Literal["logits", "mask"]
    dtype: Literal["float32", "uint8", "uint16"]
    channels: Channels
    threshold: Number | None
    decode: Decode | None
    beside: Decode | None = field(default=None, metadata=OMITTABLE)

    def __post_init__(self) -> None:
        require(self.decode is None or self.kind == "mask", "output.decode", self.decode, "null for logits")
        require(
            self.beside is None or (self.kind == "mask" and self.decode is None), "output.beside", self.beside, "null"
        )
        wanted = "float32" if self.kind == "logits" else "uint8" if self.channels <= 256 else "uint16"
        require(self.dtype == wanted, "output.dtype", self.dtype, f"{wanted} for {self.channels} {self.kind} channels")
        decided = self.channels > 1 or self.threshold is not None
        require(decided, "output.threshold", None, "a number for a head with one channel")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Inference on whole images, or on patches of `crop` every `stride` pixels, both (height, width).

    direct: logits go to the image's size in one step, not by way of the size of the network's input.
    """

    mode: Literal["whole", "slide"]
    crop: Pair | None = None
    stride: Pair | None = None
    align_corners: bool
    direct: Literal[True] | None = field(default=None, metadata=OMITTABLE)

    def __post_init__(self) -> None:
        if self.mode == "whole":
            return
        require(self.crop is not None, "inference.crop", self.crop, "a size to slide")
        assert self.crop is not None
        covers = self.stride is not None and all(1 <= s <= c for s, c in zip(self.stride, self.crop, strict=True))
        require(covers, "inference.stride", self.stride, f"at least 1 x 1 and at most the crop {self.crop}")


@dataclass(frozen=True, kw_only=True)
class TestResize:
    """The Resize of the model's own test pipeline. scale: (width, height)."""

    scale: Pair | None
    keep_ratio: bool


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Other facts about the model. top_k: it selects points by top-k, so that parity is judged by pixels.

    test_cfg: as in the config. rewrites: the front-end rewrites that were applied.
    """

    num_classes: Channels
    test_cfg: Mapping[str, Any]
    test_resize: TestResize | None
    top_k: bool
    rewrites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PassRecord:
    """A pass that ran, and the number of its changes."""

    name: str
    changes: Count


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """The size and digest of a file. For report.json, those of its canonical form without `timings`."""

    sha256: Sha256
    bytes: Count


@dataclass(frozen=True, kw_only=True)
class BoundaryTensor:
    """A tensor between segments. shape: None if unknown. bytes: at the size that was compiled or traced."""

    name: str
    dtype: str
    shape: tuple[Count | None, ...] | None
    bytes: Count | None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """An engine that runs a part of the graph: its target, the runtime's version, and the options for its `load`.

    directory, files: the engine's folder and files, relative to the bundle. nodes: the number of nodes that it runs.
    """

    target: str
    runtime: str
    directory: str
    files: tuple[str, ...]
    options: Mapping[str, Any]
    nodes: Count
    inputs: tuple[BoundaryTensor, ...]
    outputs: tuple[BoundaryTensor, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of segc.json except its own digest. `write_bundle` fills in `files`."""

    source: Source
    target: TargetInfo
    precision: Precision
    input: Input
    output: Output
    preprocessing: Preprocessing
    inference: Inference
    classes: tuple[str, ...]
    palette: tuple[tuple[Byte, Byte, Byte], ...]
    model: ModelFacts
    passes: tuple[PassRecord, ...] = ()
    segments: tuple[Segment, ...] = ()  # of a hybrid bundle, in execution order
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    segc: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        try:
            self._check()
        except WrongValue as wrong:
            raise refused(wrong) from wrong

    def _check(self) -> None:
        """Check the constraints between fields. Raises WrongValue."""
        known = self.output.channels
        named = len(self.classes) == known if known > 1 else len(self.classes) in (1, 2)
        require(named, "classes", f"{len(self.classes)} names", f"one name for each of the {known} channels")
        colours = f"{len(self.palette)} colours"
        require(len(self.palette) == len(self.classes), "palette", colours, "one colour for each class")
        for name in ("mean", "std"):
            numbers = getattr(self.preprocessing, name)
            want = f"one number for each of the input's {self.input.shape[1]} channels"
            require(len(numbers) == self.input.shape[1], f"preprocessing.{name}", list(numbers), want)
        if self.inference.mode == "slide":
            require(self.output.kind == "logits", "output.kind", "mask", "logits, which overlapping windows average")
            for axis in (2, 3):
                assert self.inference.crop is not None
                fixed, crop = self.input.shape[axis], self.inference.crop[axis - 2]
                require(fixed in (None, crop), f"input.shape[{axis}]", fixed, f"{crop}, the size of the crop, or null")
        for file in self.files:
            require(is_inside(file), "files", file, "names of files below the bundle other than segc.json")
        self._check_segments()

    @property
    def hybrid(self) -> str | None:
        """'hybrid (k segments, n nodes on host)', or None if one engine runs all nodes."""
        if not self.segments:
            return None
        nodes = sum(segment.nodes for segment in self.segments if segment.target != self.target.name)
        return hybrid_text(len(self.segments), nodes)

    def _check_segments(self) -> None:
        """Check that each segment reads available tensors, and that a segment writes the output. Raises WrongValue."""
        known = {self.input.name}
        for at, segment in enumerate(self.segments):
            name = f"segments[{at}]"
            require(is_inside(segment.directory), f"{name}.directory", segment.directory, "a folder below the bundle")
            for file in segment.files if self.files else ():
                listed = file in self.files and file.startswith(f"{segment.directory}/")
                require(listed, f"{name}.files", file, f"names below {segment.directory} that `files` lists")
            for tensor in segment.inputs:
                require(tensor.name in known, f"{name}.inputs", tensor.name, "an output of an earlier segment")
            known |= {tensor.name for tensor in segment.outputs}
        gives = not self.segments or self.output.name in known
        require(gives, "segments", len(self.segments), f"a segment that writes the output '{self.output.name}'")

    def to_json(self) -> dict[str, Any]:
        """The content of segc.json, including its own digest."""
        value: dict[str, Any] = encode(self)
        try:
            return {**value, "sha256": self_digest(value)}
        except (TypeError, ValueError, RecursionError) as error:
            raise BundleError(
                "the manifest cannot be written as JSON", code=Code.MANIFEST_VALUE, because=str(error)
            ) from error

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """A new manifest from all fields except `format`, `segc`, `files`, `sha256` and, if there are none, `segments`.

        Raises BundleError.
        """
        given = {"format": FORMAT, "segc": __version__, "files": {}, "segments": [], **content}
        try:
            plain = json.loads(canonical(given))
        except (TypeError, ValueError, RecursionError) as error:
            raise BundleError(
                "the manifest cannot be written as JSON", code=Code.MANIFEST_VALUE, because=str(error)
            ) from error
        return cls._decoded(plain)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Validate the content of a segc.json. Raises BundleError."""
        if not isinstance(value, dict):
            raise refused(WrongValue("the file as a whole", type(value).__name__, "an object"))
        check_format(value)
        given = {key: part for key, part in value.items() if key != "sha256"}
        if value.get("sha256") != (digest := self_digest(given)):
            raise BundleError(
                f"{NAME} is damaged",
                code=Code.MANIFEST_DAMAGED,
                because=f"its digest is {digest}, but it records {value.get('sha256')}",
                so="copy the bundle again or compile the model again; do not edit the manifest",
            )
        return cls._decoded(given)

    @classmethod
    def _decoded(cls, value: object) -> Self:
        try:
            decoded: Self = decode(cls, value)
        except WrongValue as wrong:
            raise refused(wrong) from wrong
        return decoded


def hybrid_text(segments: int, host_nodes: int) -> str:
    """The description of a hybrid bundle in reports, tables and the output of commands."""
    return f"hybrid ({segments} segments, {host_nodes} node{'s' * (host_nodes != 1)} on host)"


def self_digest(value: Mapping[str, Any]) -> str:
    """The digest of a manifest without the key `sha256`."""
    return sha256_of(canonical(value))


def check_format(value: Mapping[str, Any]) -> None:
    """Check that the format is the one that this version of segc reads. Raises BundleError."""
    found = value.get("format")
    if type(found) is not int or found < 1:
        raise refused(WrongValue("format", found, "a format number"))
    if found > FORMAT:
        raise BundleError(
            f"the bundle has format {found}; segc {__version__} reads format {FORMAT}",
            code=Code.BUNDLE_FORMAT,
            because=f"it was written by segc {value.get('segc')}",
            so="upgrade segc: pip install --upgrade segc",
        )
    if found < FORMAT:
        raise BundleError(
            f"the bundle has the old format {found}; segc {__version__} reads format {FORMAT}",
            code=Code.BUNDLE_FORMAT,
            so="compile the model again",
        )


def is_inside(name: str) -> bool:
    """Whether `name` is a plain relative path below the bundle, and not segc.json itself."""
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
    return plain and not re.search(r"[\\:\x00]", name) and name.casefold() != NAME


def refused(wrong: WrongValue) -> BundleError:
    """The error for a field with a wrong value."""
    return BundleError(
        f"{NAME} cannot be used: {wrong.name}",
        code=Code.MANIFEST_DAMAGED,
        because=f"found {wrong.found}, expected {wrong.wanted}",
        so="compile the model again",
    )
