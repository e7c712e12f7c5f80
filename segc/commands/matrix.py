"""`segc.matrix`: compile and verify many models for all targets."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segc import ranges
from segc.errors import Code, UsageError
from segc.files.whole import write_all
from segc.suggestions import checked_keywords, did_you_mean
from segc.support_matrix import page, ran_elsewhere, run
from segc.support_matrix.cells import FAILED, OUTPUTS, SHAPES, Cell, Job

_ZOO_SIZE = (128, 128)
_ELSEWHERE_SIZE = (64, 64)


@dataclass(frozen=True)
class MatrixResult:
    """All cells. failed: those that failed although PyTorch runs the model; with a baseline, only new failures.

    content: as `segc matrix --json` prints it; `page_of` turns it into Markdown.
    """

    cells: tuple[Cell, ...]
    failed: tuple[Cell, ...]
    content: dict[str, Any]


@checked_keywords
def matrix(
    *,
    families: Sequence[str] | None = None,
    zoo: bool = False,
    elsewhere: bool = False,
    cells: str | Path | None = None,
    targets: Sequence[str] | None = None,
    shapes: Sequence[Literal["static", "dynamic"]] | None = None,
    outputs: Sequence[Literal["logits", "mask"]] | None = None,
    size: tuple[int, int] | None = None,
    jobs: int = 2,
    timeout: float = 900.0,
    scheduler: str | None = None,
    state: str | Path | None = None,
    baseline: str | Path | None = None,
    results: str | Path | None = None,
    out: str | Path | None = None,
    done: Callable[[Job, list[Cell]], None] = lambda *_: None,
) -> MatrixResult:
    """Compile and verify every family for every target, static and dynamic, logits and masks.

    families, targets, shapes, outputs: only these, default all. zoo: every config of mmseg's zoo instead, static logits
    for ONNX Runtime, where `families` names configs or their folders. elsewhere: models of torchvision,
    segmentation-models-pytorch, timm and transformers instead, which `families` names by library or source. cells: a
    text file of the cells to fill instead, a line each: FAMILY TARGET SHAPE OUTPUT. size: (height, width) in pixels,
    default the config's crop size, with zoo 128x128, with elsewhere 64x64. jobs: processes at a time. timeout: seconds
    for one config. scheduler: address of a Dask scheduler whose workers run the jobs. state: a file that remembers
    finished configs. baseline: JSON of an earlier result. results: JSON of a run on a machine with a GPU or a runtime
    built from source, for engines that do not run here. out: file for the page in Markdown, JSON beside it. done:
    called after each config. Raises UsageError, FileError.
    """
    ranges.JOBS.require("--jobs", jobs)
    ranges.SECONDS.require("--timeout", timeout)
    if out is not None and Path(out).suffix == ".json":
        raise UsageError(
            f"the page cannot be written to '{out}'", code=Code.CONFLICTING_OPTIONS,
            because="that is the name of the JSON file beside it", so=f"give {Path(out).with_suffix('.md')}",
        )  # fmt: skip
    before = page.read(Path(baseline)) if baseline is not None else None
    ran = page.read_all(Path(results)) if results is not None else None
    if elsewhere:
        asked = _jobs_elsewhere(families, zoo or cells is not None, targets, shapes, outputs, size)
    else:
        asked = _jobs(families, zoo, cells, targets, shapes, outputs, size)
    found = run.run(
        longest_first(asked, before or []), workers=jobs, timeout=timeout,
        state=None if state is None else Path(state), scheduler=scheduler, done=done,
    )  # fmt: skip
    order = {(job.family, config): index for index, job in enumerate(asked) for config in (job.config, *job.same)}
    if ran is not None:
        found = ran_elsewhere.merged(found, *ran)
    found.sort(key=lambda cell: order[cell.family, cell.config])
    content = page.to_json(found, _command(families, zoo, elsewhere, cells, targets, shapes, outputs, size))
    if out is not None:
        data = json.dumps(content, indent=1) + "\n"
        write_all({Path(out).with_suffix(".json"): data.encode(), Path(out): page.page_of(content).encode()})
    failed = run.regressions([cell for cell in found if cell.status == FAILED], before or [])
    return MatrixResult(tuple(found), tuple(failed), content)


def _command(
    families: Sequence[str] | None, zoo: bool, elsewhere: bool, cells: str | Path | None, targets: Sequence[str] | None,
    shapes: Sequence[str] | None, outputs: Sequence[str] | None, size: tuple[int, int] | None,
) -> str:  # fmt: skip
    """The part of the command line that affects results."""
    kind = [name for name, given in (("--zoo", zoo), ("--elsewhere", elsewhere)) if given]
    words = ["segc matrix", *kind, *(["--cells", str(cells)] if cells is not None else [])]
    for name, given in (("families", families), ("targets", targets), ("shapes", shapes), ("outputs", outputs)):
        if given:
            words += [f"--{name}", *given]
    return " ".join([*words, "--size", f"{size[0]}x{size[1]}"] if size else words)


def longest_first(jobs: list[Job], before: list[Cell]) -> list[Job]:
    """Sort by the seconds of each config in an earlier result, so that a long job does not start last and run alone."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for cell in before:
        seconds[cell.config] += sum(cell.seconds.values())
    return sorted(jobs, key=lambda job: -seconds[job.config])


