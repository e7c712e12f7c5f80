"""What a compile remembers for the page about it: pictures of parity cases, what passes changed, inner errors."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from segc.bundle.evidence import CasePictures, Evidence, Layer, NodeOrigin, Panel, PassText
from segc.compilation import layer_errors
from segc.graph import source_info
from segc.parity.metrics import mask_of
from segc.pipeline.hooks import Silent, node_lines

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from segc.compilation.engine import Loaded
    from segc.compilation.layer_errors import Before
    from segc.compilation.lowering import Exported
    from segc.frontend.model import ModelInfo
    from segc.passes.base import PassResult
    from segc.pipeline.pipeline import Entry

Array = np.ndarray
SIDE = 256  # pixels of a picture, at most
LINES = 40  # of a pass, taken away and put in each
WIDTH = 240  # characters of a line
_DARK = 16  # values of a picture that span less are stretched to be seen, such as noise for a model without a mean


@dataclass
class Changes(Silent):
    """A hook that keeps, of each pass that changed the graph, the nodes that it took away and put in."""

    texts: list[PassText] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Remember the first graph."""
        if entry.index == 0:
            self.texts.clear()
            self._lines = node_lines(graph)

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Compare with the graph before the pass."""
        if not result.changes:
            return
        was, now = self._lines, node_lines(graph)
        removed, added = _without(was, now), _without(now, was)
        self.texts.append(
            PassText(
                run=entry.index, nodes=(len(was), len(now)),
                removed=tuple(line[:WIDTH] for line in removed[:LINES]),
                added=tuple(line[:WIDTH] for line in added[:LINES]),
                more=(max(0, len(removed) - LINES), max(0, len(added) - LINES)),
            )
        )  # fmt: skip
        self._lines = now


def _without(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    """The lines that are not among the others, as often as there are more of them."""
    left = Counter(others)
    found = []
    for line in lines:
        if left[line]:
            left[line] -= 1
        else:
            found.append(line)
    return found


class Recorder:
    """Collects the evidence of one compile."""

    def __init__(self) -> None:
        self.changes = Changes()
        self._pictures: list[CasePictures] = []
        self._before: Before | str = "there was no parity gate (--no-verify)"

    def start(self, exported: Exported) -> None:
        """Run the graph before the passes, if the compile has a parity gate."""
        if exported.setup.request.verify:
            with exported.setup.journal.step("report"):
                self._before = layer_errors.before(exported)

    def see(self, name: str, x: Array, wanted: Array, output: Array, info: ModelInfo) -> None:
        """Draw a parity case. x: the input in the engine's layout; wanted, output: logits or a mask."""
        masks = [each if each.ndim == 3 else mask_of(each, info.threshold) for each in (wanted, output)]
        if masks[0].shape != masks[1].shape:
            return
        first = [np.asarray(mask[0]).astype(np.int64) for mask in masks]
        different = (first[0] != first[1]).astype(np.uint8)
        shrink = max(1.0, max(different.shape) / SIDE)
        size = tuple(max(1, round(side / shrink)) for side in different.shape)
        image = _image(x, info)
        self._pictures.append(
            CasePictures(
                case=name, input=_panel(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), "image/jpeg"),
                reference=_panel(_coloured(_shrunk(first[0], size), info.palette), "image/png"),
                engine=_panel(_coloured(_shrunk(first[1], size), info.palette), "image/png"),
                difference=_panel(_any_of(different, size), "image/png"),
            )
        )  # fmt: skip

    def finish(self, loaded: Loaded) -> Evidence:
        """All that was collected; runs the graph after the passes."""
        layers: tuple[Layer, ...] = ()
        if isinstance(self._before, str):
            note = self._before
        else:
            with loaded.planned.setup.journal.step("report"):
                layers, note = layer_errors.after(loaded, self._before)
        return Evidence(
            pictures=tuple(self._pictures), layers=layers, layers_note=note, passes=tuple(self.changes.texts),
            nodes=tuple(map(_node, loaded.planned.graph.nodes)),
        )  # fmt: skip


def _node(node: gs.Node) -> NodeOrigin:
    origin = source_info.of(node)
    tensor = next((each.name for each in node.outputs if each.name), "")
    return NodeOrigin(name=node.name or "", tensor=tensor, line=origin.source, module=origin.scope)


def record(exported: Exported) -> None:
    """Collect from here on what the page of the bundle shows; `publish` writes it. Cost: a run or two of the graph."""
    recorder = exported.setup.journal.evidence = Recorder()
    recorder.start(exported)


def _image(x: Array, info: ModelInfo) -> Array:
    """The first input as a BGR image (H, W, 3)."""
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x[0, :, :, :3])
    planes = x[0].astype(np.float64)
    if len(planes) == 3:
        planes = planes * np.reshape(info.std, (-1, 1, 1)) + np.reshape(info.mean, (-1, 1, 1))
        planes = planes[::-1] if info.channel_order == "RGB" else planes
    else:
        planes = np.repeat(planes[:1], 3, axis=0)
    low, high = planes.min(initial=0.0), planes.max(initial=0.0)
    if len(x[0]) != 3 or high - low < _DARK:
        planes = (planes - low) / max(high - low, 1e-12) * 255
    return np.ascontiguousarray(np.clip(planes, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _shrunk(mask: Array, size: tuple[int, ...]) -> Array:
    rows, columns = (np.arange(small) * side // small for small, side in zip(size, mask.shape, strict=True))
    return np.asarray(mask[rows][:, columns])


def _any_of(different: Array, size: tuple[int, ...]) -> Array:
    """White where any pixel of the block differs, so that a single one is seen."""
    rows, columns = (np.arange(small) * side // small for small, side in zip(size, different.shape, strict=True))
    blocks = np.maximum.reduceat(np.maximum.reduceat(different, rows, axis=0), columns, axis=1)
    return np.asarray(blocks * np.uint8(255))


def _coloured(mask: Array, palette: Sequence[tuple[int, int, int]]) -> Array:
    """BGR colours of the classes; made up for classes without one."""
    count = int(mask.max(initial=0)) + 1
    colours = np.array([((c * 67) % 256, (c * 149) % 256, (c * 211) % 256) for c in range(count)], np.uint8)
    given = np.array(palette or [(0, 0, 0)], np.uint8)[:count]
    colours[: len(given)] = given[:, ::-1]
    return np.asarray(colours[mask])


def _panel(image: Array, kind: Literal["image/jpeg", "image/png"]) -> Panel:
    how = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 75]) if kind == "image/jpeg" else (".png", [])
    content = cv2.imencode(how[0], image, how[1])[1].tobytes()
    return Panel(kind=kind, height=image.shape[0], width=image.shape[1], data=base64.b64encode(content).decode("ascii"))
