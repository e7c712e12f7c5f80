"""One family of benchmarks/ncnn_vs_pnnx.py: write all its nets, check their outputs, and time them."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from segc.support_matrix.families import FAMILIES

# the options of `segc compile` for each bundle
OURS: dict[str, dict[str, str]] = {
    "segc mask": {"output": "mask", "decode": "graph"},
    "segc host": {"output": "mask", "decode": "host"},
    "segc logits": {"output": "logits"},
}
THEIRS = {"pnnx torchscript": "model.pt", "pnnx onnx": "model.onnx"}
KINDS = (*OURS, *THEIRS)
WARM_UP = 2
PAUSE = 0.03  # seconds before each run: the threads of the previous net spin for a while
ANSWER = 900  # seconds for one run of a net
CONVERSION = 1800  # seconds for one conversion
ERROR, AGREEMENT = 3e-3, 0.998
CASES = 5  # noise, a photograph, and more noise: on some inputs a net amplifies rounding errors
FILES = ("model.param", "model.bin", "segc.json")
PNNX = {
    "input": "in0", "output": "out0", "dtype": "float32",
    "use_fp16_storage": False, "use_fp16_arithmetic": False, "use_fp16_packed": False,
}  # fmt: skip
CONTEXT = multiprocessing.get_context("spawn")
Run = Callable[[Any], Any]


@dataclass
class Cell:
    """One net: whether it converts, loads and is correct, and its figures.

    error: the largest relative error of logits; errors: that of each case. agreement: the smallest share of equal
    pixels. ms, least_ms: the median and the smallest time.
    """

    converts: bool = False
    loads: bool = False
    correct: bool = False
    failure: str = ""
    error: float | None = None
    agreement: float | None = None
    errors: list[float] = field(default_factory=list)
    ms: float | None = None
    least_ms: float | None = None
    memory_mb: int = 0
    file_mb: float = 0.0


@dataclass
class Row:
    """The nets of one family."""

    family: str
    size: str
    cells: dict[str, Cell] = field(default_factory=lambda: {kind: Cell() for kind in KINDS})


def measure(family: str, size: tuple[int, int], threads: int, repeat: int, folder: Path) -> Row:
    """Measure all nets of one family. Cost: minutes, and several times the size of the weights in `folder`."""
    import numpy as np

    row = Row(family, f"{size[0]}x{size[1]}")
    with CONTEXT.Pool(1) as pool:
        failed = pool.apply(prepare, (family, size, folder))
    for kind, cell in row.cells.items():
        cell.failure = failed.get(kind) or (convert(kind, folder, size) if kind in THEIRS else "")
        cell.converts = not cell.failure
        place = folder_of(kind, folder)
        cell.file_mb = round(sum((place / f).stat().st_size for f in FILES[:2] if (place / f).is_file()) / 1e6, 2)
    cases = np.load(folder / "cases.npz")
    with nets(row.cells, folder, threads) as running:
        for kind, net in list(running.items()):
            try:
                check_all(row.cells[kind], net, cases, by_pixels=family == "point_rend")
            except RuntimeError as error:
                row.cells[kind].failure = f"fails: {error}"
            if not row.cells[kind].correct:
                running.pop(kind).close()
        take_times(row.cells, running, cases["x0"], repeat)
    return row


def prepare(family: str, size: tuple[int, int], folder: Path) -> dict[str, str]:
    """Write the segc bundles, model.pt, model.onnx and cases.npz. Returns the failures by kind of net."""
    import numpy as np
    import torch

    from segc.commands.compile import compile_request
    from segc.compilation.cache import CompileCache
    from segc.compilation.request import Request
    from segc.errors import SegcError
    from segc.frontend.source import open_source
    from segc.parity import sample_inputs
    from segc.parity.reference import reference_of

    cache, failed, config = CompileCache(), {}, FAMILIES[family]
    for kind, asked in OURS.items():
        request = Request(
            config, "ncnn", size, mode="whole", verify=False, hybrid=False, out=folder_of(kind, folder), **asked
        )  # type: ignore[arg-type]
        try:
            compile_request(request, cache=cache)
        except SegcError as error:
            failed[kind] = str(error).splitlines()[0]
    source = cache.source((config, None, False, "whole"), lambda: open_source(config, mode="whole"))
    info, module = source.info, source.module
    assert module is not None
    cases: dict[str, Any] = {}
    shape = (1, info.in_channels, *size)
    inputs = [x for _, x in sample_inputs.inputs(shape, info.mean, info.std, info.channel_order)]
    inputs += [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in range(1, CASES - 1)]
    for at, x in enumerate(inputs):
        cases[f"x{at}"], cases[f"y{at}"] = x, reference_of(source)(x)
    np.savez(folder / "cases.npz", **cases, align_corners=info.align_corners)
    x = torch.from_numpy(cases["x0"])
    routes: dict[str, Callable[[str], Any]] = {
        "pnnx torchscript": lambda path: torch.jit.trace(module, x, check_trace=False).save(path),  # type: ignore[no-untyped-call]
        "pnnx onnx": lambda path: torch.onnx.export(
            module, (x,), path, dynamo=False, opset_version=17, input_names=["input"]
        ),
    }
    for kind, write in routes.items():
        try:
            with torch.no_grad():
                write(str(folder / THEIRS[kind]))
        except Exception as error:  # the cell reports whatever PyTorch's exporters raise
            failed[kind] = f"PyTorch's exporter: {' '.join(str(error).split())[:120]}"
    return failed


def convert(kind: str, folder: Path, size: tuple[int, int]) -> str:
    """Run pnnx in `folder`. Returns why it failed, or an empty string."""
    place, source = folder_of(kind, folder), folder / THEIRS[kind]
    place.mkdir()
    command = [
        str(Path(sys.executable).with_name("pnnx")), str(source), f"inputshape=[1,3,{size[0]},{size[1]}]",
        "fp16=0", f"ncnnparam={place / 'model.param'}", f"ncnnbin={place / 'model.bin'}",
        *(f"{name}={place / name}" for name in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERSION, cwd=place)
    except subprocess.TimeoutExpired:
        return f"not finished within {CONVERSION} s"
    finally:
        source.unlink()  # the files of a large model would fill the disk
        for path in [path for path in place.iterdir() if path.name not in FILES]:
            path.unlink()
    if done.returncode or not (place / "model.param").is_file():
        return f"exit status {done.returncode}"
    return ""


def folder_of(kind: str, folder: Path) -> Path:
    """The folder of the net's files."""
    return folder / kind.replace(" ", "-")