def _jobs_elsewhere(
    names: Sequence[str] | None, clashes: bool, targets: Sequence[str] | None, shapes: Sequence[str] | None,
    outputs: Sequence[str] | None, size: tuple[int, int] | None,
) -> list[Job]:  # fmt: skip
    """Jobs for models of other libraries. names: of libraries or sources, default all. Raises UsageError."""
    from segc.support_matrix.elsewhere import ELSEWHERE
    from segc.targets import registry

    if clashes:
        raise UsageError(
            "--elsewhere names other models", code=Code.CONFLICTING_OPTIONS, because="--zoo or --cells is given too",
            so="leave one of them out",
        )  # fmt: skip
    for name in targets or ():
        registry.get(name)
    known = {*ELSEWHERE, *ELSEWHERE.values()}
    if unknown := set(names or ()) - known:
        raise UsageError(
            f"there is no library or source '{min(unknown)}' in the matrix", code=Code.UNKNOWN_NAME,
            because=f"segc knows {', '.join(dict.fromkeys(ELSEWHERE.values()))}, and their models",
            so=did_you_mean(min(unknown), known),
        )  # fmt: skip
    chosen = {name: library for name, library in ELSEWHERE.items() if not names or {name, library} & set(names)}
    on, sizes, kinds = (tuple(targets or registry.names()), tuple(shapes or SHAPES), tuple(outputs or OUTPUTS))
    return [Job(library, name, on, sizes, kinds, size or _ELSEWHERE_SIZE) for name, library in chosen.items()]


def _jobs(
    families: Sequence[str] | None, zoo: bool, cells: str | Path | None, targets: Sequence[str] | None,
    shapes: Sequence[str] | None, outputs: Sequence[str] | None, size: tuple[int, int] | None,
) -> list[Job]:  # fmt: skip
    from segc.support_matrix.chosen_cells import read as read_cells
    from segc.support_matrix.families import FAMILIES
    from segc.targets import registry

    if cells is not None:
        if zoo or families or targets or shapes or outputs:
            raise UsageError(
                "--cells names every cell", code=Code.CONFLICTING_OPTIONS,
                because="--families, --zoo, --targets, --shapes or --outputs is given too", so="leave them out",
            )  # fmt: skip
        chosen_cells = read_cells(Path(cells), FAMILIES, registry.names())
        return [
            Job(family, FAMILIES[family], tuple(registry.names()), size=size, only=places)
            for family, places in chosen_cells.items()
        ]
    same: dict[str, tuple[str, ...]] = {}
    for name in targets or ():
        registry.get(name)  # an unknown name stops here, with the close ones
    if zoo:
        chosen, same = _of_zoo(families)
        every: tuple[tuple[str, ...], ...] = (("onnxruntime",), ("static",), ("logits",))
        size = size or _ZOO_SIZE
    else:
        if unknown := set(families or ()) - set(FAMILIES):
            raise UsageError(
                f"there is no family '{min(unknown)}'", code=Code.UNKNOWN_NAME,
                because=f"segc knows {', '.join(FAMILIES)}",
                so=did_you_mean(min(unknown), FAMILIES),
            )  # fmt: skip
        chosen = {FAMILIES[family]: family for family in families or FAMILIES}
        every = (tuple(registry.names()), SHAPES, OUTPUTS)
    given = (targets, shapes, outputs)
    on, sizes, kinds = (tuple(asked or default) for asked, default in zip(given, every, strict=True))
    return [Job(family, config, on, sizes, kinds, size, same=same.get(config, ())) for config, family in chosen.items()]


def _of_zoo(wanted: Sequence[str] | None) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Config -> its folder, and config -> others that build its model. wanted: configs or folders, default all."""
    from segc.frontend.source import zoo_names
    from segc.support_matrix.same_models import same_models

    names = zoo_names()
    same = same_models(names)
    folders = {config: names[config].parent.name for config in same}
    known = {*names, *folders.values()}
    if unknown := set(wanted or ()) - known:
        raise UsageError(
            f"there is no config or folder '{min(unknown)}' in the zoo", code=Code.UNKNOWN_NAME,
            because=f"mmseg's zoo has {len(names)} configs in {len(set(folders.values()))} folders",
            so=did_you_mean(min(unknown), known),
        )  # fmt: skip
    if wanted:
        folders = {config: folder for config, folder in folders.items() if {config, folder, *same[config]} & {*wanted}}
    return folders, same
