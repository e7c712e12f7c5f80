"""segc's ncnn bundles beside pnnx's conversions of the same models.

    python benchmarks/ncnn_vs_pnnx.py --json FILE [--families fcn pspnet …] [--size 512x512] [--threads 2]
                                      [--repeat 9] [--limit 5400] [--params DIR]

For each family, traced at --size with the same weights: segc's bundles (masks made in the engine, which is the default;
logits before their last resize and segc's kernel on the host, `--decode host`; full logits), pnnx from TorchScript (its
recommended way) and pnnx from ONNX (PyTorch's own exporter), all in float32. Each net runs in a process of its own,
loaded by the same few lines, so that a crash costs one cell, and in turns on the same input, so that whatever else the
machine does hits all alike. All do the same work, from the normalised image to a mask of its size on the host: mmseg's
resize of the logits is in each net or done by segc's kernel; where a net gives full logits NumPy's argmax follows.

- converts: the tool ends without an error; loads: ncnn takes the files and computes something of the right shape
- correct: relative logit error at most 3e-3 and at least 99.8 % of pixels equal to eager PyTorch, on four inputs of
  noise and on the photograph that segc brings (PointRend, which selects by top-k, and masks: by pixels)
- ms: median time to a mask; MB: peak resident memory of the process, and the size of the files
- pnnx / segc: the better right pnnx net's time over that of segc's default; error: the median error of segc's logits
  over the smaller one of the right pnnx nets, where there is one

Each family runs in a process of its own and is ended after --limit seconds. With --json its row is kept, failures too,
and families that are there already are not run again. --params keeps the .param files, for comparing layers. Set
OMP_WAIT_POLICY=passive where other work shares the cores: ncnn's threads spin otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from ncnn_nets import KINDS, OURS, THEIRS, Cell, Row, keep_params, measure

from segc.support_matrix.families import FAMILIES

DEFAULT = "segc mask"
MOST = 1.2  # times pnnx's error
CONTEXT = multiprocessing.get_context("spawn")


def right(row: Row) -> list[Cell]:
    """pnnx's nets that are right."""
    return [row.cells[kind] for kind in THEIRS if row.cells[kind].correct]


def faster(row: Row) -> float | None:
    """pnnx's better time over that of segc's default, where both are right."""
    theirs, ours = [cell.ms for cell in right(row) if cell.ms], row.cells[DEFAULT]
    return min(theirs) / ours.ms if theirs and ours.correct and ours.ms else None


def error_ratio(row: Row) -> float | None:
    """The median of segc's logit errors over pnnx's smaller one, where both are right."""
    theirs, ours = [statistics.median(cell.errors) for cell in right(row) if cell.errors], row.cells["segc logits"]
    return statistics.median(ours.errors) / min(theirs) if theirs and ours.correct and ours.errors else None


def told(cell: Cell) -> str:
    """A cell of the table."""
    error = "" if cell.error is None else f"{cell.error:.0e}, "
    if cell.correct:
        return f"{cell.ms:.0f} ms, {error}{cell.memory_mb} MB, {cell.file_mb:.1f} MB"
    if not cell.converts:
        return f"does not convert: {cell.failure[:60]}"
    if not cell.loads:
        return cell.failure[:60]
    seen = "" if cell.agreement is None else f"{error}{cell.agreement:.1%} equal"
    return f"wrong: {cell.failure[:60] or seen}"


def line(row: Row) -> str:
    """A line of the table."""
    ratios = ("-" if ratio is None else f"{ratio:.2f}" for ratio in (faster(row), error_ratio(row)))
    return f"| {' | '.join([row.family, *(told(row.cells[kind]) for kind in KINDS), *ratios])} |"


