"""segc.json, format 1, as typed values; docs/bundle.md says what every field means.

`Manifest.from_json` accepts exactly what `Manifest.to_json` gives: each field present, of its type, in its range, and
none besides. Errors name the field.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from segc import __version__
from segc.bundle.canonical_json import canonical, sha256_of
from segc.errors import BundleError, Code

FORMAT = 1
NAME = "segc.json"
REPORT = "report.json"

Range = tuple[int, int | None]  # both ends included; None: no upper bound
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The file the weights came from."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """What was compiled."""

    kind: str
    name: str
    sha256: str | None
    weights: str
    checkpoint: Checkpoint | None


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """The target, the version of its runtime at compile time, what its `load` needs, and the user's settings."""

    name: str
    runtime: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """Ranges of the dimensions that `shape` leaves open; heights and widths are multiples of `divisor`."""

    batch: Range
    height: Range
    width: Range
    divisor: int

    def __post_init__(self) -> None:
        _require(self.divisor >= 1, "input.dynamic.divisor", self.divisor, "at least 1")
        for name in ("batch", "height", "width"):
            low, high = getattr(self, name)
            good = low >= 1 and (high is None or high >= low)
            _require(good, f"input.dynamic.{name}", [low, high], "a range that starts at 1 or above")


@dataclass(frozen=True, kw_only=True)
class Input:
    """The engine's input. shape: (N, C, H, W) whatever the layout, None where `dynamic` gives a range.

    dtype uint8, layout NHWC: images in BGR, which the engine normalises itself.
    """

    name: str
    dtype: Literal["float32", "uint8"] = "float32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    shape: tuple[int | None, int, int | None, int | None]
    dynamic: Dynamic | None

    def __post_init__(self) -> None:
        for at, side in enumerate(self.shape):
            _require(side is None or side >= 1, f"input.shape[{at}]", side, "at least 1")
        image = self.dtype == "uint8"
        _require(self.layout == ("NHWC" if image else "NCHW"), "input.layout", self.layout, f"the one of {self.dtype}")
        _require(not image or (self.dynamic is None and self.shape[1] == 3), "input.shape", self.shape, "static, RGB")
        open_ended = self.dynamic is None and None in self.shape
        _require(not open_ended, "input.dynamic", None, "ranges for the dimensions that input.shape leaves open")

    def limits(self, axis: int) -> Range:
        """The least and the greatest size along axis 0 (N), 2 (H) or 3 (W); a fixed size wins over a range."""
        if (side := self.shape[axis]) is not None:
            return side, side
        assert self.dynamic is not None
        return {0: self.dynamic.batch, 2: self.dynamic.height, 3: self.dynamic.width}[axis]

    def divisor(self, axis: int) -> int:
        """Sizes along axis 2 or 3 are multiples of this."""
        return 1 if self.shape[axis] is not None or self.dynamic is None else self.dynamic.divisor


@dataclass(frozen=True, kw_only=True)
class Decode:
    """What segc's runtime does with the logits (N, channels, h, w) that the engine gives, to make a mask of them.

    resize: they are resized to the input's size first, with inference.align_corners.
    """

    resize: bool


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a run gives: logits (N, channels, H, W) or a mask (N, H, W). With `decode` the engine gives logits."""

    name: str
    kind: Literal["logits", "mask"]
    dtype: Literal["float32", "uint8", "uint16"]
    channels: int
    threshold: float | None
    decode: Decode | None

    def __post_init__(self) -> None:
        _require(self.decode is None or self.kind == "mask", "output.decode", self.decode, "null for logits")
        _require(self.channels >= 1, "output.channels", self.channels, "at least 1")
        wanted = "float32" if self.kind == "logits" else "uint8" if self.channels <= 256 else "uint16"
        _require(self.dtype == wanted, "output.dtype", self.dtype, f"{wanted} for {self.channels} {self.kind} channels")
        decided = self.channels > 1 or self.threshold is not None
        _require(decided, "output.threshold", None, "a number for a head with one channel")


@dataclass(frozen=True, kw_only=True)
class Resize:
    """mmseg's Resize. scale: (width, height)."""

    scale: Pair
    keep_ratio: bool

    def __post_init__(self) -> None:
        _require(min(self.scale) >= 1, "preprocessing.resize.scale", self.scale, "at least 1 x 1")


