"""The part of segc.json that says how a file becomes the engine's input: loader, steps, normalization, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from segc.bundle.typed import OMITTABLE, Matching, Number, Within, require

Side = Annotated[int, Within(1, 1 << 20)]  # of an image or a batch
Channels = Annotated[int, Within(1, 1 << 16)]
Pair = tuple[Side, Side]
Factor = Annotated[float, Within(1e-6, 1e6)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
Colour = Literal["color", "grayscale", "unchanged", "color_ignore_orientation", "grayscale_ignore_orientation"]
Decoder = Literal["cv2", "pillow", "tifffile"]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """How a file is decoded, as mmcv.imfrombytes(flag, backend) does. float32: whether it is then converted."""

    color: Colour = "color"
    decoder: Decoder = "cv2"
    float32: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether channels and types of a file stay as they are."""
        return self.color == "unchanged" or self.decoder == "tifffile"

    def channels(self, raw: int) -> int:
        """Of what it gives; `raw` where it leaves a file's channels as they are."""
        return raw if self.is_raw else 3 if self.color.startswith("color") else 1


def usual_loader(channels: int) -> Loader | None:
    """How files for a model of so many channels are decoded when it does not say: colour, grey, or as they are."""
    if channels == 3:
        return None
    if channels == 1:
        return Loader(color="grayscale")
    return Loader(color="unchanged", decoder="cv2" if channels == 4 else "tifffile")  # OpenCV knows up to 4


@dataclass(frozen=True, kw_only=True)
class Resize:
    """mmseg's Resize. scale: (width, height)."""

    scale: Pair
    keep_ratio: bool


@dataclass(frozen=True, kw_only=True)
class ResizeStep:
    """mmcv's Resize with all of its settings. scale: (width, height); factor: (of the width, of the height)."""

    step: Literal["resize"] = "resize"
    scale: Pair | None = None
    factor: tuple[Factor, Factor] | None = None
    keep_ratio: bool = False
    interpolation: Interpolation = "bilinear"
    backend: Literal["cv2", "pillow"] = "cv2"

    def __post_init__(self) -> None:
        one = (self.scale is None) != (self.factor is None)
        require(one, "preprocessing.steps", "a resize with scale and factor, or without", "one of the two")

    @property
    def is_plain(self) -> bool:
        """Whether `Resize` says as much."""
        return self.scale is not None and self == ResizeStep(scale=self.scale, keep_ratio=self.keep_ratio)


@dataclass(frozen=True, kw_only=True)
class ResizeToMultiple:
    """mmseg's ResizeToMultiple: up to the next multiples of `divisor` pixels."""

    step: Literal["resize to multiple"] = "resize to multiple"
    divisor: Side
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, kw_only=True)
class ResizeShortestEdge:
    """mmseg's ResizeShortestEdge: the shorter side gets `scale` pixels, the longer one at most `most`."""

    step: Literal["resize shortest edge"] = "resize shortest edge"
    scale: Side
    most: Side


@dataclass(frozen=True, kw_only=True)
class PillowResize:
    """The resize of torchvision's and transformers' images: by Pillow, with their rounding of sizes.

    scale: (width, height); with keep_ratio the side whose factor is nearer to 1 gets its length, and both are rounded
    to the nearest `multiple`. shortest: of the shorter side, the longer one gets at most `longest`; both are then
    rounded up to a `multiple`.
    """

    step: Literal["pillow resize"] = "pillow resize"
    scale: Pair | None = None
    keep_ratio: bool = False
    shortest: Side | None = None
    longest: Side | None = None
    multiple: Side = 1
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __post_init__(self) -> None:
        one = (self.scale is None) != (self.shortest is None)
        require(one, "preprocessing.steps", "a resize with scale and shortest, or without", "one of the two")
        require(self.longest is None or self.shortest is not None, "preprocessing.steps", self.longest, "with shortest")


@dataclass(frozen=True, kw_only=True)
class PadStep:
    """mmcv's Pad, before normalization, to the right and bottom. size: (width, height). values: one, or one each."""

    step: Literal["pad"] = "pad"
    size: Pair | None = None
    divisor: Side | None = None
    square: bool = False
    values: tuple[Number, ...] = (0.0,)
    mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"


@dataclass(frozen=True, kw_only=True)
class CenterCrop:
    """mmcv's CenterCrop without padding. size: (width, height). floor: as transformers round the margin."""

    step: Literal["center crop"] = "center crop"
    size: Pair
    floor: Literal[True] | None = field(default=None, metadata=OMITTABLE)


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """mmcv's Normalize: x - mean, times 1 / std in float64. swap: the first three channels change places before."""

    step: Literal["normalize"] = "normalize"
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    swap: bool

    def __post_init__(self) -> None:
        require(all(self.std), "preprocessing.steps", list(self.std), "numbers other than 0")


