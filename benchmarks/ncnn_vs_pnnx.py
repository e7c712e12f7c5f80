"""segc's ncnn bundles beside pnnx's conversions of the same models.

    python benchmarks/ncnn_vs_pnnx.py [--families fcn pspnet …] [--size 512x512] [--threads 2] [--repeat 9]
                                      [--json FILE]

For each family, traced at --size with the same weights: segc's mask engine and its logits engine, pnnx from
TorchScript (its recommended way) and pnnx from ONNX (PyTorch's own exporter), all in float32. Each net runs in a
process of its own, loaded by the same few lines, so that a crash costs one cell, and in turns on the same input, so
that whatever else the machine does hits all alike.

- converts: the tool ends without an error; loads: ncnn takes the files and computes something of the right shape
- correct: relative logit error at most 3e-3 and at least 99.8 % of pixels equal to eager PyTorch, on noise and on the
  photograph that segc brings (PointRend, which selects by top-k, and masks: by pixels)
- ms: median time from the input to a mask on the host; engines that give logits need NumPy's argmax for that
- MB: peak resident memory of the process, and the size of the files

With --json, rows are kept after every family, and families that are there already are not run again. Set
OMP_WAIT_POLICY=passive where other work shares the cores: ncnn's threads spin otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from segc.families import FAMILIES

KINDS = ("segc mask", "segc logits", "pnnx torchscript", "pnnx onnx")
WARM_UP = 2
ERROR, AGREEMENT = 3e-3, 0.998
LIMIT = 1800  # seconds for a conversion
PNNX = {
    "input": "in0", "output": "out0", "dtype": "float32",
    "use_fp16_storage": False, "use_fp16_arithmetic": False, "use_fp16_packed": False,
}  # fmt: skip
CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Cell:
    """One net: how far it came, and its figures."""

    converts: bool = False
    loads: bool = False
    correct: bool = False
    failure: str = ""
    error: float | None = None
    agreement: float | None = None
    ms: float | None = None
    memory_mb: int = 0
    file_mb: float = 0.0

    def line(self) -> str:
        """A column of the table."""
        if not self.correct:
            return self.failure[:60] or "wrong"
        return f"{self.ms:.0f} ms, {self.memory_mb} MB, {self.file_mb:.1f} MB"


@dataclass
class Row:
    """All nets of a family."""

    family: str
    size: str
    cells: dict[str, Cell] = field(default_factory=dict)

    def ratio(self) -> float | None:
        """pnnx's better time over segc's, where both are correct."""
        theirs = [cell.ms for kind, cell in self.cells.items() if kind.startswith("pnnx") and cell.correct and cell.ms]
        ours = [cell.ms for kind, cell in self.cells.items() if kind.startswith("segc") and cell.correct and cell.ms]
        return min(theirs) / min(ours) if theirs and ours else None


def prepare(family: str, size: tuple[int, int], folder: Path) -> dict[str, str]:
    """Write the segc bundles, model.pt, model.onnx and cases.npz; returns what failed, by kind."""
    import numpy as np
    import torch

    from segc import parity
    from segc.driver import compile_request
    from segc.errors import SegcError
    from segc.reference import reference_of
    from segc.request import Request
    from segc.shared import Shared

    torch.set_num_threads(1)
    shared, failed, config = Shared(), {}, FAMILIES[family]
    for output in ("mask", "logits"):
        request = Request(
            config, "ncnn", size, mode="whole", output=output, verify=False, out=folder / output, hybrid=False
        )
        try:
            compile_request(request, shared=shared)
        except SegcError as error:
            failed[f"segc {output}"] = str(error).splitlines()[0]
    source = shared.source((config, None, False, "whole"), lambda: _opened(config))
    info, module = source.info, source.module
    assert module is not None
    cases: dict[str, Any] = {}
    inputs = parity.inputs((1, info.in_channels, *size), info.mean, info.std, info.channel_order)
    for at, (_, x) in enumerate(inputs):
        cases[f"x{at}"], cases[f"y{at}"] = x, reference_of(source)(x)
    np.savez(folder / "cases.npz", **cases)
    x = torch.from_numpy(cases["x0"])
    with torch.no_grad():
        try:
            torch.jit.trace(module, x, check_trace=False).save(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever the tracer raises: the cell says it
            failed["pnnx torchscript"] = f"torch.jit.trace: {error}"
        try:
            torch.onnx.export(
                module, (x,), str(folder / "model.onnx"), dynamo=False, opset_version=17, input_names=["input"]
            )
        except Exception as error:  # the same
            failed["pnnx onnx"] = f"torch.onnx.export: {error}"
    return failed


def _opened(config: str) -> Any:
    from segc.frontend.source import open_source

    return open_source(config, mode="whole")


def convert(kind: str, folder: Path, size: tuple[int, int]) -> str:
    """Run pnnx in `folder`; returns why it failed, or nothing."""
    source = {"pnnx torchscript": "model.pt", "pnnx onnx": "model.onnx"}[kind]
    place = place_of(kind, folder)
    place.mkdir()
    command = [
        str(Path(sys.executable).with_name("pnnx")), str(folder / source), f"inputshape=[1,3,{size[0]},{size[1]}]",
        "fp16=0", f"ncnnparam={place / 'model.param'}", f"ncnnbin={place / 'model.bin'}",
        *(f"{name}={place / name}" for name in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=place)
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT} s"
    if done.returncode or not (place / "model.param").is_file():
        return f"exit status {done.returncode}"
    return ""


def serve(pipe: Connection, kind: str, folder: Path, threads: int) -> None:
    """The process of one net: arrays come, (result, seconds to a mask, peak MB) go."""
    import numpy as np

    from segc.memory import peak_memory_mb

    run = loaded(kind, folder, threads)
    pipe.send("ready")
    while (x := pipe.recv()) is not None:
        start = time.perf_counter()
        y = run(x)
        mask = y if y.ndim == 3 else np.argmax(y, axis=1)
        seconds = time.perf_counter() - start
        assert mask.ndim == 3
        pipe.send((y, seconds, peak_memory_mb()))


def place_of(kind: str, folder: Path) -> Path:
    """Where the net's files lie."""
    return folder / (kind.split()[1] if kind.startswith("segc") else kind.replace(" ", "-"))


