"""Compare runtimes with ONNX Runtime on random models: each through the target's own pipeline, then loaded and run.

    python tools/differential_fuzz.py TARGET [--kind ops|nets] [--count 5000] [--start 0] [--jobs 2] [--json FILE]

Prints each seed that is wrong or ended its process, and the counts at the end. Exit code 1 if there is one. A model is
the same for the same seed: `tests.helpers.differential.model_of(KIND, SEED, TARGET)` gives it.
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


def main() -> int:
    """Ask, print, count."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("target", metavar="TARGET")
    command.add_argument("--kind", choices=("ops", "nets"), default="ops")
    command.add_argument("--count", type=int, default=5000)
    command.add_argument("--start", type=int, default=0)
    command.add_argument("--jobs", type=int, default=2)
    command.add_argument("--json", type=Path)
    args = command.parse_args()
    seeds = range(args.start, args.start + args.count)
    questions = [Question(args.target, args.kind, seeds[at : at + BATCH]) for at in range(0, len(seeds), BATCH)]
    found: list[Answer] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for batch in pool.map(lambda question: list(answers(question)), questions):
            for answer in batch:
                if answer.outcome not in ("ok", "refused"):
                    print(f"{answer.seed}: {answer.outcome}: {answer.why}", flush=True)
            found += batch
    counts = Counter(answer.outcome for answer in found)
    print(f"{args.target}, {args.kind}, seeds {seeds.start} to {seeds.stop - 1}: {dict(counts)}")
    if args.json:
        args.json.write_text(json.dumps([asdict(answer) for answer in found], indent=1) + "\n")
    return bool(set(counts) - {"ok", "refused"})


if __name__ == "__main__":
    sys.exit(main())
