"""Compare runtimes with ONNX Runtime on random models: each through the target's own pipeline, then loaded and run.

    python tools/differential_fuzz.py TARGET [--kind ops|nets] [--count 5000] [--start 0] [--jobs 2] [--state FILE]

Prints each seed that is wrong or ended its process, and the counts at the end. Exit code 1 if there is one. --state: a
file that keeps the answers of finished batches, so that an interrupted run goes on where it stopped. A model is the
same for the same seed: `tests.helpers.differential.model_of(KIND, SEED, TARGET)` gives it. From seed 20,000 on,
convolutions share weights. Wrong is what is much further from float64 than ONNX Runtime is
(`tests.helpers.differential.distance`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from segc.isolation.supervisor import Child, ChildEnded, ChildRaised
from tests.helpers.differential import Answer, Question

BATCH, SECONDS, MEMORY = 50, 120.0, 8 << 30


def answers(question: Question) -> Iterator[Answer]:
    """All answers; where a child ends without one, each model is asked about alone."""
    child = Child("tests.helpers.differential", memory=MEMORY)
    try:
        yield from child.ask(question, SECONDS)
        return
    except (ChildEnded, ChildRaised) as ended:
        if len(question.seeds) == 1:
            yield Answer(question.seeds[0], "crash" if isinstance(ended, ChildEnded) else "bug", str(ended))
            return
    finally:
        child.close()
    half = len(question.seeds) // 2
    for seeds in (question.seeds[:half], question.seeds[half:]):
        yield from answers(Question(question.target, question.kind, seeds))


def kept(state: Path | None, target: str, kind: str) -> list[Answer]:
    """The answers for a target and a kind of model in a file of earlier batches."""
    if state is None or not state.is_file():
        return []
    rows = [json.loads(line) for line in state.read_text().splitlines()]
    return [Answer(**row["answer"]) for row in rows if (row["target"], row["kind"]) == (target, kind)]


def keep(state: Path | None, target: str, kind: str, batch: list[Answer]) -> None:
    """Append the answers of a batch."""
    if state is not None:
        rows = [json.dumps({"target": target, "kind": kind, "answer": asdict(answer)}) for answer in batch]
        with state.open("a") as file:
            file.write("\n".join(rows) + "\n")


def main() -> int:
    """Ask, print, count."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("target", metavar="TARGET")
    command.add_argument("--kind", choices=("ops", "nets"), default="ops")
    command.add_argument("--count", type=int, default=5000)
    command.add_argument("--start", type=int, default=0)
    command.add_argument("--jobs", type=int, default=2)
    command.add_argument("--state", type=Path)
    args = command.parse_args()
    seeds = range(args.start, args.start + args.count)
    found = kept(args.state, args.target, args.kind)
    done = {answer.seed for answer in found}
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    questions = [Question(args.target, args.kind, batch) for batch in batches if not done.issuperset(batch)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for batch in pool.map(lambda question: list(answers(question)), questions):
            for answer in batch:
                if answer.outcome not in ("ok", "refused"):
                    print(f"{answer.seed}: {answer.outcome}: {answer.why}", flush=True)
            found += batch
            keep(args.state, args.target, args.kind, batch)
    counts = Counter(answer.outcome for answer in found if answer.seed in seeds)
    print(f"{args.target}, {args.kind}, seeds {seeds.start} to {seeds.stop - 1}: {dict(counts)}")
    return bool(set(counts) - {"ok", "refused"})


if __name__ == "__main__":
    sys.exit(main())