def serve(pipe: Connection, kind: str, folder: Path, threads: int) -> None:
    """The process of one net: receives arrays, sends (result, seconds to a mask, peak MB)."""
    import numpy as np

    from segc.isolation.memory import peak_memory_mb

    run = loaded(kind, folder, threads)
    pipe.send("ready")
    while (x := pipe.recv()) is not None:
        start = time.perf_counter()
        y = run(x)
        mask = y if y.ndim == 3 else np.argmax(y, axis=1)
        seconds = time.perf_counter() - start
        assert mask.ndim == 3
        pipe.send((y, seconds, peak_memory_mb()))


def loaded(kind: str, folder: Path, threads: int) -> Run:
    """Load the net. Returns a function from x (1, 3, H, W) to logits (1, C, H, W) or a mask (1, H, W)."""
    import ncnn
    import numpy as np

    place = folder_of(kind, folder)
    options: dict[str, Any] = dict(PNNX)
    if kind in OURS:
        options = json.loads((place / "segc.json").read_text())["target"]["options"]
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name, value in options.items():
        if name.startswith("use_"):
            setattr(net.opt, name, value)
    if net.load_param(str(place / "model.param")) or net.load_model(str(place / "model.bin")):
        raise RuntimeError("ncnn cannot load the files")

    def run(x: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input(options["input"], ncnn.Mat(np.ascontiguousarray(x[0])).clone())
        code, y = extractor.extract(options["output"])
        if code:
            raise RuntimeError(f"ncnn returns {code}")
        return np.array(y)[None].astype(options["dtype"], copy=False)

    return (
        run
        if kind != "segc host"
        else with_host_masks(run, place, bool(np.load(folder / "cases.npz")["align_corners"]))
    )


def with_host_masks(run: Run, place: Path, align_corners: bool) -> Run:
    """A function from x to the mask that segc's runtime makes from the engine's logits."""
    from segc.runtime.masks.dispatch import resize_argmax

    resizes = json.loads((place / "segc.json").read_text())["output"]["decode"]["resize"]

    def decoded(x: Any) -> Any:
        y = run(x)
        return resize_argmax(y[0], x.shape[2:] if resizes else y.shape[2:], align_corners)[None]

    return decoded


class Net:
    """A net in a process of its own."""

    def __init__(self, kind: str, folder: Path, threads: int) -> None:
        self._pipe, other = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(other, kind, folder, threads), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def run(self, x: Any) -> Any:
        """(result, seconds, MB). Raises RuntimeError if the process has ended or does not answer in time."""
        self._pipe.send(x)
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(ANSWER):
                self.close()
                raise RuntimeError(f"no answer within {ANSWER} s")
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RuntimeError(f"its process ended with status {self._process.exitcode}") from error

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


@contextmanager
def nets(cells: dict[str, Cell], folder: Path, threads: int) -> Iterator[dict[str, Net]]:
    """Start the nets that load, and end them after the block."""
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


def check_all(cell: Cell, net: Net, cases: Any, *, by_pixels: bool) -> None:
    """Run all cases, and record the results in the cell. Raises RuntimeError if the net fails."""
    good = [check(cell, net.run(cases[f"x{at}"])[0], cases[f"y{at}"], by_pixels) for at in range(CASES)]
    cell.loads, cell.correct = True, all(good)


def check(cell: Cell, y: Any, reference: Any, by_pixels: bool) -> bool:
    """Record the error and agreement of one case. Returns whether both are within the limits."""
    import numpy as np

    mask = y if y.ndim == 3 else y.argmax(axis=1)
    if mask.shape != (1, *reference.shape[2:]):
        cell.failure = f"returns shape {y.shape}"
        return False
    agreement = float((mask == reference.argmax(axis=1)).mean())
    cell.agreement = min(cell.agreement if cell.agreement is not None else 1.0, agreement)
    if y.ndim == 3 or by_pixels:
        return agreement >= AGREEMENT
    error = float(np.abs(y - reference).max() / np.abs(reference).max())
    cell.errors.append(error)
    cell.error = max(cell.errors)
    return error <= ERROR and agreement >= AGREEMENT


def take_times(cells: dict[str, Cell], running: dict[str, Net], x: Any, repeat: int) -> None:
    """Run the nets in turns, each turn starting with another net. Records times and the peak memory of each process."""
    seconds: dict[str, list[float]] = {kind: [] for kind in running}
    for turn in range(WARM_UP + repeat):
        kinds = list(running)
        for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
            time.sleep(PAUSE)
            _, took, cells[kind].memory_mb = running[kind].run(x)
            seconds[kind].append(took)
    for kind, found in seconds.items():
        cells[kind].ms = round(statistics.median(found[WARM_UP:]) * 1000, 2)
        cells[kind].least_ms = round(min(found[WARM_UP:]) * 1000, 2)


def copy_params(folder: Path, kept: Path) -> None:
    """Copy the .param files, which are text, to `kept`."""
    kept.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*/model.param"):
        shutil.copy(path, kept / f"{path.parent.name}.param")
