"""Choose the families that `make matrix-quick` compiles: together they need every pass that any family needs.

    PYTHONPATH=. python tools/matrix_cover.py                       # the choice, from the table
    PYTHONPATH=. python tools/matrix_cover.py --measure             # first write the table: 20 minutes
    PYTHONPATH=. python tools/matrix_cover.py --measure fcn setr    # only the rows of these

The table, docs/tables/matrix-cover.json, says which passes change something in each cell of the support matrix: that is
known as soon as a graph is planned, before an engine is written. A need is a cell (target, static or dynamic, logits or
mask) and a pass that changes something there. The families that are chosen have every need that any family has, in as
few seconds as docs/tables/support-matrix.json measured. `make matrix-quick` compiles them, named in the Makefile.

Measure again when a pass is new, when a target's pipeline gets one, and when the front end exports other graphs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "tables" / "matrix-cover.json"
MATRIX = ROOT / "docs" / "tables" / "support-matrix.json"
SIZE = (128, 128)
SPLIT = "split between two runtimes"  # needed like a pass by the graphs that their target runs in part

Need = tuple[str, str]  # "TARGET SHAPE OUTPUT" and the name of a pass
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


def needs(row: Mapping[str, Sequence[str]]) -> set[Need]:
    """What a family needs."""
    return {(cell, name) for cell, names in row.items() for name in names}


def all_needs(rows: Rows, families: Collection[str] | None = None) -> set[Need]:
    """What these families need, by default all."""
    return set[Need]().union(*(needs(row) for family, row in rows.items() if families is None or family in families))


def choose(rows: Rows, seconds: Mapping[str, float]) -> list[str]:
    """Families that together have every need: the most new needs for a second first, then whatever became superfluous
    is dropped, the longest first.
    """
    chosen, left = list[str](), all_needs(rows)
    while left:
        best = max(rows, key=lambda family: len(needs(rows[family]) & left) / seconds[family])
        chosen.append(best)
        left -= needs(rows[best])
    for family in sorted(chosen, key=lambda family: -seconds[family]):
        others = [other for other in chosen if other != family]
        if all_needs(rows, others) == all_needs(rows):
            chosen = others
    return sorted(chosen)


def seconds_of() -> dict[str, float]:
    """Family -> the seconds that its cells took in the support matrix."""
    found: defaultdict[str, float] = defaultdict(float)
    for cell in json.loads(MATRIX.read_text(encoding="utf-8"))["cells"]:
        found[cell["family"]] += sum(cell["seconds"].values())
    return dict(found)


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
    """Measure if asked to, and print the choice."""
    from segc.support_matrix.families import FAMILIES

    parser = argparse.ArgumentParser(description="Choose the families of `make matrix-quick`.")
    parser.add_argument("--measure", nargs="*", metavar="FAMILY", help="first measure these, or all")
    args = parser.parse_args(words)
    if args.measure is not None:
        known = json.loads(TABLE.read_text(encoding="utf-8"))["families"] if TABLE.is_file() else {}
        rows = {**known, **measured(args.measure or list(FAMILIES))}
        TABLE.write_text(written({family: rows[family] for family in FAMILIES if family in rows}), encoding="utf-8")
    rows, seconds = json.loads(TABLE.read_text(encoding="utf-8"))["families"], seconds_of()
    chosen = choose(rows, seconds)
    for family in chosen:
        alone = needs(rows[family]) - all_needs(rows, [other for other in chosen if other != family])
        named = ", ".join(sorted({name for _, name in alone})) or "nothing that the others lack"
        print(f"{family:<14}{seconds[family]:>5.0f} s  alone in: {named}")
    total, everything = sum(seconds[family] for family in chosen), sum(seconds.values())
    print(f"{total:.0f} of {everything:.0f} s, {len(all_needs(rows))} needs\n{' '.join(chosen)}")


if __name__ == "__main__":
    main()
