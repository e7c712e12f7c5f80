"""segc's ncnn bundles, compared with pnnx's conversions of the same models.

    python benchmarks/ncnn_vs_pnnx.py --json FILE [--families fcn pspnet …] [--size 512x512] [--threads 2]
                                      [--repeat 9] [--limit 5400] [--params DIR]

Each family is traced at --size, with the same weights for all nets, in float32. segc's nets are: masks made in the
engine, which is the default; logits before the last resize and masks by segc's kernel on the host (`--decode host`);
full logits. pnnx converts from TorchScript, as it recommends, and from ONNX (PyTorch's exporter). Each net runs in a
process of its own, loaded by the same code, so that a crash fails one cell only. The nets run in turns on the same
input, so that other load affects all equally. All do the same work, from the normalized image to a mask of its size on
the host: mmseg's resize of the logits is part of the net or done by segc's kernel, and NumPy's argmax follows full
logits.

- converts: the tool ends without an error. loads: ncnn loads the files and returns an output of the right shape.
- correct: relative logit error at most 3e-3, and at least 99.8 % of pixels equal to eager PyTorch, on four inputs of
  noise and on segc's photograph. PointRend, which selects points by top-k, and masks are judged by pixels.
- ms: median time to a mask. MB: peak resident memory of the process, and the size of the files.
- pnnx / segc: the time of the faster correct pnnx net, divided by that of segc's default. error: the median error of
  segc's logits, divided by the smaller one of the correct pnnx nets.

Each family runs in a process of its own, which is killed after --limit seconds. --json saves its row, also that of a
failure; families that the file has are not run again. --params saves the .param files, for comparing layers. Set
OMP_WAIT_POLICY=passive if other programs share the cores: otherwise ncnn's threads spin.
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

from ncnn_nets import KINDS, OURS, THEIRS, Cell, Row, copy_params, measure

from segc.support_matrix.families import FAMILIES

DEFAULT = "segc mask"
MOST = 1.2  # times pnnx's error
CONTEXT = multiprocessing.get_context("spawn")


def correct_pnnx_nets(row: Row) -> list[Cell]:
    """The correct pnnx nets."""
    return [row.cells[kind] for kind in THEIRS if row.cells[kind].correct]


def speed_ratio(row: Row) -> float | None:
    """The time of the faster pnnx net divided by that of segc's default; None unless both are correct."""
    theirs, ours = [cell.ms for cell in correct_pnnx_nets(row) if cell.ms], row.cells[DEFAULT]
    return min(theirs) / ours.ms if theirs and ours.correct and ours.ms else None


def error_ratio(row: Row) -> float | None:
    """The median of segc's logit errors divided by the smaller one of pnnx; None unless both are correct."""
    theirs, ours = (
        [statistics.median(cell.errors) for cell in correct_pnnx_nets(row) if cell.errors],
        row.cells["segc logits"],
    )
    return statistics.median(ours.errors) / min(theirs) if theirs and ours.correct and ours.errors else None


def cell_text(cell: Cell) -> str:
    """The cell as Markdown."""
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
    """The row as Markdown."""
    ratios = ("-" if ratio is None else f"{ratio:.2f}" for ratio in (speed_ratio(row), error_ratio(row)))
    return f"| {' | '.join([row.family, *(cell_text(row.cells[kind]) for kind in KINDS), *ratios])} |"


def summary(rows: list[Row]) -> str:
    """Counts, the geometric mean of the ratios, segc's fastest method, and the families above the limits."""
    lines = [f"| {len(rows)} families | converts | loads | correct |", "|---|---|---|---|"]
    for kind in KINDS:
        cells = [row.cells[kind] for row in rows]
        counts = (sum(getattr(cell, what) for cell in cells) for what in ("converts", "loads", "correct"))
        lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    ratios = {row.family: ratio for row in rows if (ratio := speed_ratio(row)) is not None}
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
    lines.append(f"segc's fastest method for a mask: {', '.join(f'{kind} {count}' for kind, count in wins.items())}")
    return "\n".join(lines)


def measure_to_file(
    family: str, size: tuple[int, int], threads: int, repeat: int, params: Path | None, kept: Path
) -> None:
    """The process of one family: writes its row to `kept`. It leads a process group, which is killed with it."""
    os.setsid()
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        row = measure(family, size, threads, repeat, Path(name))
        if params is not None:
            copy_params(Path(name), params / family)
    kept.write_text(json.dumps(asdict(row)))


def measure_in_process(args: argparse.Namespace, family: str, size: tuple[int, int]) -> Row:
    """Measure a family in a process of its own, for at most --limit seconds. Returns its row."""
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name) / "row.json"
        process = CONTEXT.Process(
            target=measure_to_file, args=(family, size, args.threads, args.repeat, args.params, kept)
        )
        process.start()
        process.join(args.limit)
        ended = process.exitcode is not None
        if process.pid is not None:
            end_group(process.pid)
        process.kill()  # it may not have created its group yet
        process.join()
        if kept.is_file():
            return row_of(json.loads(kept.read_text()))
    why = f"its process ended with status {process.exitcode}" if ended else f"not finished within {args.limit} s"
    return Row(family, args.size, {kind: Cell(failure=why) for kind in KINDS})


def end_group(pid: int) -> None:
    """Kill a family's process and all processes that it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def row_of(kept: dict[str, object]) -> Row:
    """The row from the result of `asdict`."""
    cells = kept["cells"]
    assert isinstance(cells, dict)
    return Row(str(kept["family"]), str(kept["size"]), {kind: Cell(**cell) for kind, cell in cells.items()})


def write_rows(rows: list[Row], path: Path) -> None:
    """Write all rows; an interruption leaves the old file."""
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
    parser.add_argument("--json", type=Path, help="save the rows here, and skip families that the file has")
    parser.add_argument("--params", type=Path, help="save the .param files here")
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
        rows.append(measure_in_process(args, family, (height, width)))
        print(line(rows[-1]), flush=True)
        if args.json:
            write_rows(rows, args.json)
    print(f"\n{summary(rows)}")


if __name__ == "__main__":
    main()
