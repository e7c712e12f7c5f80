"""`segc matrix`: compile and verify many models for all targets, and write the table."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.cli import arguments
from segc.errors import UsageError

if TYPE_CHECKING:
    from segc.support_matrix.cells import Cell, Job

_DESCRIPTION = """\
Compile and verify every family for every target, static and dynamic, logits and masks, each config in a process of its
own. With --state a run that was stopped goes on where it was.
"""
_ZOO_SIZE = (128, 128)


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "matrix", help="compile and verify all families for all targets", description=_DESCRIPTION
    )
    p.add_argument("--families", nargs="+", metavar="F", help="only these (default: all 33)")
    p.add_argument("--zoo", action="store_true", help="every config of mmseg's zoo, static logits for ONNX Runtime")
    p.add_argument("--targets", nargs="+", metavar="T", help="default: all")
    p.add_argument("--shapes", nargs="+", choices=("static", "dynamic"), metavar="S", help="static, dynamic")
    p.add_argument("--outputs", nargs="+", choices=("logits", "mask"), metavar="O", help="logits, mask")
    p.add_argument("--size", metavar="HxW", help="input size (default: the config's crop size; with --zoo 128x128)")
    p.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time (default 2)")
    p.add_argument("--timeout", type=float, default=900, metavar="S", help="seconds for one config (default 900)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler, not here")
    p.add_argument("--state", type=Path, metavar="FILE", help="remember finished configs here and go on from it")
    p.add_argument(
        "--baseline", type=Path, metavar="JSON", help="fail only for cells that were good in this earlier result"
    )
    p.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the page here, and JSON beside it")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Run, report and write; exit code 9 when a cell failed that PyTorch can run, or fell behind the baseline."""
    from segc.support_matrix import page, run
    from segc.support_matrix.cells import FAILED

    before = page.read(args.baseline) if args.baseline is not None else None

    def done(job: Job, cells: list[Cell]) -> None:
        if not args.json:
            good = sum(cell.good for cell in cells)
            reasons = dict.fromkeys(cell.reason for cell in cells if not cell.good)
            print(f"{job.config}: {good} of {len(cells)} ok{''.join(f'; {r}' for r in reasons)}", flush=True)

    jobs = _jobs(args)
    cells = run.run(
        _longest_first(jobs, before or []),
        workers=args.jobs,
        timeout=args.timeout,
        state=args.state,
        scheduler=args.scheduler,
        done=done,
    )
    order = {(job.family, config): at for at, job in enumerate(jobs) for config in (job.config, *job.same)}
    cells.sort(key=lambda cell: order[cell.family, cell.config])
    content = page.to_json(cells, _command(args))
    if args.out is not None:
        args.out.write_text(page.page_of(content), encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=2) if args.json else f"\n{page.summary(cells)}")
    worse = run.regressions([cell for cell in cells if cell.status == FAILED], before or [])
    if before is not None:
        for cell in worse:
            print(f"worse than the baseline: {cell.config} {cell.target} {cell.shape} {cell.output}: {cell.reason}")
    return 9 if worse else 0


def _command(args: argparse.Namespace) -> str:
    """What decides about the figures: not where and how fast they were made."""
    words = ["segc matrix", "--zoo"] if args.zoo else ["segc matrix"]
    for name in ("families", "targets", "shapes", "outputs"):
        if given := getattr(args, name):
            words += [f"--{name}", *given]
    return " ".join([*words, "--size", args.size] if args.size else words)


def _longest_first(jobs: list[Job], before: list[Cell]) -> list[Job]:
    """By the seconds an earlier result took for the same config: else the longest might start last, and run alone."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for cell in before:
        seconds[cell.config] += sum(cell.seconds.values())
    return sorted(jobs, key=lambda job: -seconds[job.config])


def _jobs(args: argparse.Namespace) -> list[Job]:
    from segc import targets
    from segc.frontend.source import zoo_names
    from segc.support_matrix.cells import OUTPUTS, SHAPES, Job
    from segc.support_matrix.families import FAMILIES

    size = arguments.shape(args.size) if args.size else None
    same: dict[str, tuple[str, ...]] = {}
    for name in args.targets or ():
        targets.get(name)  # an unknown name stops here, with the close ones
    if args.zoo:
        from segc.support_matrix.same_models import same_models

        names = zoo_names()
        same = same_models(names)
        chosen = {config: names[config].parent.name for config in same}
        every: tuple[tuple[str, ...], ...] = (("onnxruntime",), ("static",), ("logits",))
        size = size or _ZOO_SIZE
    else:
        if unknown := set(args.families or ()) - set(FAMILIES):
            raise UsageError(f"there is no family '{min(unknown)}'", because=f"segc knows {', '.join(FAMILIES)}")
        chosen = {FAMILIES[family]: family for family in args.families or FAMILIES}
        every = (tuple(targets.names()), SHAPES, OUTPUTS)
    asked = (args.targets, args.shapes, args.outputs)
    on, shapes, outputs = (tuple(given or default) for given, default in zip(asked, every, strict=True))
    return [
        Job(family, config, on, shapes, outputs, size, same=same.get(config, ())) for config, family in chosen.items()
    ]
