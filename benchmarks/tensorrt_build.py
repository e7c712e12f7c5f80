"""TensorRT engines of all families: what a build costs, how large they are, whether two builds are equal.

    python benchmarks/tensorrt_build.py [SOURCE …] [--precisions fp32 fp16] [--outputs logits mask] [--set NAME=VALUE]
                                        [--size HxW] [--once] [--json FILE]

SOURCE: families of segc.families, or ONNX files; default: all families. Each is compiled by `segc.compile` with the
parity gate (the legalized graph in ONNX Runtime), its engine built a second time from nothing, and the bytes compared.
Build seconds are those of the step `emit`: writing the graph, the child process, parsing, building, the sidecar.
Prints one JSON object a row as it goes, and a summary with medians.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import segc
from segc.cli import arguments
from segc.errors import SegcError
from segc.families import FAMILIES
from segc.targets.tensorrt.builder import ENGINE

Row = dict[str, Any]


def rows(
    source: str, precisions: Sequence[str], outputs: Sequence[str], size: tuple[int, int] | None,
    options: dict[str, str], once: bool,
) -> Iterator[Row]:  # fmt: skip
    """A row for each precision and output of one source."""
    path = FAMILIES.get(source, source)
    for precision in precisions:
        for output in outputs:
            row: Row = {"source": Path(source).stem, "precision": precision, "output": output}
            asked = {
                "target": "tensorrt", "precision": precision, "output": output, "shape": size, "options": options,
                "mode": None if str(path).endswith(".onnx") else "whole",
            }  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                try:
                    yield row | _measured(path, asked, Path(folder), once)
                except SegcError as error:
                    yield row | {"failed": str(error)}


def _measured(path: str, asked: dict[str, Any], folder: Path, once: bool) -> Row:
    bundle = segc.compile(path, out=folder / "a", **asked)
    report = bundle.report
    engine = (bundle.path / ENGINE).read_bytes()
    cases = report["parity"]["cases"]
    row = {
        "status": report["status"],
        "build_s": report["timings"]["seconds"]["emit"],
        "passes_s": report["timings"]["seconds"]["passes"],
        "engine_bytes": len(engine),
        "agreement": min(case["agreement"] for case in cases),
        "relative_error": max((case["relative_error"] for case in cases if case["relative_error"]), default=None),
        "early_fp32": sum("early layers" in skip["reason"] for skip in report["skips"]),
        "nodes": sum(report["ops"]["after"].values()),
    }
    if not once:
        again = segc.compile(path, out=folder / "b", verify=False, **asked)
        row["equal_bytes"] = (again.path / ENGINE).read_bytes() == engine
    return row


def weight_bytes(source: str) -> int | None:
    """Bytes of the weights of an ONNX file; None for a family, whose weights are not at hand."""
    if not source.endswith(".onnx"):
        return None
    import onnx
    import onnx.numpy_helper

    return sum(onnx.numpy_helper.to_array(t).nbytes for t in onnx.load(source).graph.initializer)


def summary(found: Sequence[Row]) -> Row:
    """Medians over the families, and what misses."""
    good = [row for row in found if "failed" not in row]
    both: dict[tuple[str, str], dict[str, int]] = {}
    for row in good:
        both.setdefault((row["source"], row["output"]), {})[row["precision"]] = row["engine_bytes"]
    halves = {source: sizes["fp16"] / sizes["fp32"] for (source, _), sizes in both.items() if len(sizes) == 2}
    singles = [r["engine_bytes"] / r["weight_bytes"] for r in good if r["precision"] == "fp32" and r["weight_bytes"]]
    return {
        "rows": len(found),
        "failed": sorted({row["source"] for row in found if "failed" in row}),
        "median_build_s": {p: median(r["build_s"] for r in good if r["precision"] == p) for p in _precisions(good)},
        "median_fp32_to_weights": median(singles) if singles else None,
        "median_fp16_to_fp32": median(halves.values()) if halves else None,
        "above_0.6": sorted(source for source, share in halves.items() if share > 0.6),
        "unequal": sorted({row["source"] for row in good if row.get("equal_bytes") is False}),
        "least_agreement": min((row["agreement"] for row in good), default=None),
    }


def _precisions(found: Sequence[Row]) -> list[str]:
    return sorted({row["precision"] for row in found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=[*FAMILIES], metavar="SOURCE")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16"], choices=["fp32", "fp16"])
    parser.add_argument("--outputs", nargs="+", default=["logits"], choices=["logits", "mask"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--size", metavar="HxW")
    parser.add_argument("--once", action="store_true", help="do not build a second time")
    parser.add_argument("--json", type=Path, help="write rows and summary here too")
    args = parser.parse_args()
    options = dict(text.split("=", 1) for text in args.set)
    size = arguments.shape(args.size) if args.size else None
    found: list[Row] = []
    for source in args.sources:
        weights = weight_bytes(source)
        for row in rows(source, args.precisions, args.outputs, size, options, args.once):
            found.append({**row, "weight_bytes": weights})
            print(json.dumps(found[-1]), flush=True)
    content = {"rows": found, "summary": summary(found)}
    print(json.dumps(content["summary"], indent=2))
    if args.json:
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
