"""TensorRT engines of all families: the time of a build, their size, and whether two builds are equal.

    python benchmarks/tensorrt_build.py [SOURCE …] [--precisions fp32 fp16] [--outputs logits mask] [--set NAME=VALUE]
                                        [--size HxW] [--once] [--rows FILE] [--limit SECONDS] [--memory GIB]

SOURCE: families of segc.support_matrix.families, Python files or ONNX files; by default all families at their crop
size. Each source, precision and output is a row. `segc compile --defer`, in a process of its own, writes the legalized
graph and verifies it in ONNX Runtime. The engine is then built twice, in the same way as by every compile, and the
bytes are compared. The build time includes writing the graph, the child process, parsing, building and the sidecar.

The script can run unattended: a row fails, and the others continue, if it takes longer than --limit (3600 s for each
step) or needs more memory than --memory (three quarters of the machine's). Rows are appended to --rows (JSON lines); a
new run with the same file makes the missing and failed rows only. The script prints each row, and at the end medians
and what misses the goals. The exit code is 1 if a row failed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnx.helper

from segc.errors import SegcError
from segc.support_matrix.families import FAMILIES
from segc.targets.protocol import NodesRefused
from segc.targets.tensorrt import runtime
from segc.targets.tensorrt.engine_build import build
from segc.targets.tensorrt.flavor import chosen

BUILD_SECONDS, TO_WEIGHTS, TO_SINGLE, AGREEMENT = 6.0, 1.1, 0.6, 0.995  # the goals
Row = dict[str, Any]
KEY = ("source", "precision", "output", "size", "options")


class Failed(Exception):  # noqa: N818 - an answer, kept in its row
    """A row failed. The message is the reason."""


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The key of a row."""
    return tuple(str(row[name]) for name in KEY)


def measured(asked: Row, limit: float, once: bool) -> Row:
    """Measure one row. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="segc-tensorrt-build-") as folder:
        bundle = Path(folder) / "bundle"
        report = compiled(asked, bundle, limit)
        seconds, cases = report["timings"]["seconds"], report["parity"]["cases"]
        errors = [case["relative_error"] for case in cases if case["relative_error"] is not None]
        row: Row = {
            "agreement": min(case["agreement"] for case in cases),
            "relative_error": max(errors, default=None),
            "early_fp32": sum("early layers" in skip["reason"] for skip in report["skips"]),
            "nodes": sum(report["ops"]["after"].values()),
            "passes_s": seconds["passes"],
            "peak_mb": report["timings"]["peak_memory_mb"],
            "weight_bytes": weight_bytes(bundle / "model.onnx"),
        }
        first, took = built(bundle, Path(folder) / "first", asked, limit)
        row |= {"build_s": seconds["emit"] + took, "engine_bytes": first["bytes"], "version": first["version"]}
        if not once:
            row["equal_bytes"] = built(bundle, Path(folder) / "second", asked, limit)[0]["sha256"] == first["sha256"]
        return row


def compiled(asked: Row, bundle: Path, limit: float) -> Row:
    """Run `segc compile --defer` in a process of its own. Returns its report."""
    source = asked["source"]
    command = [
        *(sys.executable, "-m", "segc", "compile", FAMILIES.get(source, source), "--target", "tensorrt", "--defer"),
        *("--json", "--precision", asked["precision"], "--output", asked["output"], "-o", str(bundle)),
        *([] if source.endswith(".onnx") else ["--mode", "whole"]),
        *(["--shape", asked["size"]] if asked["size"] else []),
        *(word for name, value in asked["options"].items() for word in ("--set", f"{name}={value}")),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"segc compile did not finish within {limit:.0f} s") from None
    if done.returncode:
        raise Failed(f"segc compile, exit code {done.returncode}: {why(done)}")
    report: Row = json.loads(done.stdout)["report"]
    return report


def why(done: subprocess.CompletedProcess[str]) -> str:
    """The reason of a failed `segc compile --json`: from its JSON, else the end of its error output."""
    try:
        said = json.loads(done.stdout)
        return ": ".join([said["error"], *said["because"]])
    except (ValueError, KeyError):
        return done.stderr.strip()[-800:]


def built(bundle: Path, folder: Path, asked: Row, limit: float) -> tuple[Row, float]:
    """Build the engine of the bundle's graph. Returns its size, hash and version, and the seconds of the build."""
    folder.mkdir()
    job, flavor = json.loads((bundle / "build.json").read_bytes()), chosen(asked["options"])
    start = time.perf_counter()
    try:
        sidecar = build.build_file(bundle / "model.onnx", job["profile"], folder, flavor, tf32=job["tf32"], limit=limit)
    except (SegcError, NodesRefused) as error:
        raise Failed(str(error)) from error
    took = time.perf_counter() - start
    size = (folder / runtime.ENGINE).stat().st_size
    return {"bytes": size, "sha256": sidecar["engine_sha256"], "version": sidecar["version"]}, took


