"""The cost of segc: start-up time, the share of a compile after the export, and peak memory, against the export alone.

    python benchmarks/cost.py [--model NAME] [--shape HxW] [--repeat N]

Each measurement runs in a process of its own, and the alternatives run in turns; the script prints medians. "Export
alone" builds the same model and calls `torch.onnx.export(dynamo=True)`, without segc's rewrites and passes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

MODEL = "fcn_r18-d8_4xb2-80k_cityscapes-512x1024"

EXPORT = """
import json, sys, time, torch
from segc.frontend.source import open_source
from segc.isolation.memory import peak_memory_mb
source = open_source(sys.argv[1])
height, width = map(int, sys.argv[2].split("x"))
start = time.perf_counter()
with torch.no_grad():
    torch.onnx.export(source.module, (torch.zeros(1, 3, height, width),), dynamo=True, opset_version=20, verbose=False)
print(json.dumps({"export": time.perf_counter() - start, "peak_mb": peak_memory_mb()}))
"""

COMPILE = """
import json, sys, segc
height, width = map(int, sys.argv[2].split("x"))
bundle = segc.compile(sys.argv[1], shape=(height, width), out=sys.argv[3], verify=sys.argv[4] == "verify", force=True)
timings = bundle.report["timings"]
print(json.dumps({**timings["seconds"], "peak_mb": timings["peak_memory_mb"]}))
"""


def child(code: str, *arguments: str) -> dict[str, Any]:
    """Run `code` in a fresh interpreter. Returns the JSON of its last line of output."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def seconds_of(*command: str) -> float:
    """The wall time of a command in seconds."""
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def median(rows: list[dict[str, Any]], key: str) -> float:
    """The median of one column."""
    return statistics.median(row[key] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--shape", default="512x1024")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()

    helps = [seconds_of(sys.executable, "-m", "segc", "--help") for _ in range(10)]
    bare = [seconds_of(sys.executable, "-c", "pass") for _ in range(10)]
    print(f"segc --help: {statistics.median(helps):.3f} s (python -c pass: {statistics.median(bare):.3f} s)")

    exports, quick, full = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeat):
            exports.append(child(EXPORT, args.model, args.shape))
            quick.append(child(COMPILE, args.model, args.shape, f"{folder}/quick", "no"))
            full.append(child(COMPILE, args.model, args.shape, f"{folder}/full", "verify"))

    print(f"{args.model} at {args.shape}, medians of {args.repeat}:")
    after = [sum(row[step] for step in ("passes", "emit", "load")) for row in quick]
    share = statistics.median(a / row["export"] for a, row in zip(after, quick, strict=True))
    steps = ", ".join(f"{step} {median(quick, step):.2f} s" for step in ("passes", "emit", "load"))
    print(f"after the export: {statistics.median(after):.2f} s ({steps}), {share:.0%} of segc's export")
    print(f"export: {median(quick, 'export'):.2f} s in segc, {median(exports, 'export'):.2f} s alone")
    alone = median(exports, "peak_mb")
    for name, rows in (("without the gate", quick), ("with the gate", full)):
        peak = median(rows, "peak_mb")
        print(f"peak memory of compile {name}: {peak:.0f} MB, {peak / alone:.2f}x of export alone ({alone:.0f} MB)")


if __name__ == "__main__":
    main()
