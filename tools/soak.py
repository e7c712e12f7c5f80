"""The long run of tests/robustness: damaged files of every kind, with counts and the seeds of what goes wrong.

PYTHONPATH=. python tools/soak.py --count 4000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.helpers.mutants import ATTEMPTS, campaign


def main() -> int:
    """Print counts and faults of every kind; 1 where there are faults."""
    parser = argparse.ArgumentParser(
        description="Try damaged files of every kind, and print counts and the seeds of faults."
    )
    parser.add_argument("--count", type=int, default=4000, help="seeds of each kind")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(ATTEMPTS), choices=list(ATTEMPTS))
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            counts, faults = campaign(kind, range(args.start, args.start + args.count), Path(folder))
            print(
                f"{kind}: seeds {args.start} to {args.start + args.count - 1}: {counts}, {len(faults)} faults",
                flush=True,
            )
            for line in faults:
                print(f"  {line}", flush=True)
            wrong += len(faults)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