def weight_bytes(path: Path) -> int:
    """The size of the constants of an ONNX file in bytes."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    return sum(math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in tensors)


def summary(found: Iterable[Row]) -> Row:
    """Medians over the sources, and the rows that miss a goal."""
    rows = list(found)
    good = [row for row in rows if "failed" not in row]
    engines = {key(row): row["engine_bytes"] for row in good}
    singles = {named(r): r["engine_bytes"] / r["weight_bytes"] for r in good if r["precision"] == "fp32"}
    halves = {
        named(row): row["engine_bytes"] / single
        for row in good
        if row["precision"] == "fp16" and (single := engines.get(key({**row, "precision": "fp32"})))
    }
    precisions = sorted({row["precision"] for row in good})
    return {
        "rows": len(rows),
        "failed": {f"{named(row)} {row['precision']}": row["failed"] for row in rows if "failed" in row},
        "median_build_s": {p: round(median(r["build_s"] for r in good if r["precision"] == p), 2) for p in precisions},
        f"slower than {BUILD_SECONDS} s": _above({_both(r): r["build_s"] for r in good}, BUILD_SECONDS),
        "median_fp32_to_weights": _median(singles),
        f"fp32 above {TO_WEIGHTS} x weights": _above(singles, TO_WEIGHTS),
        "median_fp16_to_fp32": _median(halves),
        f"fp16 above {TO_SINGLE} x fp32": _above(halves, TO_SINGLE),
        f"below {AGREEMENT:.1%} of equal pixels": [_both(r) for r in good if r["agreement"] < AGREEMENT],
        "two builds differ": [_both(r) for r in good if r.get("equal_bytes") is False],
        "least_agreement": min((row["agreement"] for row in good), default=None),
        "largest_peak_mb": max((row["peak_mb"] for row in good), default=None),
    }


def named(row: Row) -> str:
    """The source and output of a row, for people."""
    return Path(row["source"]).stem + ("" if row["output"] == "logits" else f" {row['output']}")


def _both(row: Row) -> str:
    return f"{named(row)} {row['precision']}"


def _median(shares: Mapping[str, float]) -> float | None:
    return round(median(shares.values()), 3) if shares else None


def _above(shares: Mapping[str, float], goal: float) -> dict[str, float]:
    return {name: round(share, 3) for name, share in sorted(shares.items()) if share > goal}


def earlier(path: Path | None) -> dict[tuple[str, ...], Row]:
    """The rows of the file, the last one for each key."""
    if path is None or not path.is_file():
        return {}
    return {key(row): row for line in path.read_text(encoding="utf-8").splitlines() if (row := json.loads(line))}


def wanted(args: argparse.Namespace) -> list[Row]:
    """The keys of all rows, in order."""
    options = dict(sorted(text.split("=", 1) for text in args.set))
    about = {"size": args.size, "options": options}
    return [
        {"source": source, "precision": precision, "output": output, **about}
        for source in args.sources
        for output in args.outputs
        for precision in args.precisions
    ]


def bound_memory(gib: float | None) -> None:
    """Limit the memory of this process and of its children; None: to three quarters of the machine's memory."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = int(whole * 3 / 4 if gib is None else gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=[*FAMILIES], metavar="SOURCE")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16"], choices=["fp32", "fp16"])
    parser.add_argument("--outputs", nargs="+", default=["logits"], choices=["logits", "mask"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--size", metavar="HxW")
    parser.add_argument("--once", action="store_true", help="do not build a second time")
    parser.add_argument("--rows", type=Path, help="JSON lines: existing rows are reused, new ones appended")
    parser.add_argument("--limit", type=float, default=3600.0, metavar="SECONDS")
    parser.add_argument("--memory", type=float, metavar="GIB")
    args = parser.parse_args(arguments)
    bound_memory(args.memory)
    known = earlier(args.rows)
    rows = []
    for asked in wanted(args):
        row = known.get(key(asked))
        if row is None or "failed" in row:
            try:
                row = asked | measured(asked, args.limit, args.once)
            except Failed as why:
                row = asked | {"failed": str(why)}
            if args.rows:
                with args.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
        rows.append(row)
    found = summary(rows)
    print(json.dumps(found, indent=2))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
