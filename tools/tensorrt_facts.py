"""Write what engines did on a GPU into targets/tensorrt/facts.json.

    python tools/tensorrt_facts.py RESULTS        RESULTS: the JSON of benchmarks/gpu/measure.py

Each network of the probes gets its outcome. A row of the table whose network is right becomes known as 'run'; one whose
network is wrong too, with what is wrong, and it is printed: a rule of targets/tensorrt/ops.py has to refuse that form.
Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FACTS = Path(__file__).parents[1] / "targets" / "tensorrt" / "facts.json"


def told(facts: dict[str, Any], results: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The facts with the outcomes of `results`, and the lines about networks that are not right."""
    words = results.get("ran_with", {}).get("tensorrt", "")
    outcomes: dict[str, str] = {}
    for row in results["rows"]:
        if row["job"][0] == "probes":
            outcomes |= row.get("networks", {})
    rows = dict(facts["rows"])
    for name, outcome in outcomes.items():
        op = name.removeprefix("row ")
        if name.startswith("row ") and op in rows:
            rows[op] = {**rows[op], "known": "run", "on": words, "outcome": outcome}
    networks = {**facts["networks"], **{name: {"on": words, "outcome": text} for name, text in outcomes.items()}}
    lines = [f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome != "right"]
    failed = [row for row in results["rows"] if row["job"][0] == "probes" and "failed" in row]
    lines += [f"probes, group {row['job'][2]}: {row['failed']}" for row in failed]
    return {**facts, "rows": rows, "networks": networks}, lines


def main() -> int:
    """Read, write, print."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("results", type=Path, metavar="RESULTS")
    args = command.parse_args()
    found, lines = told(json.loads(FACTS.read_bytes()), json.loads(args.results.read_bytes()))
    FACTS.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
