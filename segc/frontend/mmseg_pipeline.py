"""The test pipeline of an mmseg config as the steps that segc's runtime repeats, each built and read by mmseg itself.

A transform is known by its class, whether the config names it or holds the class (Python-style configs). What segc has
no step for is refused by name, and left out, with a note, where the user says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from segc.bundle import preprocessing as steps
from segc.bundle.typed import WrongValue, decode, encode
from segc.errors import Code, SourceError
from segc.frontend.model import Notes
from segc.frontend.quiet import quiet

_STOCK = ("mmcv.transforms", "mmseg.datasets.transforms")
_PAIRS = ("scale", "scale_factor", "size", "crop_size", "tile_grid_size", "weights")  # JSON and YAML make them lists
_HARMLESS = {"__init__", "__repr__", "__doc__"}


class Unknown(ValueError):  # noqa: N818 - becomes a SourceError that names the transform
    """Why a transform has no step."""


@dataclass(frozen=True)
class Part:
    """A transform of the pipeline: as mmseg builds it, and its steps here."""

    config: Mapping[str, Any]
    steps: tuple[steps.Step, ...] = ()
    loads: bool = False


@dataclass(frozen=True)
class FilePipeline:
    """loader: None for 8 bits of colour. parts: without annotations."""

    loader: steps.Loader | None = None
    parts: tuple[Part, ...] = ()

    @property
    def steps(self) -> tuple[steps.Step, ...]:
        """Of all parts, in order."""
        return tuple(step for part in self.parts for step in part.steps)


def read_pipeline(config: Any, skipped: Collection[str], notes: Notes) -> FilePipeline:
    """The steps of a config's test pipeline. skipped: names of transforms to leave out. Raises SourceError."""
    import mmseg.datasets  # registers the transforms  # noqa: F401

    loader: steps.Loader | None = None
    parts: list[Part] = []
    for given in _flat(_given(config)):
        settings = {key: _tuples(key, value) for key, value in given.items()}
        name, transform = _built(settings)
        if name in skipped:
            notes.add(f"--skip-transform: `segment` leaves out the step '{name}' of the test pipeline")
            continue
        if name.startswith("Load") and name.endswith(("Annotations", "Annotation")):
            continue
        try:
            made, loads = _read(transform, settings, not parts)
        except (Unknown, WrongValue) as why:
            raise refused(name, str(why)) from why
        if loads and parts:
            raise refused(name, "it is not the first step")
        loader = made if loads else loader  # type: ignore[assignment]
        if not loads and any(isinstance(step, steps.OwnStep) for step in made):  # type: ignore[union-attr]
            notes.add(
                f"the step '{name}' of the test pipeline is Python code of one's own: the bundle names its class and"
                " needs it where it runs (`segc run --python`, `segc.load(..., python=True)`)"
            )
        parts.append(Part(settings, () if loads else made, loads))  # type: ignore[arg-type]
    return FilePipeline(None if loader == steps.Loader() else loader, tuple(parts))


def refused(name: str, because: str) -> SourceError:
    """The error for a step that `segment` cannot repeat."""
    return SourceError(
        f"`segment` cannot repeat the step '{name}' of the config's test pipeline",
        code=Code.TEST_PIPELINE,
        because=because,
        so=f"--skip-transform {name} leaves it out, and masks then differ from mmseg's; or do it to the images before",
    )


def _given(config: Any) -> Sequence[Any]:
    """The pipeline that mmseg.apis.inference_model runs, or the test dataset's where there is no such key."""
    if config.get("test_pipeline"):
        return config["test_pipeline"]  # type: ignore[no-any-return]
    dataset = (config.get("test_dataloader") or {}).get("dataset") or {}
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), Mapping):  # wrappers nest it
        dataset = dataset["dataset"]
    return dataset.get("pipeline") or ()


