"""From an image in memory to a mask in memory: segc's bundles beside the plain routes to the same runtimes.

    python benchmarks/latency.py [--families fastscnn bisenetv2 …] [--runtimes onnxruntime openvino ncnn torch]
                                 [--runs 15] [--threads 2] [--shape HxW] [--folder DIR] [--state FILE] [--page]

Each family of the zoo is measured at its crop size. Files are made once, each in a process of its own, under --folder.
Then every route of a runtime runs in a process of its own, and the processes take turns, with a pause before each, so
that a busy machine disturbs all alike: medians in milliseconds. Before, every mask is compared with eager PyTorch's.

What was measured is kept in --state after every runtime of every family; a run that was interrupted goes on there, and
--again measures anew. --page writes docs/benchmarks.md and its plot from the state, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from latency_routes import ROUTES, Job, made, shape_of, source_of

from segc.families import FAMILIES

PAUSE = 0.02  # seconds
PACKAGES = ("segc", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "onnxsim", "onnxslim", "numba", "numpy")


def photograph(shape: tuple[int, int]) -> np.ndarray:
    """The photograph that ships with segc: uint8 (H, W, 3) BGR."""
    from segc.parity import image_inputs

    return np.ascontiguousarray(dict(image_inputs((1, 3, *shape)))["natural image"][0])


def serve(pipe: Connection, job: Job, runtime: str, name: str, limit: int) -> None:
    """In the child: make the route ready, then answer every 'run' with seconds, 'mask' with the mask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.alarm(limit)  # a route that hangs ends alone
    try:
        route, info = ROUTES[runtime][name], source_of(job).info
        image = photograph(shape_of(job, info))
        run = route.run(job, info, route.what)
        mask = run(image)
        signal.alarm(0)
        pipe.send(None)
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")
        return
    while True:
        asked = pipe.recv()
        if asked == "mask":
            pipe.send(mask)
        elif asked == "run":
            signal.alarm(limit)
            begin = time.perf_counter()
            run(image)
            pipe.send(time.perf_counter() - begin)
            signal.alarm(0)
        else:
            return


class Child:
    """A route in its process. why: the reason it cannot run, or None."""

    def __init__(self, job: Job, runtime: str, name: str, limit: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, job, runtime, name, limit), daemon=True)
        self.process.start()
        other.close()
        self.why = self.ask(None)

    def ask(self, what: str | None) -> Any:
        try:
            if what is not None:
                self.pipe.send(what)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return f"the process died, exit code {self.process.exitcode}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


def measure(job: Job, runtime: str, want: np.ndarray | None, args: argparse.Namespace) -> dict[str, Any]:
    """Median milliseconds, and the share of pixels equal to eager PyTorch's, of every route of a runtime."""
    failed: dict[str, str] = {}
    children: dict[str, Child] = {}
    try:
        for name, route in ROUTES[runtime].items():
            why = next((w for step in route.make if (w := made(job, step, args.limit))), None)
            if why is None:
                children[name] = child = Child(job, runtime, name, args.limit)
                why = child.why
            if why is not None:
                failed[name] = why
                if name in children:
                    children.pop(name).stop()
        masks = {name: child.ask("mask") for name, child in children.items()}
        times: dict[str, list[float]] = {name: [] for name in children}
        for turn in range(args.runs + 2):
            for name, child in children.items():
                time.sleep(PAUSE)
                seconds = child.ask("run")
                if isinstance(seconds, str):
                    failed[name] = seconds
                elif turn >= 2:
                    times[name].append(1e3 * seconds)
    finally:
        for child in children.values():
            child.stop()
    if want is None:
        want = masks.get("eager")
    return {
        "ms": {name: float(np.median(found)) for name, found in times.items() if name not in failed and found},
        "equal": {n: float((m == want).mean()) for n, m in masks.items() if isinstance(m, np.ndarray)},
        "failed": failed, "runs": args.runs,
    }  # fmt: skip


def eager_mask(job: Job) -> np.ndarray:
    child = Child(job, "torch", "eager", 3600)
    try:
        if child.why is not None:
            raise SystemExit(f"{job.family}: eager PyTorch: {child.why}")
        return np.asarray(child.ask("mask"))
    finally:
        child.stop()


def machine() -> dict[str, str]:
    """What the numbers were measured on and with."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    found = {"processor": name, "cores": str(os.cpu_count()), "system": platform.platform()}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--runtimes", nargs="+", choices=ROUTES, default=list(ROUTES))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", help="HxW in place of the crop sizes")
    parser.add_argument("--limit", type=int, default=1800, help="seconds that one step may take")
    parser.add_argument("--folder", type=Path, default=Path("latency-files"))
    parser.add_argument("--keep", action="store_true", help="keep the files of a family that was measured")
    parser.add_argument("--state", type=Path, default=Path("latency.json"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    state: dict[str, Any] = json.loads(args.state.read_text()) if args.state.is_file() else {"families": {}}
    if args.page:
        from latency_page import write

        write(state, Path(__file__).resolve().parent.parent / "docs")
        return
    state["machine"], state["command"] = machine(), shlex.join(["python", "benchmarks/latency.py", *sys.argv[1:]])
    for family in args.families:
        shape = tuple(int(side) for side in args.shape.split("x")) if args.shape else None
        folder = args.folder / f"{family}-{args.shape or 'crop'}"
        folder.mkdir(parents=True, exist_ok=True)
        job = Job(family, FAMILIES[family], shape, folder.resolve(), args.threads)  # type: ignore[arg-type]
        kept = state["families"].setdefault(family, {"runtimes": {}})
        todo = [runtime for runtime in args.runtimes if args.again or runtime not in kept["runtimes"]]
        want = eager_mask(job) if todo else None
        if want is not None:
            kept["shape"] = list(want.shape)
        for runtime in todo:
            kept["runtimes"][runtime] = row = measure(job, runtime, want, args)
            args.state.write_text(json.dumps(state, indent=1))
            shown = ", ".join(f"{name} {ms:.1f} ms" for name, ms in row["ms"].items())
            print(f"{family}, {runtime}: {shown}{''.join(f'; {n}: {w}' for n, w in row['failed'].items())}", flush=True)
        if not args.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
