"""`segc matrix`: compile and verify many models for all targets, and write the results as tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments

if TYPE_CHECKING:
    from segc.support_matrix.cells import Cell, Job

_DESCRIPTION = """\
Compile and verify every family for every target, static and dynamic, logits and masks, each config in a process of its
own. With --state, an interrupted run continues where it stopped.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "matrix", help="compile and verify all families for all targets", description=_DESCRIPTION
    )
    p.add_argument("--families", nargs="+", metavar="F", help="only these families (default: all 33)")
    p.add_argument(
        "--zoo",
        action="store_true",
        help="every config of mmseg's zoo, static logits for ONNX Runtime; --families names configs or folders",
    )
    p.add_argument(
        "--elsewhere", action="store_true",
        help="models of torchvision, segmentation-models-pytorch, timm and transformers; --families names some",
    )  # fmt: skip
    p.add_argument(
        "--cells",
        type=Path,
        metavar="FILE",
        help="only the cells in this file, a line each: FAMILY TARGET SHAPE OUTPUT",
    )
    p.add_argument("--targets", nargs="+", metavar="T", help="default: all")
    p.add_argument("--shapes", nargs="+", choices=("static", "dynamic"), metavar="S", help="static, dynamic")
    p.add_argument("--outputs", nargs="+", choices=("logits", "mask"), metavar="O", help="logits, mask")
    p.add_argument("--size", metavar="HxW", help="input size (default: the config's crop size; with --zoo 128x128)")
    p.add_argument(
        "--jobs",
        type=arguments.number("--jobs", ranges.JOBS),
        default=2,
        metavar="N",
        help="processes at a time (default 2)",
    )
    p.add_argument(
        "--timeout",
        type=arguments.number("--timeout", ranges.SECONDS),
        default=900,
        metavar="S",
        help="seconds for one config (default 900)",
    )
    p.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    p.add_argument("--state", type=Path, metavar="FILE", help="save finished configs here, and continue from it")
    p.add_argument(
        "--baseline", type=Path, metavar="JSON", help="an earlier result: fail only for cells that were good in it"
    )
    p.add_argument(
        "--results", type=Path, metavar="JSON", help="take these results for engines that do not run on this machine"
    )
    p.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the page to this file, and JSON beside it")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Run the matrix, and print the summary. Exit code 9 if a model that PyTorch runs failed in a cell."""
    from segc.commands.matrix import matrix
    from segc.support_matrix import page

    def done(job: Job, cells: list[Cell]) -> None:
        if not args.json:
            good = sum(cell.good for cell in cells)
            reasons = dict.fromkeys(cell.reason for cell in cells if not cell.good)
            print(f"{job.config}: {good} of {len(cells)} ok{''.join(f'; {r}' for r in reasons)}", flush=True)

    result = matrix(
        families=args.families, zoo=args.zoo, elsewhere=args.elsewhere, cells=args.cells, targets=args.targets,
        shapes=args.shapes,
        outputs=args.outputs,
        size=arguments.shape(args.size) if args.size else None, jobs=args.jobs, timeout=args.timeout,
        scheduler=args.scheduler, state=args.state, baseline=args.baseline, results=args.results, out=args.out,
        done=done,
    )  # fmt: skip
    print(json.dumps(result.content, indent=2) if args.json else f"\n{page.summary(result.cells)}")
    if args.baseline is not None:
        for cell in result.failed:
            print(f"worse than the baseline: {cell.config} {cell.target} {cell.shape} {cell.output}: {cell.reason}")
    return 9 if result.failed else 0
