"""`segc diff A B`: what two bundles, ONNX files or sources compute, against each other."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from segc.cli import arguments, console

if TYPE_CHECKING:
    from segc.commands.diff import Difference

_DESCRIPTION = """\
Compare A with B, each a bundle, an ONNX file or another source: masks and logits on the same inputs, inner tensors in
network order with the line of the model that each comes from, counts of ops, and the graphs as text.
"""
_SHOWN = 40  # tensors


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "diff", help="compare two bundles, ONNX files or sources tensor by tensor", description=_DESCRIPTION
    )
    p.add_argument("a", metavar="A", help="a bundle, an ONNX file, or what segc compile takes as SOURCE")
    p.add_argument("b", metavar="B", help="likewise")
    p.add_argument("--images", metavar="DIR", help="compare on these images (file or folder), resized")
    p.add_argument("--shape", metavar="HxW", help="the size, where both leave it open")
    p.add_argument("--checkpoint", metavar="PTH", help="weights of sources that have them in a file")
    p.add_argument("-o", "--out", metavar="DIR", help="write pictures of the masks, and graph.diff")
    p.add_argument("--all", action="store_true", help="print every tensor, not only those that differ")
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Compare, and print what differs."""
    with console.steps(quiet=args.json) as progress:
        from segc.commands.diff import diff

        shape = arguments.shape(args.shape) if args.shape is not None else None
        found = diff(
            args.a, args.b, images=args.images, shape=shape, checkpoint=args.checkpoint, out=args.out,
            threads=args.threads, progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        _print(found, every=args.all)
    return 0


def _print(found: Difference, *, every: bool) -> None:
    rows = [
        [c.name, "-" if c.relative_error is None else f"{c.relative_error:.2e}", f"{c.equal_pixels:.4%}",
         str(c.differing_pixels), c.picture]
        for c in found.cases
    ]  # fmt: skip
    console.table(("input", "relative error", "equal pixels", "differing", "picture"), rows)
    shown = [each for each in found.tensors if every or each.verdict == "differs"]
    if shown:
        cells = [
            [t.b, t.op, "x".join(map(str, t.shape)), f"{t.error:.1e}", f"{t.rounding:.1e}", t.verdict, t.origin]
            for t in (shown if every else shown[:_SHOWN])
        ]
        console.table(("tensor", "op", "shape", "error", "rounding", "", "from"), cells)
        if not every and len(shown) > _SHOWN:
            print(f"... and {len(shown) - _SHOWN} more; --all shows every tensor")
    if found.tensors:
        counts = f"{len(found.tensors)} tensors belong together"
        first = "none is further apart than rounding explains"
        if found.first is not None:
            first = f"the first that is further apart than rounding explains: '{found.first.b}', {found.first.origin}"
        print(f"{counts}; {first}")
    changed = {op: counts for op, counts in found.ops.items() if counts[0] != counts[1]}
    if changed:
        console.table(("op", found.a, found.b), [[op, str(n), str(m)] for op, (n, m) in changed.items()])
    for note in found.notes:
        print(f"note: {note}")
    if found.folder is not None:
        print(f"{found.folder}: pictures of the masks, and graph.diff")
