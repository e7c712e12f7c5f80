"""Choose the cells that `make matrix-quick` compiles: together they need every pass that any cell needs.

    PYTHONPATH=. python tools/matrix_cover.py                       # choose from the table
    PYTHONPATH=. python tools/matrix_cover.py --measure             # first write the table: 20 minutes
    PYTHONPATH=. python tools/matrix_cover.py --measure fcn setr    # only the rows of these

The table, docs/tables/matrix-cover.json, says which passes change something in each cell of the support matrix: that is
known as soon as a graph is planned, before an engine is written. A need is a target, static or dynamic sizes, and a
pass that changes something there; so is each target with each kind of sizes and of outputs. The cells that are chosen
have every need that any cell has, in as few seconds as docs/tables/support-matrix.json measured; two cells of a
family with the same sizes share a trace. They are written to docs/tables/matrix-quick.txt, which
`segc matrix --cells` reads.

Measure again when a pass is new, when a target's pipeline gets one, and when the front end exports other graphs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "tables" / "matrix-cover.json"
MATRIX = ROOT / "docs" / "tables" / "support-matrix.json"
CHOICE = ROOT / "docs" / "tables" / "matrix-quick.txt"
SIZE = (128, 128)
HEAD = "# FAMILY TARGET SHAPE OUTPUT: what `make matrix-quick` compiles. Written by tools/matrix_cover.py"
SPLIT = "split between two runtimes"  # needed like a pass by the graphs that their target runs in part

Need = tuple[str, str]  # "TARGET SHAPE" and the name of a pass, or "TARGET SHAPE" and an output
Place = tuple[str, str]  # family and "TARGET SHAPE OUTPUT"
Rows = Mapping[str, Mapping[str, Sequence[str]]]  # family -> "TARGET SHAPE OUTPUT" -> passes


def row_of(family: str) -> dict[str, list[str]]:
    """The cells of a family, each with the passes that change something there. Cost: half a minute."""
    from segc import targets
    from segc.compilation import steps
    from segc.support_matrix.cells import Job
    from segc.support_matrix.families import FAMILIES
    from segc.support_matrix.job import accepted_size

    cache, row = steps.CompileCache(), dict[str, list[str]]()
    job = Job(family, FAMILIES[family], tuple(targets.names()), size=SIZE)
    size = accepted_size(job, cache)
    for shape, target, output in job.places():
        sizes: dict[str, Any] = {"dynamic": True, "trace_shape": size} if shape == "dynamic" else {"shape": size}
        request = steps.Request(job.config, target=target, output=output, mode="whole", **sizes)
        setup = steps.set_up(request, steps.Journal(cache=cache))
        planned = steps.plan(steps.lower(steps.export(steps.open_source(setup))))
        changed = {name for name, result in planned.results if result.changes}
        row[f"{target} {shape} {output}"] = sorted(changed | ({SPLIT} if planned.plan is not None else set()))
    return row


def measured(families: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Their rows. Each family runs in a process of its own, which gives its memory back."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return dict(zip(families, pool.imap(row_of, families), strict=True))


def pipelines() -> dict[str, list[str]]:
    """Pass -> the targets that may run it: what makes a table out of date."""
    from segc.passes.registry import REGISTRY
    from segc.pipeline.stages import targets_of

    serves = targets_of()
    return {name: serves.get(name, []) for name in sorted(REGISTRY)}


def needs(rows: Rows) -> dict[Place, set[Need]]:
    """What each cell needs."""
    found = dict[Place, set[Need]]()
    for family, row in rows.items():
        for cell, names in row.items():
            sizes, output = cell.rsplit(" ", 1)
            found[family, cell] = {(sizes, name) for name in (*names, output)}
    return found


def all_needs(rows: Rows, cells: Collection[Place] | None = None) -> set[Need]:
    """What these cells need, by default all."""
    return set[Need]().union(*(needs for place, needs in needs(rows).items() if cells is None or place in cells))


@dataclass(frozen=True)
class Seconds:
    """What the cells took. cells: without the trace. traces: of a family and a kind of sizes."""

    cells: Mapping[Place, float]
    traces: Mapping[tuple[str, str], float]

    def of(self, places: Collection[Place]) -> float:
        """What these cells take together."""
        traces = {traced(place) for place in places}
        return sum(self.cells[place] for place in places) + sum(self.traces[trace] for trace in traces)

    def more(self, place: Place, places: Collection[Place]) -> float:
        """What the cell takes beside the others."""
        known = any(traced(place) == traced(other) for other in places)
        return self.cells[place] + (0 if known else self.traces[traced(place)])


def traced(place: Place) -> tuple[str, str]:
    """The trace of a cell: its family, and "static" or "dynamic"."""
    family, cell = place
    return family, cell.split()[1]


def choose(rows: Rows, seconds: Seconds) -> list[Place]:
    """Cells that together have every need: the most new needs for a second first, then whatever became superfluous is
    dropped, the longest first.
    """
    of, chosen = needs(rows), list[Place]()
    left = all_needs(rows)
    while left:
        useful = [place for place in of if of[place] & left]
        best = max(useful, key=lambda place: len(of[place] & left) / seconds.more(place, chosen))
        chosen.append(best)
        left -= of[best]
    for place in sorted(chosen, key=lambda place: -seconds.cells[place]):
        others = [other for other in chosen if other != place]
        if all_needs(rows, others) == all_needs(rows):
            chosen = others
    return sorted(chosen)


def measured_seconds() -> Seconds:
    """What the cells took in the support matrix."""
    cells, traces = dict[Place, float](), defaultdict[tuple[str, str], float](float)
    for cell in json.loads(MATRIX.read_text(encoding="utf-8"))["cells"]:
        place = cell["family"], f"{cell['target']} {cell['shape']} {cell['output']}"
        steps = dict(cell["seconds"])
        traces[traced(place)] += steps.pop("export", 0.0)
        cells[place] = sum(steps.values())
    return Seconds(cells, traces)


def text_of(places: Sequence[Place]) -> str:
    """The choice as `segc matrix --cells` reads it."""
    return "".join(f"{line}\n" for line in (HEAD, *(f"{family} {cell}" for family, cell in places)))


def written(rows: Rows) -> str:
    """The table as JSON, a cell a line."""
    lines = [
        f" {json.dumps(family)}: {{\n"
        + ",\n".join(f"  {json.dumps(cell)}: {json.dumps(names)}" for cell, names in row.items())
        + "\n }"
        for family, row in rows.items()
    ]
    known = ",\n".join(f" {json.dumps(name)}: {json.dumps(those)}" for name, those in pipelines().items())
    return f'{{"pipelines": {{\n{known}\n}},\n"families": {{\n' + ",\n".join(lines) + "\n}}\n"


def main(words: Sequence[str] | None = None) -> None:
    """Measure if asked to, write the choice and print it."""
    from segc.support_matrix.families import FAMILIES

    parser = argparse.ArgumentParser(description="Choose the cells of `make matrix-quick`.")
    parser.add_argument("--measure", nargs="*", metavar="FAMILY", help="first measure these, or all")
    args = parser.parse_args(words)
    if args.measure is not None:
        known = json.loads(TABLE.read_text(encoding="utf-8"))["families"] if TABLE.is_file() else {}
        rows = {**known, **measured(args.measure or list(FAMILIES))}
        TABLE.write_text(written({family: rows[family] for family in FAMILIES if family in rows}), encoding="utf-8")
    rows, seconds = json.loads(TABLE.read_text(encoding="utf-8"))["families"], measured_seconds()
    chosen = choose(rows, seconds)
    CHOICE.write_text(text_of(chosen), encoding="utf-8")
    for family in dict.fromkeys(family for family, _ in chosen):
        cells = [cell for name, cell in chosen if name == family]
        print(f"{family:<14}{seconds.of([(family, cell) for cell in cells]):>5.0f} s  {', '.join(cells)}")
    everything = [*seconds.cells]
    print(
        f"{len(chosen)} of {len(everything)} cells, {seconds.of(chosen):.0f} of {seconds.of(everything):.0f} s, "
        f"{len(all_needs(rows))} needs: {CHOICE.relative_to(ROOT)}"
    )


if __name__ == "__main__":
    main()