def loaded(kind: str, folder: Path, threads: int) -> Any:
    """x (1, 3, H, W) to logits (1, C, H, W) or mask (1, H, W)."""
    import ncnn
    import numpy as np

    place = place_of(kind, folder)
    options: dict[str, Any] = dict(PNNX)
    if kind.startswith("segc"):
        options = json.loads((place / "segc.json").read_text())["target"]["options"]
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name, value in options.items():
        if name.startswith("use_"):
            setattr(net.opt, name, value)
    if net.load_param(str(place / "model.param")) or net.load_model(str(place / "model.bin")):
        raise RuntimeError("ncnn cannot load the files")

    def run(x: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input(options["input"], ncnn.Mat(np.ascontiguousarray(x[0])).clone())
        code, y = extractor.extract(options["output"])
        if code:
            raise RuntimeError(f"ncnn answers {code}")
        return np.array(y)[None].astype(options["dtype"], copy=False)

    return run


class Net:
    """A net in its process."""

    def __init__(self, kind: str, folder: Path, threads: int) -> None:
        self._pipe, other = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(other, kind, folder, threads), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def run(self, x: Any) -> Any:
        """(result, seconds, MB). Raises RuntimeError when the process is gone."""
        self._pipe.send(x)
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RuntimeError(f"its process ended with status {self._process.exitcode}") from error

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def judge(cell: Cell, y: Any, reference: Any, by_pixels: bool) -> bool:
    """Note error and agreement; whether both are within the limits."""
    import numpy as np

    mask = y if y.ndim == 3 else y.argmax(axis=1)
    if mask.shape != (1, *reference.shape[2:]):
        cell.failure = f"gives {y.shape}"
        return False
    agreement = float((mask == reference.argmax(axis=1)).mean())
    cell.agreement = min(cell.agreement if cell.agreement is not None else 1.0, agreement)
    if y.ndim == 3 or by_pixels:
        return agreement >= AGREEMENT
    error = float(np.abs(y - reference).max() / np.abs(reference).max())
    cell.error = max(cell.error or 0.0, error)
    return error <= ERROR and agreement >= AGREEMENT


@contextmanager
def nets(cells: dict[str, Cell], folder: Path, threads: int) -> Iterator[dict[str, Net]]:
    """The nets that load."""
    started: dict[str, Net] = {}
    for kind, cell in cells.items():
        if cell.converts:
            try:
                started[kind] = Net(kind, folder, threads)
            except RuntimeError as error:
                cell.failure = f"does not load: {error}"
    try:
        yield started
    finally:
        for net in started.values():
            net.close()


def measure(family: str, size: tuple[int, int], threads: int, repeat: int, folder: Path) -> Row:
    """One family, all kinds."""
    import numpy as np

    row = Row(family, f"{size[0]}x{size[1]}", {kind: Cell() for kind in KINDS})
    with CONTEXT.Pool(1) as pool:
        failed = pool.apply(prepare, (family, size, folder))
    for kind, cell in row.cells.items():
        cell.failure = failed.get(kind) or (convert(kind, folder, size) if kind.startswith("pnnx") else "")
        cell.converts = not cell.failure
        cell.file_mb = round(_bytes(folder, kind) / 1e6, 2)
    cases = np.load(folder / "cases.npz")
    with nets(row.cells, folder, threads) as running:
        for kind, net in list(running.items()):
            cell = row.cells[kind]
            try:
                good = [judge(cell, net.run(cases[f"x{i}"])[0], cases[f"y{i}"], family == "point_rend") for i in (0, 1)]
                cell.loads, cell.correct = True, all(good)
            except RuntimeError as error:
                cell.failure = f"fails: {error}"
            if not cell.correct:
                running.pop(kind).close()
        seconds: dict[str, list[float]] = {kind: [] for kind in running}
        for _ in range(WARM_UP + repeat):
            for kind, net in running.items():
                _, took, memory = net.run(cases["x0"])
                seconds[kind].append(took)
                row.cells[kind].memory_mb = memory
        for kind, found in seconds.items():
            row.cells[kind].ms = round(statistics.median(found[WARM_UP:]) * 1000, 2)
    return row


def _bytes(folder: Path, kind: str) -> int:
    place = place_of(kind, folder)
    return sum(file.stat().st_size for name in ("model.param", "model.bin") if (file := place / name).is_file())


def summary(rows: list[Row]) -> str:
    """Counts of what is correct, and the geometric mean of the ratios."""
    right = {kind: sum(row.cells[kind].correct for row in rows) for kind in KINDS}
    ratios = {row.family: ratio for row in rows if (ratio := row.ratio()) is not None}
    counts = ", ".join(f"{kind} {count}" for kind, count in right.items())
    if not ratios:
        return f"correct of {len(rows)}: {counts}"
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios.values()))
    worst = min(ratios, key=lambda family: ratios[family])
    return (
        f"correct of {len(rows)}: {counts}; pnnx / segc: geometric mean {mean:.2f}, least {ratios[worst]:.2f} ({worst})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES], metavar="F")
    parser.add_argument("--size", default="512x512", metavar="HxW")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", type=Path, help="keep the rows here")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    rows: list[Row] = []
    if args.json and args.json.exists():
        for kept in json.loads(args.json.read_text()):
            rows.append(Row(kept["family"], kept["size"], {k: Cell(**cell) for k, cell in kept["cells"].items()}))
    print(f"| family | {' | '.join(KINDS)} | pnnx / segc |\n|---|{'---|' * (len(KINDS) + 1)}")
    for family in [family for family in args.families if family not in {row.family for row in rows}]:
        with tempfile.TemporaryDirectory() as name:
            rows.append(measure(family, (height, width), args.threads, args.repeat, Path(name)))
        row = rows[-1]
        ratio = row.ratio()
        cells = " | ".join(cell.line() for cell in row.cells.values())
        print(f"| {family} | {cells} | {'-' if ratio is None else f'{ratio:.2f}'} |", flush=True)
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
