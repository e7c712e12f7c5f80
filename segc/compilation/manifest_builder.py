"""Build the manifest of a compiled model, from the front end's ModelInfo and the final graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.bundle.manifest import Decode, Manifest
from segc.bundle.preprocessing import SIZING, Pad, ResizeShortestEdge, ResizeStep, at_size, usual_loader
from segc.bundle.typed import encode
from segc.errors import Code, SourceError
from segc.frontend.model import ModelInfo, Notes, generic_classes
from segc.graph import ir
from segc.passes.base import PassResult
from segc.passes.support.edit import ints
from segc.runtime.preprocessing import padding
from segc.targets.protocol import Settings, ShapeRange
from segc.targets.target import Target

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def manifest(
    info: ModelInfo,
    graph: gs.Graph,
    results: Sequence[tuple[str, PassResult]],
    *,
    target: Target,
    runtime: str,
    options: Mapping[str, Any],
    settings: Settings,
    output: str,
    segments: Sequence[Mapping[str, Any]] = (),
    decode: Decode | None = None,
    beside: Decode | None = None,
) -> Manifest:
    """The manifest without its files, validated in the same way as one that is read."""
    content: dict[str, Any] = {
        "source": {
            "kind": info.kind,
            "name": info.name,
            "sha256": info.sha256,
            "weights": info.weights,
            "checkpoint": info.checkpoint,
            "output": info.output,
            "values": info.values,
            "dequantized": info.dequantized or None,
            "random_seed": info.random_seed,
        },
        "target": {
            "name": target.name,
            "runtime": runtime,
            "options": dict(options),
            "settings": dict(settings.options),
        },
        "precision": settings.precision,
        "input": _input(graph, info, settings.shape_range),
        "output": _output(graph, info, output, decode, beside),
        "preprocessing": _preprocessing(graph, info),
        "inference": {
            "mode": info.mode,
            "crop": _listed(info.slide_crop),
            "stride": _listed(info.slide_stride),
            "align_corners": info.align_corners,
            **({"direct": True} if info.direct else {}),
        },
        "classes": list(info.classes),
        "palette": [list(rgb) for rgb in info.palette],
        "model": {
            "num_classes": max(info.channels, 2),
            "test_cfg": info.test_cfg,
            "test_resize": _test_resize(info),
            "top_k": selects_by_top_k(graph),
            "rewrites": list(info.rewrites),
        },
        "passes": [{"name": name, "changes": result.changes} for name, result in results],
        "segments": list(segments),
    }
    return Manifest.from_content(content)


def with_head(info: ModelInfo, graph: gs.Graph, notes: Notes) -> ModelInfo:
    """`info` with what the source does not say: the number of channels from the graph, class names, a threshold."""
    if info.channels == 0:
        shape = graph.outputs[0].shape
        channels = shape[1] if shape is not None and len(shape) == 4 else None
        if not isinstance(channels, int):
            raise SourceError(
                "the output is not a map of logits (N, classes, H, W) with a known number of classes",
                code=Code.NOT_SEGMENTATION,
                because=f"its shape is {shape}",
                so="export the model without the nodes after its logits",
            )
        info = replace(info, channels=channels)
    if info.channels == 1 and info.threshold is None:
        info = replace(info, threshold=0.5)
        notes.add("the head has one channel and no threshold: pixels with sigmoid(logit) > 0.5 are foreground")
    count = max(info.channels, 2)
    if info.channels == 1 and len(info.classes) == 1:
        info = replace(info, classes=("background", *info.classes))
    _require_named(info, count)
    if len(info.classes) != count:
        if info.classes:
            notes.add(f"the source has {len(info.classes)} class names for {count} classes: generic names are used")
        classes, palette = generic_classes(count)
        return replace(info, classes=classes, palette=palette)
    if len(info.palette) != count:
        return replace(info, palette=generic_classes(count)[1])
    return info


def _require_named(info: ModelInfo, count: int) -> None:
    """Refuse class names and colours that the user gave and that are not `count`. Raises SourceError."""
    for by, given, what in ((info.named_by, info.classes, "name"), (info.coloured_by, info.palette, "colour")):
        if by and len(given) != count:
            raise SourceError(
                f"{by} has {len(given)} {what}s, the model {count} classes", code=Code.CLASSES,
                because=f"its output has {info.channels} channel{'s' * (info.channels > 1)}",
                so=f"give one {what} for each class, the background included",
            )  # fmt: skip


def selects_by_top_k(graph: gs.Graph) -> bool:
    """Whether the graph has a TopK with k > 1. Rounding then breaks ties, so that parity is judged by pixels.

    A TopK with k = 1 is an argmax: a tie changes the result at that place only.
    """
    return any(node.op == "TopK" and ints(node.inputs[1]) != [1] for node in ir.nodes(graph))


def image_shape(graph: gs.Graph) -> list[Any]:
    """(N, C, H, W) of the input, also if it is a uint8 image (N, H, W, C)."""
    x = graph.inputs[0]
    n, *rest = x.shape
    return [n, rest[2], *rest[:2]] if x.dtype == np.uint8 else [n, *rest]


def resize_note(info: ModelInfo, graph: gs.Graph) -> str | None:
    """The note for an engine whose fixed size keeps `segment` from following the source's own preprocessing."""
    if not _fixed(graph, info) or info.kind == "onnx":
        return None
    height, width = image_shape(graph)[2:]
    sizing = [step for step in info.chain if isinstance(step, SIZING)]
    exact = {"scale": (width, height), "keep_ratio": False}
    plain = len(sizing) == 1 and all(getattr(sizing[0], key, None) == value for key, value in exact.items())
    if plain and not _pads_beyond(info, (height, width)):
        return None
    ratio = any(
        getattr(step, "keep_ratio", False) or getattr(step, "shortest", None) or isinstance(step, ResizeShortestEdge)
        for step in sizing
    )
    does = (
        "keeps their ratio" if ratio else "gives them other sizes" if sizing or info.pad_size or info.pad_divisor
        else "leaves their size alone"
    )  # fmt: skip
    return (
        f"images are resized to the engine's fixed size, while the source's own preprocessing {does}; a "
        "--dynamic engine follows it"
    )