@dataclass(frozen=True, kw_only=True)
class Gray:
    """mmseg's RGB2Gray: the weighted sum of the channels, in `channels` equal ones."""

    step: Literal["gray"] = "gray"
    weights: tuple[Number, ...]
    channels: Channels


@dataclass(frozen=True, kw_only=True)
class Clahe:
    """mmseg's CLAHE: adaptive equalization of histograms, channel by channel, in 8 bits."""

    step: Literal["clahe"] = "clahe"
    limit: Number
    grid: Pair


@dataclass(frozen=True, kw_only=True)
class Gamma:
    """mmseg's AdjustGamma, in 8 bits."""

    step: Literal["gamma"] = "gamma"
    gamma: Factor


@dataclass(frozen=True, kw_only=True)
class Rerange:
    """mmseg's Rerange: the image's smallest and largest value become `low` and `high`."""

    step: Literal["rerange"] = "rerange"
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class OwnStep:
    """A transform of one's own: a Python class that takes and returns mmcv's dictionary of results.

    It is run only where the caller allows it. settings: the arguments that it is made with.
    """

    step: Literal["own"] = "own"
    module: Annotated[str, Matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "the dotted name of a module")]
    name: Annotated[str, Matching(r"[A-Za-z_]\w*", "the name of a class")]
    settings: Mapping[str, Any]


Step = (
    ResizeStep | ResizeToMultiple | ResizeShortestEdge | PillowResize | PadStep | CenterCrop | Normalize | Gray | Clahe
    | Gamma | Rerange | OwnStep
)  # fmt: skip
# What changes height and width
SIZING = (ResizeStep, ResizeToMultiple, ResizeShortestEdge, PillowResize, PadStep, CenterCrop)


@dataclass(frozen=True, kw_only=True)
class Pad:
    """mmseg's padding to the right and bottom, after normalization. size: the minimum (height, width).

    kept: whether the padding stays in the logits when they are resized to the image, as with preprocessors that do not
    tell mmseg of it.
    """

    size: Pair | None = None
    divisor: Side | None = None
    value: Number = 0.0
    kept: bool | None = field(default=None, metadata=OMITTABLE)

    def __post_init__(self) -> None:
        require(self.size is None or self.divisor is None, "preprocessing.pad", "size and divisor", "one of the two")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps from a file to the engine's input. mean and std are in the order of `channel_order`.

    loader: None decodes BGR of 8 bits. steps: in place of `resize`, for what it does not describe. table: for images of
    8 bits, the network's value of each of the 256 pixel values, for each channel, in place of mean and std.
    """

    channel_order: Literal["RGB", "BGR"]
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    resize: Resize | None
    pad: Pad
    loader: Loader | None = field(default=None, metadata=OMITTABLE)
    steps: tuple[Step, ...] | None = field(default=None, metadata=OMITTABLE)
    table: tuple[tuple[Number, ...], ...] | None = field(default=None, metadata=OMITTABLE)

    def __post_init__(self) -> None:
        require(all(self.std), "preprocessing.std", self.std, "numbers other than 0")
        require(self.resize is None or self.steps is None, "preprocessing.resize", self.resize, "null beside steps")
        if self.table is not None:
            full = len(self.table) == len(self.mean) and all(len(values) == 256 for values in self.table)
            require(full, "preprocessing.table", f"{len(self.table)} rows", "256 numbers for each channel")

    @property
    def is_plain(self) -> bool:
        """Whether only sizes, the order of channels, mean and std stand between an 8-bit image and the network."""
        usual = self.loader is None or (self.loader.channels(0) == 3 and not self.loader.is_raw)
        return usual and self.table is None and all(isinstance(step, SIZING) for step in self.chain)

    @property
    def chain(self) -> tuple[Step, ...]:
        """What is done to the decoded image before normalization, in order."""
        if self.steps is not None or self.resize is None:
            return self.steps or ()
        return (ResizeStep(scale=self.resize.scale, keep_ratio=self.resize.keep_ratio),)


def at_size(steps: Sequence[Step], size: tuple[int, int]) -> tuple[Step, ...]:
    """The steps for an engine of one `size` (height, width): the first that changes sizes resizes to it, others go."""
    to: Step = ResizeStep(scale=(size[1], size[0]))
    first = next((at for at, step in enumerate(steps) if isinstance(step, SIZING)), len(steps))
    if first < len(steps) and isinstance(by := steps[first], PillowResize):
        to = PillowResize(scale=(size[1], size[0]), interpolation=by.interpolation)
    rest = tuple(step for step in steps[first:] if not isinstance(step, SIZING))
    return (*steps[:first], to, *rest)
