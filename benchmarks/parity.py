"""Accuracy of segc's engines and of the plain torch export in the same runtimes, compared with eager PyTorch.

    python benchmarks/parity.py [--models fcn pspnet … | all] [--targets onnxruntime openvino] [--size HxW] [--odd]
                                [--state FILE]

Weights are random from a fixed seed, and BatchNorm statistics are calibrated. Inputs are noise and a photograph. For
each model, size and target, the script prints the relative logit error and the share of equal pixels of segc's bundle,
the same for `torch.onnx.export(dynamo=True)` of the unmodified model in the same runtime, and whether every differing
pixel is a near tie. --state saves the rows: an interrupted run continues from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

import segc
from segc import targets
from segc.cli import arguments
from segc.commands.compile import compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request
from segc.errors import ShapeError
from segc.frontend.model import Source
from segc.frontend.source import open_source
from segc.parity import metrics, sample_inputs
from segc.parity.reference import reference_of
from segc.support_matrix.families import FAMILIES
from segc.targets import Settings

LIGHT = ("fcn", "pspnet", "deeplabv3plus", "segformer", "unet", "fastscnn", "bisenetv2", "segmenter")
ODD = (97, 129)


@dataclass(frozen=True)
class Row:
    """The worst figures over all inputs for one model, size and target. plain_*: those of the plain torch export."""

    model: str
    size: tuple[int, int]
    target: str
    error: float
    agreement: float
    margin_ratio: float | None
    plain_error: float
    plain_agreement: float
    asked: str = "crop"  # the requested size, "crop" or HxW; `size` is the nearest size that the model accepts

    @property
    def ratio(self) -> float:
        """segc's error relative to the plain export's."""
        return self.error / self.plain_error if self.plain_error else float(self.error > 0)


def measure(
    name: str, size: tuple[int, int] | None, target_names: tuple[str, ...], asked: str, threads: int = 2
) -> Iterator[Row]:
    """The rows of one model at `size` (None: the config's crop size), rounded up to a size that the model accepts."""
    cache = CompileCache()
    source = open_source(FAMILIES[name], mode="whole")
    size = accepted_size(source, size or source.info.shape)
    info = source.info
    cache.source((FAMILIES[name], None, False, "whole"), lambda: source)
    shape = (1, info.in_channels, *size)
    inputs = list(sample_inputs.inputs(shape, info.mean, info.std, info.channel_order))
    reference = reference_of(source)
    expected = [(label, x, reference(x)) for label, x in inputs]
    with tempfile.TemporaryDirectory() as folder:
        plain = plain_export(source, shape)
        for target_name in target_names:
            target = targets.get(target_name)
            out = Path(folder) / target_name
            request = Request(
                FAMILIES[name], target_name, size, output="logits", mode="whole", verify=False, out=out
            )  # fmt: skip
            compile_request(request, cache=cache)
            engine = segc.load(out, threads=threads)
            ours = [metrics.compare(label, y, engine.run(x)["logits"], info.threshold) for label, x, y in expected]
            plain_folder = out.with_suffix(".plain")
            plain_folder.mkdir()
            session = target.load(plain_folder, target.emit(plain, plain_folder, Settings()).options, threads)
            theirs = [metrics.compare(label, y, session.run(x), info.threshold) for label, x, y in expected]
            yield _worst(name, size, target_name, ours, theirs, asked)


def accepted_size(source: Source, size: tuple[int, int]) -> tuple[int, int]:
    """`size`, or the nearest larger size that eager PyTorch accepts."""
    from segc.frontend.trace import accepts

    for step in (1, 2, 4, 8, 16, 32, 64):
        rounded = (-(-size[0] // step) * step, -(-size[1] // step) * step)
        assert source.module is not None
        if accepts(source.module, (1, source.info.in_channels, *rounded)) is None:
            return rounded
    raise ShapeError(f"no size near {size} is accepted")


def plain_export(source: Source, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The model as a user exports it without segc: no rewrites, no passes."""
    import torch

    with torch.no_grad():
        program = torch.onnx.export(source.module, (torch.zeros(shape),), dynamo=True, opset_version=20, verbose=False)  # type: ignore[arg-type]
    assert program is not None
    return program.model_proto


def _worst(
    name: str, size: tuple[int, int], target: str, ours: list[metrics.Case], theirs: list[metrics.Case], asked: str
) -> Row:
    ratios = [case.margin_ratio for case in ours if case.margin_ratio is not None]
    return Row(
        name,
        size,
        target,
        max(case.relative_error or 0.0 for case in ours),
        min(case.agreement for case in ours),
        max(ratios) if ratios else None,
        max(case.relative_error or 0.0 for case in theirs),
        min(case.agreement for case in theirs),
        asked,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*LIGHT], choices=[*FAMILIES, "all"], metavar="M")
    parser.add_argument("--targets", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--size", type=arguments.shape, metavar="HxW", help="instead of the config's crop size")
    parser.add_argument("--odd", action="store_true", help="only at 97x129, or the next size that the model accepts")
    parser.add_argument("--state", type=Path, help="rows as JSON lines: read first, then appended to")
    args = parser.parse_args()
    rows = _read(args.state)
    known = {(row.model, row.asked) for row in rows}
    for name in FAMILIES if "all" in args.models else args.models:
        for size in (ODD,) if args.odd else (args.size, ODD):
            if (name, asked := "crop" if size is None else f"{size[0]}x{size[1]}") in known:
                continue
            found = list(measure(name, size, tuple(args.targets), asked))
            rows += found
            if args.state is not None:
                with args.state.open("a") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in found)
            print(f"{name} {asked}: worst ratio {max(row.ratio for row in found):.2f}", file=sys.stderr, flush=True)
    _print(rows)


def _read(state: Path | None) -> list[Row]:
    if state is None or not state.is_file():
        return []
    return [Row(**{**row, "size": tuple(row["size"])}) for row in map(json.loads, state.read_text().splitlines())]


def _print(rows: list[Row]) -> None:
    print("| model | size | target | segc error | plain error | ratio | segc pixels | plain pixels | margin / error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        margin = "-" if row.margin_ratio is None else f"{row.margin_ratio:.2f}"
        print(
            f"| {row.model} | {row.size[0]}x{row.size[1]} | {row.target} | {row.error:.1e} | {row.plain_error:.1e} "
            f"| {row.ratio:.2f} | {row.agreement:.4%} | {row.plain_agreement:.4%} | {margin} |"
        )
    print(f"worst: error {max(r.error for r in rows):.1e}, ratio {max(r.ratio for r in rows):.2f}, "
          f"agreement {min(r.agreement for r in rows):.4%}")  # fmt: skip


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
