"""`segc val`: scores of bundles on labelled images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments, console, logs
from segc.errors import FileError

if TYPE_CHECKING:
    from segc.commands.val import Progress, ValResult

_DESCRIPTION = """\
Segment labelled images and compare the masks with the labels: accuracy, IoU, Dice and F-score, of all pixels, near
boundaries and away from them, of each class, as mmseg's IoUMetric counts. Give --images and --labels, whose files have
the same names, or --dataset. An image that cannot be used does not stop the others; the exit code is then 8.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "val", help="scores of bundles on labelled images", description=_DESCRIPTION
    )
    p.add_argument("bundles", metavar="BUNDLE", nargs="+", help="folders that segc compile wrote")
    p.add_argument("--images", metavar="DIR", type=Path, help="folder of images")
    p.add_argument("--labels", metavar="DIR", type=Path, help="folder of labels: class numbers, as grey or palette PNG")
    p.add_argument("--dataset", metavar="CONFIG", type=Path, help="mmseg config whose test_dataloader to evaluate on")
    p.add_argument(
        "--ignore-index", metavar="N", type=arguments.number("--ignore-index", ranges.LABEL),
        help="label of pixels that do not count (default 255)",
    )  # fmt: skip
    p.add_argument("--reduce-zero-label", action="store_true", help="label 0 does not count, the others are one less")
    p.add_argument("--label-map", metavar="OLD=NEW,...", help="class numbers of labels, for example 7=0,8=1,9=ignore")
    p.add_argument("--source", metavar="SOURCE", help="evaluate this model in PyTorch too, as segc compile takes it")
    p.add_argument("--checkpoint", metavar="PTH", help="file with the weights of --source")
    p.add_argument("--allow-mismatch", action="store_true", help="load a checkpoint as far as it fits")
    p.add_argument(
        "--skip-transform", metavar="NAME", action="append", default=[],
        help="leave out this step of the test pipeline of --source; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--boundary", metavar="N", type=arguments.number("--boundary", ranges.BAND), default=3,
        help="width in pixels of the band on either side of boundaries (default 3)",
    )  # fmt: skip
    p.add_argument("--direct", action="store_true", help="resize small logits in one step, as segc run --direct does")
    p.add_argument("-o", "--out", metavar="DIR", type=Path, help="write val.json and pictures of the worst images here")
    p.add_argument(
        "--worst", metavar="N", type=arguments.number("--worst", ranges.PICTURES), default=8,
        help="pictures of the images with the lowest mIoU, with -o (default 8)",
    )  # fmt: skip
    p.add_argument("--state", metavar="FILE", type=Path, help="save finished images here, and continue from it")
    p.add_argument("--scheduler", metavar="ADDRESS", help="evaluate on the workers of this Dask scheduler")
    p.add_argument(
        "--max-pixels", metavar="N", type=arguments.number("--max-pixels", ranges.PIXELS), default=1 << 29,
        help="larger images are not decoded (default 536870912)",
    )  # fmt: skip
    arguments.add_python(p)
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Evaluate, and print tables. Returns 0, or 8 if some images cannot be used."""
    from segc.commands.val import val
    from segc.validation.labels import IGNORE, parse_label_map

    ignored = IGNORE if args.ignore_index is None else args.ignore_index
    label_map = parse_label_map(args.label_map, ignored) if args.label_map is not None else None
    with _progress(quiet=args.json) as report:
        result = val(
            args.bundles, images=args.images, labels=args.labels, dataset=args.dataset,
            ignore_index=args.ignore_index, reduce_zero_label=args.reduce_zero_label, label_map=label_map,
            source=args.source, checkpoint=args.checkpoint, allow_mismatch=args.allow_mismatch,
            skip_transforms=args.skip_transform, boundary=args.boundary, direct=args.direct, python=args.python,
            out=args.out, worst=args.worst, state=args.state, scheduler=args.scheduler, threads=args.threads,
            max_pixels=args.max_pixels, progress=report,
        )  # fmt: skip
    if args.json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        _print(result, args.boundary, args.out)
    return FileError.exit_code if result.errors else 0


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Yields a function that moves a bar with the time left on a terminal; else it says each tenth part on stderr."""
    if logs.are_shown() or not sys.stderr.isatty():
        tenths = set()

        def say(number: int, total: int, name: str) -> None:
            if not quiet and (tenth := 10 * number // total) not in tenths:
                tenths.add(tenth)
                print(f"segc: {number} of {total} images, {name}", file=sys.stderr, flush=True)

        yield say
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=None)
        yield lambda number, total, _: bar.update(task, total=total, completed=number)


def _print(result: ValResult, boundary: int, out: Path | None) -> None:
    """Per cent, with the two digits that mmseg prints."""
    from segc.validation.scores import percent

    def shown(share: float | None) -> str:
        return f"{percent(share):.2f}"

    headers = ("", "aAcc", "mAcc", "mIoU", "mDice", "mFscore", f"mIoU within {boundary} px", "mIoU beyond", "engine")
    rows = []
    for one in result.columns:
        all_of_it = one.overall
        means = (all_of_it.a_acc, all_of_it.m_acc, all_of_it.m_iou, all_of_it.m_dice, all_of_it.m_fscore)
        rows.append([one.name, *map(shown, (*means, one.boundary.m_iou, one.interior.m_iou)), one.engine])
    console.table(headers, rows)
    names = [one.name for one in result.columns]
    parts = [*(f"IoU {name}" for name in names), *(f"acc {name}" for name in names)]
    classes = zip(*(one.overall.classes for one in result.columns), strict=True)
    console.table(
        ("class", *parts),
        [[row[0].name, *(shown(c.iou) for c in row), *(shown(c.acc) for c in row)] for row in classes],
    )  # fmt: skip
    _print_rest(result, out)


def _print_rest(result: ValResult, out: Path | None) -> None:
    from segc.cli.run import grouped

    print(f"{result.images} image{'' if result.images == 1 else 's'} evaluated")
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if result.unknown_labels:
        listed = ", ".join(f"{label} ({count} pixels)" for label, count in sorted(result.unknown_labels.items())[:8])
        print(f"note: labels that are no class, counted as mmseg does: {listed}", file=sys.stderr)
    if result.unused_labels:
        print(f"note: {len(result.unused_labels)} labels have no image, {result.unused_labels[0]}", file=sys.stderr)
    if out is not None:
        print(f"val.json and {len(result.worst)} pictures of the worst images are in {out.resolve()}")
    for line in grouped(result.errors):
        print(line.replace("not segmented", "not evaluated"), file=sys.stderr)