def _flat(given: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    for step in given:
        if _name(step["type"]) == "Compose":
            yield from _flat(step["transforms"])
        else:
            yield step


def _name(kind: Any) -> str:
    return str(kind).rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def _tuples(key: str, value: Any) -> Any:
    return tuple(value) if key in _PAIRS and isinstance(value, list) else value


def _built(settings: Mapping[str, Any]) -> tuple[str, Any]:
    from mmseg.registry import TRANSFORMS

    name = _name(settings["type"])
    if name in ("TestTimeAug", "MultiScaleFlipAug"):
        raise refused(name, "it makes several pictures of each, whose masks are averaged: segc runs one")
    try:
        with quiet():
            return name, TRANSFORMS.build(dict(settings))
    except Exception as error:  # constructors may raise anything, and names may be unknown
        text = str(error).splitlines()[0] if str(error) else ""
        raise refused(name, f"it cannot be built: {type(error).__name__}: {text}") from error


def _own(kind: type, settings: Mapping[str, Any], first: bool) -> tuple[steps.Step, ...]:
    """A transform of one's own, which Python runs where it runs the bundle. Raises Unknown if it cannot be found."""
    where = f"{kind.__module__}.{kind.__qualname__}"
    if first:
        raise Unknown(f"it loads files by code of its own ({where})")
    module = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__" or getattr(module, kind.__name__, None) is not kind:
        raise Unknown(f"its class cannot be imported by name ({where})")
    given = {name: value for name, value in settings.items() if name != "type"}
    try:
        plain = json.loads(json.dumps(given))
    except (TypeError, ValueError) as error:
        raise Unknown(f"its settings are no plain values: {error}") from error
    if type(kind(**plain)) is not kind:
        raise Unknown(f"it is not made by its class ({where})")
    return (steps.OwnStep(module=kind.__module__, name=kind.__name__, settings=plain),)


def _read(
    transform: Any, settings: Mapping[str, Any], first: bool
) -> tuple[tuple[steps.Step, ...] | steps.Loader, bool]:
    """The steps, or the loader, of a transform, and whether it loads. Raises Unknown."""
    kind = type(transform)
    stock = next((c for c in kind.__mro__ if c.__module__.startswith(_STOCK)), None)
    own = [c for c in kind.__mro__[: kind.__mro__.index(stock) if stock else None] if c is not object]
    changed = sorted({name for c in own for name, part in vars(c).items() if callable(part)} - _HARMLESS)
    if stock is None or changed:
        return _own(kind, settings, first), False
    if stock.__name__ in _LOADERS:
        loads = getattr(transform, "from_file", transform)
        colour, decoder = loads.color_type, cast(steps.Decoder, loads.imdecode_backend or "cv2")
        if decoder not in get_args(steps.Decoder):
            raise Unknown(f"it decodes by '{decoder}'")
        return steps.Loader(color=colour, decoder=decoder, float32=bool(loads.to_float32)), True
    if (read := _KNOWN.get(stock.__name__)) is None:
        raise Unknown("it is random, or not for test time" if "Random" in stock.__name__ else "segc has no step for it")
    made = tuple(read(transform))
    for step in made:  # numbers within the manifest's ranges
        decode(type(step), _plain(encode(step)), "the step")
    return made, False


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _interpolation(value: str | None, backend: str = "cv2") -> Any:
    value = value or "bilinear"
    known = get_args(steps.Interpolation) if backend == "cv2" else ("nearest", "bilinear", "bicubic", "lanczos")
    if value not in known:
        raise Unknown(f"it interpolates by '{value}' in {backend}")
    return value


def _resize(t: Any) -> Iterator[steps.Step]:
    kind = _interpolation(t.interpolation, t.backend)
    pair = tuple(int(side) for side in t.scale) if t.scale else None
    factor = None if pair else tuple(float(part) for part in t.scale_factor)
    yield steps.ResizeStep(
        scale=pair, factor=factor, keep_ratio=bool(t.keep_ratio), interpolation=kind, backend=t.backend,  # type: ignore[arg-type]
    )  # fmt: skip


def _to_multiple(t: Any) -> Iterator[steps.Step]:
    yield steps.ResizeToMultiple(divisor=int(t.size_divisor), interpolation=_interpolation(t.interpolation))


def _shortest_edge(t: Any) -> Iterator[steps.Step]:
    scale = t.scale if isinstance(t.scale, int) else min(t.scale)
    yield steps.ResizeShortestEdge(scale=int(scale), most=int(t.max_size))


def _pad(t: Any) -> Iterator[steps.Step]:
    value = t.pad_val.get("img", 0)
    if isinstance(value, float):
        value = (value, 0.0, 0.0, 0.0)  # OpenCV fills the other channels with zeros then
    values = tuple(map(float, value)) if isinstance(value, tuple | list) else (float(value),)
    size = tuple(map(int, t.size)) if t.size is not None else None
    yield steps.PadStep(
        size=size, divisor=t.size_divisor, square=bool(t.pad_to_square), values=values, mode=t.padding_mode  # type: ignore[arg-type]
    )  # fmt: skip


def _center_crop(t: Any) -> Iterator[steps.Step]:
    size = int(t.crop_size[0]), int(t.crop_size[1])
    if t.auto_pad:
        from mmseg.registry import TRANSFORMS

        yield from _pad(TRANSFORMS.build({**t.pad_cfg, "size": size}))
    yield steps.CenterCrop(size=size)


def _normalize(t: Any) -> Iterator[steps.Step]:
    mean, std = (tuple(float(v) for v in values.ravel()) for values in (t.mean, t.std))
    yield steps.Normalize(mean=mean, std=std, swap=bool(t.to_rgb))


def _gray(t: Any) -> Iterator[steps.Step]:
    yield steps.Gray(weights=tuple(map(float, t.weights)), channels=int(t.out_channels or len(t.weights)))


def _clahe(t: Any) -> Iterator[steps.Step]:
    yield steps.Clahe(limit=float(t.clip_limit), grid=(int(t.tile_grid_size[0]), int(t.tile_grid_size[1])))


def _gamma(t: Any) -> Iterator[steps.Step]:
    yield steps.Gamma(gamma=float(t.gamma))


def _rerange(t: Any) -> Iterator[steps.Step]:
    yield steps.Rerange(low=float(t.min_value), high=float(t.max_value))


def _flip(t: Any) -> Iterator[steps.Step]:
    probabilities = t.prob if isinstance(t.prob, list) else [t.prob or 0]
    if any(probabilities):
        raise Unknown("it flips pictures at random")
    return iter(())


_LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray", "InferencerLoader")
_KNOWN: dict[str, Callable[[Any], Iterator[steps.Step]]] = {
    "Resize": _resize, "ResizeToMultiple": _to_multiple, "ResizeShortestEdge": _shortest_edge, "Pad": _pad,
    "CenterCrop": _center_crop, "Normalize": _normalize, "RGB2Gray": _gray, "CLAHE": _clahe, "AdjustGamma": _gamma,
    "Rerange": _rerange, "RandomFlip": _flip, "PackSegInputs": lambda _: iter(()),
}  # fmt: skip