@dataclass(frozen=True, kw_only=True)
class Pad:
    """mmseg's padding to the right and bottom, after normalisation. size: (height, width) at least."""

    size: Pair | None = None
    divisor: int | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        _require(self.size is None or self.divisor is None, "preprocessing.pad", "size and divisor", "one of the two")
        _require(self.size is None or min(self.size) >= 1, "preprocessing.pad.size", self.size, "at least 1 x 1")
        _require(self.divisor is None or self.divisor >= 1, "preprocessing.pad.divisor", self.divisor, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a BGR image to the engine's input; mean and std are in the order of `channel_order`."""

    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize | None
    pad: Pad

    def __post_init__(self) -> None:
        _require(all(self.std), "preprocessing.std", self.std, "numbers other than 0")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Whole images, or patches of `crop` every `stride` pixels, both (height, width)."""

    mode: Literal["whole", "slide"]
    crop: Pair | None = None
    stride: Pair | None = None
    align_corners: bool

    def __post_init__(self) -> None:
        if self.mode == "whole":
            return
        _require(self.crop is not None and min(self.crop) >= 1, "inference.crop", self.crop, "at least 1 x 1 to slide")
        assert self.crop is not None
        covers = self.stride is not None and all(1 <= s <= c for s, c in zip(self.stride, self.crop, strict=True))
        _require(covers, "inference.stride", self.stride, f"at least 1 x 1 and at most the crop {self.crop}")


@dataclass(frozen=True, kw_only=True)
class PassRecord:
    """A pass that ran, and how much it changed."""

    name: str
    changes: int


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size and digest of a file; for report.json those of its canonical form without `timings`."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class BoundaryTensor:
    """A tensor between engines. shape: None where unknown; bytes: at the size the model was compiled or traced at."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """An engine that runs a part of the graph: its target, the runtime's version, and what the target's `load` needs.

    directory: below the bundle; files: its engine files, below the bundle too; nodes: how many it runs.
    """

    target: str
    runtime: str
    directory: str
    files: tuple[str, ...]
    options: Mapping[str, Any]
    nodes: int
    inputs: tuple[BoundaryTensor, ...]
    outputs: tuple[BoundaryTensor, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of segc.json but its own digest. `write_bundle` fills in `files`."""

    source: Source
    target: TargetInfo
    precision: str
    input: Input
    output: Output
    preprocessing: Preprocessing
    inference: Inference
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    passes: tuple[PassRecord, ...] = ()
    segments: tuple[Segment, ...] = ()  # of a hybrid bundle, in running order
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    segc: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        known = self.output.channels
        named = len(self.classes) == known if known > 1 else len(self.classes) in (1, 2)
        _require(named, "classes", f"{len(self.classes)} names", f"one for each of the {known} channels")
        _require(len(self.palette) == len(self.classes), "palette", f"{len(self.palette)} colours", "one a class")
        byte_sized = all(0 <= part <= 255 for colour in self.palette for part in colour)
        _require(byte_sized, "palette", self.palette, "numbers from 0 to 255")
        for name in ("mean", "std"):
            numbers = getattr(self.preprocessing, name)
            want = f"one number for each of the input's {self.input.shape[1]} channels"
            _require(len(numbers) == self.input.shape[1], f"preprocessing.{name}", list(numbers), want)
        if self.inference.mode == "slide":
            _require(self.output.kind == "logits", "output.kind", "mask", "logits to slide: overlaps are averaged")
            for axis in (2, 3):
                assert self.inference.crop is not None
                fixed, crop = self.input.shape[axis], self.inference.crop[axis - 2]
                _require(fixed in (None, crop), f"input.shape[{axis}]", fixed, f"{crop}, the crop, or null")
        for file, record in self.files.items():
            _require(is_inside(file), "files", file, "names below the bundle, apart from segc.json")
            hexadecimal = re.fullmatch("[0-9a-f]{64}", record.sha256) is not None
            _require(hexadecimal, f"files.{file}.sha256", record.sha256, "64 hexadecimal digits")
        self._check_segments()

    @property
    def hybrid(self) -> str | None:
        """'hybrid (k segments, n nodes on host)', or None where one engine runs everything."""
        if not self.segments:
            return None
        nodes = sum(segment.nodes for segment in self.segments if segment.target != self.target.name)
        return hybrid_text(len(self.segments), nodes)

    def _check_segments(self) -> None:
        """Segments need what is there when they run, and the last of them gives the output."""
        known = {self.input.name}
        for at, segment in enumerate(self.segments):
            name = f"segments[{at}]"
            _require(is_inside(segment.directory), f"{name}.directory", segment.directory, "a folder below the bundle")
            for file in segment.files if self.files else ():
                listed = file in self.files and file.startswith(f"{segment.directory}/")
                _require(listed, f"{name}.files", file, f"names below {segment.directory} that `files` lists")
            for tensor in segment.inputs:
                _require(tensor.name in known, f"{name}.inputs", tensor.name, "what an earlier segment gives")
            known |= {tensor.name for tensor in segment.outputs}
        gives = not self.segments or self.output.name in known
        _require(gives, "segments", len(self.segments), f"one that gives the output '{self.output.name}'")

    def to_json(self) -> dict[str, Any]:
        """The content of segc.json, its own digest included."""
        value: dict[str, Any] = _encode(self)
        try:
            return {**value, "sha256": self_digest(value)}
        except (TypeError, ValueError) as error:
            raise BundleError(
                "the manifest cannot be written as JSON", code=Code.MANIFEST_VALUE, because=str(error)
            ) from error

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """A new manifest from all fields but `format`, `segc`, `files`, `sha256` and, where there are none, `segments`.

        Raises BundleError.
        """
        given = {"format": FORMAT, "segc": __version__, "files": {}, "segments": [], **content}
        try:
            plain = json.loads(canonical(given))
        except (TypeError, ValueError) as error:
            raise BundleError(
                "the manifest cannot be written as JSON", code=Code.MANIFEST_VALUE, because=str(error)
            ) from error
        decoded: Self = _decode(cls, plain, "")
        return decoded

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Validate the content of a segc.json. Raises BundleError."""
        if not isinstance(value, dict):
            raise refused("segc.json as a whole", type(value).__name__, "an object")
        check_format(value)
        given = {key: part for key, part in value.items() if key != "sha256"}
        if value.get("sha256") != (digest := self_digest(given)):
            raise BundleError(
                f"{NAME} is damaged",
                code=Code.MANIFEST_DAMAGED,
                because=f"its digest is {digest}, it says {value.get('sha256')}",
                so="copy the bundle again or compile the model again; the manifest is not meant to be edited",
            )
        decoded: Self = _decode(cls, given, "")
        return decoded


def hybrid_text(segments: int, host_nodes: int) -> str:
    """How reports, tables and commands call a model that two runtimes share."""
    return f"hybrid ({segments} segments, {host_nodes} node{'s' * (host_nodes != 1)} on host)"


def self_digest(value: Mapping[str, Any]) -> str:
    """The digest of a manifest that lacks the key `sha256`."""
    return sha256_of(canonical(value))


def check_format(value: Mapping[str, Any]) -> None:
    """Refuse formats other than this segc's, before anything else is read."""
    found = value.get("format")
    if type(found) is not int or found < 1:
        raise refused("format", found, "a format number")
    if found > FORMAT:
        raise BundleError(
            f"the bundle has format {found}, segc {__version__} reads format {FORMAT}",
            code=Code.BUNDLE_FORMAT,
            because=f"it was written by segc {value.get('segc')}",
            so="upgrade segc: pip install --upgrade segc",
        )
    if found < FORMAT:
        raise BundleError(
            f"the bundle has the old format {found}, segc {__version__} reads format {FORMAT}",
            code=Code.BUNDLE_FORMAT,
            so="compile the model again",
        )


def is_inside(name: str) -> bool:
    """Whether `name` is a plain relative path below the bundle, and not segc.json itself."""
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
    return plain and not re.search(r"[\\:\x00]", name) and name.casefold() != NAME


def refused(name: str, found: object, wanted: str) -> BundleError:
    """The error for a field that cannot be used."""
    return BundleError(
        f"{NAME} cannot be used: {name}",
        code=Code.MANIFEST_DAMAGED,
        because=f"found {found!r}, needed: {wanted}",
        so="compile the model again",
    )


def _require(good: bool, name: str, found: object, wanted: str) -> None:
    if not good:
        raise refused(name, found, wanted)


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        return {part.name: _encode(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: _encode(part) for key, part in value.items()}
    return [_encode(part) for part in value] if isinstance(value, (list, tuple)) else value


def _decode(kind: Any, value: Any, at: str) -> Any:
    """`value`, as json.loads gives it, as a `kind`; `at` is the dotted name of the field."""
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_fields(kind, value, at)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return None if value is None else _decode(parts[0], value, at)
    if origin is Literal:
        _require(isinstance(value, str) and value in parts, at, value, " or ".join(parts))
        return value
    if origin is Mapping:
        _require(isinstance(value, dict) and all(isinstance(key, str) for key in value), at, value, "an object")
        return {key: _decode(parts[1], part, f"{at}.{key}") for key, part in value.items()}
    if origin is tuple:
        _require(isinstance(value, list), at, value, "a list")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        _require(len(kinds) == len(value), at, value, f"{len(kinds)} entries")
        return tuple(_decode(k, part, f"{at}[{i}]") for i, (k, part) in enumerate(zip(kinds, value, strict=True)))
    return _decode_plain(kind, value, at)


def _decode_plain(kind: type, value: Any, at: str) -> Any:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
    if kind is float and type(value) is int:
        return float(value)
    _require(type(value) is kind, at, value, words)
    return value


def _decode_fields(kind: type, value: Any, at: str) -> Any:
    _require(isinstance(value, dict), at or NAME, value, "an object")
    hints, dot = get_type_hints(kind), f"{at}." if at else ""
    for key in value:
        _require(key in hints, f"{dot}{key}", value[key], "no such field")
    for key in hints:
        _require(key in value, f"{dot}{key}", "nothing", "the field")
    return kind(**{key: _decode(hint, value[key], f"{dot}{key}") for key, hint in hints.items()})
