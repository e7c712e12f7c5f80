"""`segc compile`: compile a source into a verified bundle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segc.cli import arguments, console
from segc.cli import compile_options as options
from segc.traces import watch

if TYPE_CHECKING:
    from segc.bundle.manifest import Manifest
    from segc.commands.compile import Bundle
    from segc.commands.compile_targets import Attempt

_DESCRIPTION = """\
Compile SOURCE for a target. The engine is loaded, run and compared with PyTorch before the bundle is published. A
compile that fails or is interrupted leaves no files behind, and an existing bundle unchanged. With several targets, a
target that refuses does not stop the others; bundles are named OUT-TARGET; the exit code is that of the first error.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "compile", help="compile a model into a verified bundle", description=_DESCRIPTION
    )
    options.add(p, several_targets=True)
    p.add_argument("-o", "--out", metavar="DIR", help="the bundle's folder (default: NAME-TARGET)")
    p.add_argument("--force", action="store_true", help="replace an existing bundle")
    p.add_argument("--no-verify", action="store_true", help="skip the parity gate")
    p.add_argument("--keep-onnx", action="store_true", help="store the final graph as final.onnx in the bundle")
    p.add_argument("--dump-ir", metavar="DIR", help="write the graph as text after each pass that changed it")
    p.add_argument(
        "--no-cache", action="store_true", help="trace anew, and keep no trace (segc doctor shows what is kept)"
    )
    p.add_argument("--check", action="store_true", help="check graph and numbers after each pass (slow)")
    p.add_argument(
        "--allow-file-difference", action="store_true",
        help="publish the bundle, with a note, though `segment` differs from the source's own way from file to mask",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Compile, and print a summary; for several targets a table. A target that refuses stops no other."""
    names = list(dict.fromkeys(name.strip() for name in args.target.split(",")))
    with console.steps(quiet=args.json) as progress:
        progress("starting")
        keep = not args.no_cache and watch.begin() is not None
        arguments.prepare_libraries(args.source)
        from segc.commands.compile import compile_request
        from segc.commands.compile_targets import compile_targets

        request = replace(
            options.request(args), out=args.out, force=args.force, verify=not args.no_verify, keep_onnx=args.keep_onnx,
            dump_ir=args.dump_ir, check=args.check, allow_file_difference=args.allow_file_difference,
        )  # fmt: skip
        if len(names) > 1:
            attempts = compile_targets(request, names, cache=keep, progress=progress)
        else:
            bundle = compile_request(request, progress, keep=keep)
    if len(names) > 1:
        return _print_attempts(attempts, as_json=args.json)
    if args.json:
        print(json.dumps({"bundle": str(bundle.path), "report": bundle.report}, indent=2))
    else:
        _print(bundle)
    return 0


def _print_attempts(attempts: Sequence[Attempt], *, as_json: bool) -> int:
    """Print what became of each target. Returns 0, or the exit code of the first error."""
    errors = [attempt.error for attempt in attempts if attempt.error is not None]
    if as_json:
        print(json.dumps([_attempt_json(attempt) for attempt in attempts], indent=2))
        return errors[0].exit_code if errors else 0
    for note in dict.fromkeys(n for a in attempts if a.bundle is not None for n in a.bundle.report["notes"]):
        print(f"note: {note}")
    console.table(
        ("target", "status", "nodes", "MB", "largest error", "equal pixels", "bundle"),
        [_attempt_row(attempt) for attempt in attempts],
    )
    for attempt in attempts:
        if attempt.error is not None:
            print(f"{attempt.target}: {attempt.error}", file=sys.stderr)
    return errors[0].exit_code if errors else 0


def _attempt_row(attempt: Attempt) -> list[str]:
    if attempt.bundle is None:
        return [attempt.target, f"refused [{attempt.error.code if attempt.error else ''}]", *["-"] * 5]
    report, manifest = attempt.bundle.report, attempt.bundle.manifest
    cases = report["parity"]["cases"] if report["parity"] is not None else []
    errors = [float(case["relative_error"]) for case in cases if case["relative_error"] is not None]
    return [
        attempt.target,
        f"{report['status_kind']}{', hybrid' if manifest.hybrid else ''}",
        str(sum(report["ops"]["after"].values())),
        f"{sum(file.bytes for file in manifest.files.values()) / 1e6:.1f}",
        f"{max(errors):.2e}" if errors else "-",
        f"{min(float(case['agreement']) for case in cases):.4%}" if cases else "not checked",
        str(attempt.bundle.path),
    ]


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    found: dict[str, Any] = {"target": attempt.target}
    if attempt.bundle is not None:
        return found | {"bundle": str(attempt.bundle.path), "report": attempt.bundle.report}
    return found | (attempt.error.to_json() if attempt.error is not None else {})


def _print(bundle: Bundle) -> None:
    from segc import targets
    from segc.bundle.store import PAGE
    from segc.packaging.program import FOLDER

    manifest, report = bundle.manifest, bundle.report
    for note in report["notes"]:
        print(f"note: {note}")
    size = sum(f.bytes for f in manifest.files.values()) / 1e6
    seconds = report["timings"]["seconds"]
    names = dict.fromkeys(f"{FOLDER}/" if name.startswith(f"{FOLDER}/") else name for name in manifest.files)
    print(f"bundle:  {bundle.path} ({size:.1f} MB, {', '.join(names)})")
    engine = f"{manifest.target.name} {manifest.target.runtime}"
    made = "" if manifest.output.decode is None else ", made by segc's runtime"
    image = ", uint8 images" if manifest.input.dtype == "uint8" else ""
    print(f"engine:  {engine}, input {list(manifest.input.shape)}{image}, output {manifest.output.kind}{made}")
    if manifest.hybrid:
        _print_hybrid(manifest, report["hybrid"])
    before, after = (sum(report["ops"][k].values()) for k in ("before", "after"))
    if report["status"] != "ok":
        print(f"status:  {report['status']}")
        if risk := _risk(manifest):
            check = f"segc {'verify' if manifest.hybrid else 'kit'} {bundle.path} SOURCE"
            print(f"risk:    {risk}; compare the engine where it runs: {check}{'' if manifest.hybrid else ' -o KIT'}")
    print(f"graph:   {before} nodes -> {after}; {', '.join(f'{k} {v:.1f} s' for k, v in seconds.items())}")
    if report["parity"] is None:
        print("parity:  NOT CHECKED (--no-verify)")
    else:
        print(f"parity:  against {report['parity']['reference']}")
        console.table(PARITY_HEADERS, [parity_row(case) for case in report["parity"]["cases"]])
    for case in report.get("files") or ():
        print(f"file:    {_file_line(case)}")
    if labels := report.get("labels"):
        _print_labels(labels)
    deferred = targets.get(manifest.target.name).deferred_build
    later = deferred is not None and deferred.pending(manifest.target.options)
    print(f"report:  {bundle.path / PAGE}")
    print(f"next:    segc {'build' if later else 'run'} {bundle.path}{'' if later else ' IMAGE -o out'}")


def _print_labels(labels: dict[str, Any]) -> None:
    """What rounding costs on labelled images: mIoU, of boundaries, and IoU of each class."""
    rows = [("all classes", labels["miou"]), ("within 3 px of boundaries", labels["boundary_miou"])]
    rows += [(one["name"], one["iou"]) for one in labels["classes"]]
    print(f"labels:  {labels['images']} images; mIoU drops by {labels['drop']:.2f} points")
    cells = [[name, *("-" if share is None else f"{100 * share:.2f}" for share in pair)] for name, pair in rows]
    console.table(("IoU", "reference", "engine"), cells)


def _file_line(case: dict[str, Any]) -> str:
    """One comparison of `segment` with the source's own way from a file to a mask."""
    parts = [f"{case['name']}, against the source's own code"]
    if case["tensor_error"] is not None:
        parts.append(f"input differs by {float(case['tensor_error']):.1e}")
    if case["equal"] is not None:
        parts.append(f"{float(case['equal']):.4%} of the mask's pixels equal")
    return "; ".join(parts)


def _risk(manifest: Manifest) -> str:
    """What is known about errors of a runtime that is not on this machine."""
    from segc import targets

    settings = targets.Settings(precision=manifest.precision, options=manifest.target.settings)
    return targets.get(manifest.target.name).risk(settings)


def _print_hybrid(manifest: Manifest, summary: dict[str, Any]) -> None:
    """Print which nodes run in which runtime, and why."""
    print(f"hybrid:  {manifest.hybrid}; {manifest.target.name} does {summary['target_share']:.1%} of the work")
    for line in [*summary["refused"], *summary["moved"]]:
        print(f"         {line}")
    print(f"         {' -> '.join(f'{s.target} {s.nodes}' for s in manifest.segments)} nodes")


PARITY_HEADERS = ("case", "relative error", "equal pixels", "mIoU", "near boundaries", "differing")


def parity_row(case: dict[str, Any]) -> list[str]:
    """The cells of a case for a table."""
    error = case["relative_error"]
    return [
        case["name"],
        "-" if error is None else f"{error:.2e}",
        f"{case['agreement']:.4%}",
        f"{case['miou']:.4f}",
        f"{case['boundary_agreement']:.4%}",
        str(case["differing_pixels"]) + (f" ({case['near_ties']} near ties)" if case["near_ties"] else ""),
    ]
