"""One side of a comparison: a bundle, an ONNX file or another source, with what it computes and the graph behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from segc.bundle.manifest import NAME, Manifest
from segc.bundle.store import read_bundle
from segc.compilation import steps
from segc.compilation.lowering import HOST
from segc.compilation.request import Request
from segc.frontend.source import is_onnx
from segc.graph import ir, libraries
from segc.isolation import native
from segc.parity.reference import reference_of
from segc.runtime.engine import load
from segc.runtime.ort import outputs_of

Array = np.ndarray
_GRAPHS = ("final.onnx", "model.onnx")  # in a bundle, the one that names lines of the model first


@dataclass(frozen=True)
class Side:
    """run: float32 or uint8 images, see `takes`, to logits (N, C, H, W) or a mask (N, H, W).

    model: the graph with the same numbers inside, in ONNX Runtime; None for engines that keep none. sizes: the height
    and width that it takes, None for any. mean, std, channel_order: of its images. palette: RGB, by class.
    """

    name: str
    kind: str
    run: Callable[[Array], Array]
    model: onnx.ModelProto | None
    sizes: tuple[int | None, int | None]
    usual: tuple[int, int]
    batch: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str
    threshold: float | None
    align_corners: bool
    palette: tuple[tuple[int, int, int], ...]
    takes: str = "float32"


def open_side(what: str | Path, *, shape: tuple[int, int] | None, checkpoint: str | Path | None, threads: int) -> Side:
    """Open a bundle, an ONNX file or another source. Raises SegcError as `segc.load` and `segc.compile` do."""
    if (Path(what) / NAME).is_file():
        return _bundle(Path(what), threads)
    return _source(what, shape, checkpoint)


def is_closed(what: str | Path) -> bool:
    """Whether it says itself which size it takes: a bundle, or an ONNX file. Others are traced at the other's size."""
    return (Path(what) / NAME).is_file() or is_onnx(what)


def _bundle(path: Path, threads: int) -> Side:
    manifest = read_bundle(path)
    engine = load(path, threads=threads)
    batch, channels, height, width = manifest.input.shape
    pre = manifest.preprocessing
    return Side(
        str(path), f"bundle for {manifest.target.name}", lambda x: next(iter(engine.run(x).values())),
        _graph(path, manifest), (height, width), (height or 384, width or 640), batch or 1, channels, pre.mean, pre.std,
        pre.channel_order, manifest.output.threshold, manifest.inference.align_corners, manifest.palette,
        manifest.input.dtype,
    )  # fmt: skip


def _graph(path: Path, manifest: Manifest) -> onnx.ModelProto | None:
    """The graph in a bundle; of a hybrid only the one that --keep-onnx stored is whole."""
    for name in _GRAPHS[:1] if manifest.segments else _GRAPHS:
        if name in manifest.files:
            return _plain(onnx.load(path / name))
    return None


def _source(what: str | Path, shape: tuple[int, int] | None, checkpoint: str | Path | None) -> Side:
    request = Request(
        what,
        target=HOST,
        shape=None if is_onnx(what) else shape,
        checkpoint=None if is_onnx(what) else checkpoint,
        output="logits",
        options={"winograd": "off"},
    )
    opened = steps.open_source(steps.set_up(request))
    source = opened.source
    model = source.onnx_model
    if model is None:
        model = steps.export(opened).model
        ir.complete_functions(model)
    info = source.info
    run = reference_of(source) if source.onnx_model is None else _runs(source.onnx_model)
    sizes = opened.shape if source.onnx_model is None else info.fixed
    return Side(
        info.name, "ONNX file" if source.onnx_model is not None else "source", run, _plain(model),
        sizes, opened.shape, info.batch, info.in_channels, info.mean, info.std, info.channel_order,
        info.threshold, info.align_corners, info.palette,
    )  # fmt: skip


def _runs(model: onnx.ModelProto) -> Callable[[Array], Array]:
    """The file in ONNX Runtime; of a guard's child, which keeps one model at a time, nothing is kept."""
    content, given = model.SerializeToString(), model.graph.input[0].name
    return lambda x: np.asarray(next(iter(native.call(outputs_of, content, {given: x}).values())))


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with types and shapes of its inner tensors."""
    try:
        return libraries.infer_shapes(model)
    except libraries.CHECK_ERRORS:
        return model