def window_note(info: ModelInfo, graph: gs.Graph) -> str | None:
    """The note for a window of a fixed size that images may be smaller than."""
    height, width = image_shape(graph)[2:]
    if info.mode != "slide" or not (isinstance(height, int) and isinstance(width, int)):
        return None
    scales = [step.scale for step in info.chain if isinstance(step, ResizeStep) and step.scale is not None]
    if scales and min(scales[-1]) >= max(height, width):
        return None
    return (
        f"images smaller than the window {height}x{width} are padded to it, where the source runs the smaller patch; a "
        "--dynamic engine runs it too"
    )


def _pads_beyond(info: ModelInfo, size: tuple[int, int]) -> bool:
    pad = Pad(size=info.pad_size, divisor=info.pad_divisor)
    return (info.pad_size is not None or info.pad_divisor is not None) and padding(size, pad) != (0, 0)


def _fixed(graph: gs.Graph, info: ModelInfo) -> bool:
    return info.mode == "whole" and all(isinstance(side, int) for side in image_shape(graph)[2:])


def _input(graph: gs.Graph, info: ModelInfo, sizes: ShapeRange | None) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else None for size in image_shape(graph)]
    dynamic = None
    if None in shape:
        least, most = (sizes.least, sizes.most) if sizes is not None else (info.minimum, (None, None))
        height, width = ([low, high] for low, high in zip(least, most, strict=True))
        dynamic = {"batch": [1, None], "height": height, "width": width, "divisor": info.divisor}
    x = graph.inputs[0]
    dtype, layout = ("uint8", "NHWC") if x.dtype == np.uint8 else ("float32", "NCHW")
    return {"name": x.name, "dtype": dtype, "layout": layout, "shape": shape, "dynamic": dynamic}


def _output(
    graph: gs.Graph, info: ModelInfo, kind: str, decode: Decode | None, beside: Decode | None
) -> dict[str, Any]:
    dtype = "float32" if kind == "logits" else ("uint8" if info.channels <= 256 else "uint16")
    return {
        "name": graph.outputs[0].name, "kind": kind, "dtype": dtype, "channels": info.channels,
        "threshold": info.threshold, "decode": None if decode is None else {"resize": decode.resize},
        **({} if beside is None else {"beside": {"resize": beside.resize}}),
    }  # fmt: skip


def _preprocessing(graph: gs.Graph, info: ModelInfo) -> dict[str, Any]:
    """The source's preprocessing; for a static engine without sliding window, images get the engine's size."""
    height, width = image_shape(graph)[2:]
    return preprocessing(info, (height, width) if _fixed(graph, info) else None)


def preprocessing(info: ModelInfo, size: tuple[int, int] | None) -> dict[str, Any]:
    """The source's preprocessing, for an engine of one (height, width) where `size` is given."""
    fixed, channels = size is not None, info.in_channels
    mean, std = (v if len(v) == channels else (v[0],) * channels for v in (info.mean, info.std))
    chain = info.chain if size is None else at_size(info.chain, size)
    loader = info.loader or usual_loader(channels)
    made: dict[str, Any] = {
        "channel_order": info.channel_order if channels == 3 else "BGR",
        "mean": list(mean),
        "std": list(std),
        "resize": None,
        "pad": {
            "size": None if fixed else _listed(info.pad_size),
            "divisor": None if fixed else info.pad_divisor,
            "value": info.pad_value,
        },
    }
    if info.pad_kept and not fixed:
        made["pad"]["kept"] = True
    if loader is not None:
        made["loader"] = encode(loader)
    if info.table is not None:
        rows = info.table if len(info.table) == channels else info.table[:1] * channels
        made["table"] = [list(row) for row in rows]
    if len(chain) == 1 and isinstance(step := chain[0], ResizeStep) and step.is_plain:
        return {**made, "resize": {"scale": list(step.scale or ()), "keep_ratio": step.keep_ratio}}
    return {**made, "steps": encode(chain)} if chain else made


def _test_resize(info: ModelInfo) -> dict[str, Any]:
    """The one Resize of the source's own preprocessing, where that is all it does to sizes."""
    sizing = [step for step in info.chain if isinstance(step, SIZING)]
    scale = sizing[0].scale if len(sizing) == 1 and isinstance(sizing[0], ResizeStep) else None
    keep_ratio = sizing[0].keep_ratio if len(sizing) == 1 and isinstance(sizing[0], ResizeStep) else info.keep_ratio
    return {"scale": _listed(scale), "keep_ratio": keep_ratio}


def _listed(value: tuple[int, int] | None) -> list[int] | None:
    return None if value is None else list(value)
