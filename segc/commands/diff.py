"""`segc.diff`: two bundles, ONNX files or sources against each other, tensor by tensor and mask by mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segc import ranges
from segc.comparing import graph_text, masks, matching, tensors
from segc.comparing.masks import CaseDiff
from segc.comparing.side import Side, is_closed, open_side
from segc.comparing.tensors import TensorDiff
from segc.compilation.guarded import guarded_libraries
from segc.errors import Code, FileError, ShapeError, UsageError
from segc.files.errors import file_errors
from segc.files.whole import write_all
from segc.frontend.source import is_onnx
from segc.parity import sample_inputs
from segc.suggestions import checked_keywords

Array = np.ndarray


@dataclass(frozen=True)
class Difference:
    """What A and B have in common and what not.

    cases: the outputs, by input. tensors: inner tensors that belong together, in the order of B, on the first input;
    empty where a side keeps no graph. first: the first of them that is further apart than rounding explains, and from
    which a wrong output is computed. ops: op -> how often in A and in B. graph: a diff of one line a node. notes: what
    was not compared, and why. folder: pictures and the diff.
    """

    a: str
    b: str
    cases: tuple[CaseDiff, ...]
    tensors: tuple[TensorDiff, ...]
    first: TensorDiff | None
    ops: Mapping[str, tuple[int, int]]
    graph: str
    notes: tuple[str, ...]
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        made: dict[str, Any] = _plain(asdict(self))
        return made


@checked_keywords
def diff(
    a: str | Path,
    b: str | Path,
    *,
    images: str | Path | None = None,
    shape: tuple[int, int] | None = None,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Difference:
    """Compare what A and B compute. Each is a bundle, an ONNX file, or another source of `segc.compile`.

    images: a file or folder, resized to the size of A and B; by default noise and a photograph. shape: (height, width)
    where both leave it open. checkpoint: of sources with weights in a file. out: a folder for pictures of the masks and
    the diff of the graphs.
    Raises ShapeError (A and B take other sizes or channels), SegcError as `segc.load` and `segc.compile` do, FileError.
    """
    ranges.THREADS.require("--threads", threads)
    with ExitStack() as guards:
        for what in (a, b):
            if is_onnx(what):
                guards.enter_context(guarded_libraries(str(what), None, None))
        sides: dict[int, Side] = {}
        for at, what in sorted(enumerate((a, b)), key=lambda pair: not is_closed(pair[1])):
            progress(f"opening {what}")
            known = shape or next((each.usual for each in sides.values() if None not in each.sizes), None)
            sides[at] = open_side(what, shape=known, checkpoint=checkpoint, threads=threads)
        return _compared(sides[0], sides[1], images, shape, out, progress)


def _compared(
    a: Side, b: Side, images: str | Path | None, shape: tuple[int, int] | None, out: str | Path | None,
    progress: Callable[[str], None],
) -> Difference:  # fmt: skip
    size, batch = _common(a, b, shape)
    cases: list[CaseDiff] = []
    files: dict[str, bytes] = {}
    first: tuple[Array, Array] | None = None
    for name, image, x in _inputs(a, b, images, size, batch):
        progress(f"comparing on {name}")
        given = {"uint8": image, "float32": x}
        one, other = (side.run(_needed(given[side.takes])) for side in (a, b))
        case, made = masks.compared(name, a, b, one, other, size)
        if out is not None:
            picture = f"{len(cases)}-{Path(name).stem.replace(' ', '-')}.png"
            files[picture] = masks.picture(None if image is None else image[0], made, (a.name, b.name), _palette(a, b))
            case = replace(case, picture=picture)
        cases.append(case)
        first = first or (x, x if image is None else image)
    assert first is not None
    found, ops, graph, notes = _graphs(a, b, first, progress)
    folder = None if out is None else Path(out)
    if folder is not None:
        _write(folder, {**files, "graph.diff": graph.encode()})
    differing = next((each for each in found if each.verdict == "differs"), None)
    return Difference(a.name, b.name, tuple(cases), tuple(found), differing, ops, graph, tuple(notes), folder)


def _needed(x: Array | None) -> Array:
    assert x is not None
    return x


def _graphs(
    a: Side, b: Side, given: tuple[Array, Array], progress: Callable[[str], None]
) -> tuple[list[TensorDiff], dict[str, tuple[int, int]], str, list[str]]:
    """Inner tensors, counts of ops, the diff, and notes."""
    lacking = [side.name for side in (a, b) if side.model is None]
    if a.model is None or b.model is None:
        return [], {}, "", [f"{name} keeps no graph: compile it with --keep-onnx to compare inside" for name in lacking]
    progress("comparing inner tensors")
    pairs = matching.matched(a.model, b.model)
    ops = graph_text.op_counts(a.model, b.model)
    text = graph_text.difference(a.model, b.model, (a.name, b.name), pairs)
    if a.takes != b.takes:
        return [], ops, text, ["one side takes images and the other normalized floats: inner tensors are not compared"]
    x = given[1] if a.takes == "uint8" else given[0]
    try:
        return tensors.compared(a.model, b.model, x), ops, text, []
    except Exception as error:  # of ONNX Runtime, which has no common class
        return [], ops, text, [f"ONNX Runtime does not run the graphs: {str(error).splitlines()[0]}"]


def _common(a: Side, b: Side, shape: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    """The size and the batch that both take. Raises ShapeError."""
    sides = []
    for axis, name in enumerate(("height", "width")):
        fixed = {each for each in (a.sizes[axis], b.sizes[axis], shape[axis] if shape else None) if each is not None}
        if len(fixed) > 1:
            raise ShapeError(
                f"'{a.name}' and '{b.name}' have no {name} in common", code=Code.ENGINE_SHAPE,
                because=f"{' and '.join(map(str, sorted(fixed)))} are asked for", so="compile both for one size",
            )  # fmt: skip
        sides.append(fixed.pop() if fixed else (a if a.kind == "source" else b).usual[axis])
    if a.channels != b.channels:
        raise ShapeError(
            f"'{a.name}' takes {a.channels} channels and '{b.name}' {b.channels}", code=Code.ENGINE_SHAPE,
            because="their images are not the same", so="compare models of the same images",
        )  # fmt: skip
    return (sides[0], sides[1]), max(a.batch, b.batch)


def _inputs(
    a: Side, b: Side, images: str | Path | None, size: tuple[int, int], batch: int
) -> Iterator[tuple[str, Array | None, Array]]:
    """Name, uint8 images (N, H, W, 3) BGR or None, and float32 (N, C, H, W)."""
    shape = (batch, a.channels, *size)
    how = (a.mean, a.std, a.channel_order)
    if images is None and a.channels == 3:
        (noise, seen), (natural, photograph) = sample_inputs.image_inputs(shape)
        if "uint8" in (a.takes, b.takes):
            yield noise, seen, sample_inputs.normalised(seen, *how)
        else:
            yield noise, None, sample_inputs.noise(shape)
        yield natural, photograph, sample_inputs.normalised(photograph, *how)
        return
    if images is None:
        if "uint8" in (a.takes, b.takes):
            raise UsageError("uint8 images have three channels", code=Code.UNSUPPORTED_BY_MODEL, so="compare others")
        yield "noise", None, sample_inputs.noise(shape)
        return
    if a.channels != 3:
        raise UsageError(
            f"--images are pictures of three channels, the models take {a.channels}", code=Code.UNSUPPORTED_BY_MODEL,
            so="omit --images: noise is compared",
        )  # fmt: skip
    from segc.runtime.images import find_images, read_image

    for found in find_images([images]):
        import cv2

        image = cv2.resize(read_image(found.path), size[::-1], interpolation=cv2.INTER_LINEAR)
        stacked = np.ascontiguousarray(np.repeat(image[None], batch, axis=0))
        yield found.path.name, stacked, sample_inputs.normalised(stacked, *how)


def _palette(a: Side, b: Side) -> tuple[tuple[int, int, int], ...]:
    return a.palette or b.palette


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.is_file():
        raise FileError(f"'{folder}' is a file", code=Code.DESTINATION_TAKEN, so="choose another folder with -o")
    with file_errors(f"'{folder}'", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_all({folder / name: content for name, content in files.items()}, durable=False)


def _plain(value: Any) -> Any:
    """JSON has no infinity, tuples or paths."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value