def summary(rows: list[Row]) -> str:
    """Counts, the geometric mean of the ratios, the fastest of segc's ways, and what is above the limits."""
    lines = [f"| {len(rows)} families | converts | loads | correct |", "|---|---|---|---|"]
    for kind in KINDS:
        cells = [row.cells[kind] for row in rows]
        counts = (sum(getattr(cell, what) for cell in cells) for what in ("converts", "loads", "correct"))
        lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    ratios = {row.family: ratio for row in rows if (ratio := faster(row)) is not None}
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
        slower = [f"{family} {ratio:.2f}" for family, ratio in ratios.items() if ratio < 1]
        lines.append(f"\npnnx / {DEFAULT}, of {len(ratios)}: geometric mean {mean:.2f}; below 1: {slower or 'none'}")
    errors = {row.family: ratio for row in rows if (ratio := error_ratio(row)) is not None}
    above = [f"{family} {ratio:.2f}" for family, ratio in errors.items() if ratio > MOST]
    lines.append(f"error of segc logits / pnnx, of {len(errors)}: above {MOST}: {above or 'none'}")
    wins = dict.fromkeys(OURS, 0)
    for row in rows:
        if times := {kind: ms for kind in OURS if (ms := row.cells[kind].ms) is not None}:
            wins[min(times, key=lambda kind: times[kind])] += 1
    lines.append(f"fastest way of segc to a mask: {', '.join(f'{kind} {count}' for kind, count in wins.items())}")
    return "\n".join(lines)


def child(family: str, size: tuple[int, int], threads: int, repeat: int, params: Path | None, kept: Path) -> None:
    """The process of one family: leaves its row in `kept`. Its group is ended with it."""
    os.setsid()
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        row = measure(family, size, threads, repeat, Path(name))
        if params is not None:
            keep_params(Path(name), params / family)
    kept.write_text(json.dumps(asdict(row)))


def guarded(args: argparse.Namespace, family: str, size: tuple[int, int]) -> Row:
    """The row of a family, from a process of its own that has --limit seconds."""
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name) / "row.json"
        process = CONTEXT.Process(target=child, args=(family, size, args.threads, args.repeat, args.params, kept))
        process.start()
        process.join(args.limit)
        ended = process.exitcode is not None
        if process.pid is not None:
            end_group(process.pid)
        process.kill()  # it may have had no time to make a group
        process.join()
        if kept.is_file():
            return row_of(json.loads(kept.read_text()))
    why = f"its process ended with status {process.exitcode}" if ended else f"no end within {args.limit} s"
    return Row(family, args.size, {kind: Cell(failure=why) for kind in KINDS})


def end_group(pid: int) -> None:
    """Kill a family's process and all that it started and left."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def row_of(kept: dict[str, object]) -> Row:
    """A row as `asdict` gave it."""
    cells = kept["cells"]
    assert isinstance(cells, dict)
    return Row(str(kept["family"]), str(kept["size"]), {kind: Cell(**cell) for kind, cell in cells.items()})


def keep(rows: list[Row], path: Path) -> None:
    """Write all rows; an interruption leaves the file that was there."""
    aside = path.with_name(f"{path.name}.tmp")
    aside.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    aside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES], metavar="F")
    parser.add_argument("--size", default="512x512", metavar="HxW")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--limit", type=int, default=5400, help="seconds for a family")
    parser.add_argument("--json", type=Path, help="keep the rows here, and skip those that are here")
    parser.add_argument("--params", type=Path, help="keep the .param files here")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    rows: list[Row] = []
    if args.json and args.json.exists():
        rows = [row_of(kept) for kept in json.loads(args.json.read_text())]
    if others := {row.size for row in rows} - {args.size}:
        parser.error(f"{args.json} holds rows of {', '.join(others)}, not {args.size}")
    print(f"| family | {' | '.join(KINDS)} | pnnx / segc | error |\n|---|{'---|' * (len(KINDS) + 2)}")
    for row in rows:
        print(line(row), flush=True)
    for family in [family for family in args.families if family not in {row.family for row in rows}]:
        rows.append(guarded(args, family, (height, width)))
        print(line(rows[-1]), flush=True)
        if args.json:
            keep(rows, args.json)
    print(f"\n{summary(rows)}")


if __name__ == "__main__":
    main()
