"""Latency from an image in memory to a mask in memory: segc's bundles, and the plain routes to the same runtimes.

    python benchmarks/latency.py [--families fastscnn bisenetv2 …] [--runtimes onnxruntime openvino ncnn torch]
                                 [--runs 15] [--seconds 10] [--threads 2] [--shape HxW] [--folder DIR] [--state FILE]
    python benchmarks/latency.py --page

Each family of the zoo is measured at its crop size, in a process of its own with a time limit (--family-limit). Files
are written once under --folder, each by a process of its own. Each route runs in a process with at most --memory GiB. A
route is timed only if its mask equals eager PyTorch's in all but 2 of 1,000 pixels. The routes of a runtime then run in
turns, with a pause before each run, so that other load affects all equally: --runs turns, fewer if they take more than
--seconds for each route, but at least 3. Times are medians in milliseconds.

Results are saved to --state after each runtime of each family. An interrupted run continues from there; --again
measures everything again. --page writes docs/tables/benchmarks.md and its plot from the state, without measuring.
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
import latency_page
from latency_routes import ROUTES, Job, bound_memory, info_of, made, not_made, shape_of

from segc.support_matrix.families import FAMILIES

PAUSE = 0.02  # seconds
LEAST_RUNS = 3
EQUAL = 0.998  # of the pixels
EAGER = ("torch", "eager")
PACKAGES = ("segc", "torch", "onnxruntime", "openvino", "ncnn", "pnnx", "onnxsim", "onnxslim", "numba", "numpy")


def photograph(shape: tuple[int, int]) -> np.ndarray:
    """The photograph that ships with segc: uint8 (H, W, 3) BGR."""
    from segc.parity.sample_inputs import image_inputs

    return np.ascontiguousarray(dict(image_inputs((1, 3, *shape)))["natural image"][0])


def serve(pipe: Connection, job: Job, runtime: str, name: str, limit: int) -> None:
    """In the child: prepare the route, then answer each 'run' with its seconds, and 'mask' with the mask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.alarm(limit)  # a route that hangs ends its own process only
    try:
        bound_memory(job.memory_gb)
        route, info = ROUTES[runtime][name], info_of(job)
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
    """A route in its process. why: the reason why it cannot run, or None."""

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


def ready(job: Job, runtime: str, name: str, limit: int) -> Child | str:
    """Start the route's process. Returns it, or the reason why it cannot run."""
    for step in ROUTES[runtime][name].make:
        if why := made(job, step, limit):
            return why
    if why := not_made(job, ROUTES[runtime][name].what):
        return why
    child = Child(job, runtime, name, limit)
    if child.why is None:
        return child
    child.stop()
    return str(child.why)


def measure(job: Job, runtime: str, eager: Child, args: argparse.Namespace) -> dict[str, Any]:
    """The median milliseconds of each route of a runtime, and its share of pixels equal to eager PyTorch's."""
    want, failed, equal = eager.ask("mask"), dict[str, str](), dict[str, float]()
    children: dict[str, Child] = {}
    try:
        for name in ROUTES[runtime]:
            child = eager if (runtime, name) == EAGER else ready(job, runtime, name, args.limit)
            if isinstance(child, str):
                failed[name] = child
                continue
            equal[name] = share(child.ask("mask"), want)
            if equal[name] >= EQUAL:
                children[name] = child
            else:
                child.stop()
        times = take_turns(children, failed, args)
    finally:
        for child in children.values():
            if child is not eager:
                child.stop()
    medians = {name: float(np.median(found)) for name, found in times.items() if name not in failed and found}
    least = {name: float(np.min(times[name])) for name in medians}
    return {
        "ms": medians, "least_ms": least, "equal": equal, "failed": failed,
        "runs": max(map(len, times.values()), default=0),
    }  # fmt: skip


def share(mask: Any, want: np.ndarray) -> float:
    """The share of equal pixels; 0 if the mask has another shape, or is an error message."""
    return float((mask == want).mean()) if isinstance(mask, np.ndarray) and mask.shape == want.shape else 0.0


def take_turns(children: dict[str, Child], failed: dict[str, str], args: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of all runs of each route except the first. Adds routes that fail to `failed`."""
    times: dict[str, list[float]] = {name: [] for name in children}
    begin = time.perf_counter()
    for turn in range(args.runs + 1):
        if turn > LEAST_RUNS and time.perf_counter() - begin > args.seconds * len(children):
            break
        for name in [name for name in children if name not in failed]:
            time.sleep(PAUSE)
            seconds = children[name].ask("run")
            if isinstance(seconds, str):
                failed[name] = seconds
            elif turn > 0:
                times[name].append(1e3 * seconds)
    return times


def measure_family(family: str, args: argparse.Namespace) -> None:
    """Measure the runtimes that the state lacks of a family, and save them. Runs in a process group of its own."""
    os.setsid()
    state = read(args.state)
    kept = state["families"].setdefault(family, {"runtimes": {}})
    shape = tuple(int(side) for side in args.shape.split("x")) if args.shape else None
    folder = args.folder / f"{family}-{args.shape or 'crop'}"
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(
        family, FAMILIES[family], shape, folder.resolve(), args.threads,  # type: ignore[arg-type]
        tuple(name for name in args.runtimes if name != EAGER[0]), args.memory,
    )  # fmt: skip
    why = made(job, "info", args.limit)
    eager = Child(job, *EAGER, args.limit) if why is None else why
    if isinstance(eager, str) or eager.why is not None:
        raise SystemExit(f"{family}: eager PyTorch: {eager if isinstance(eager, str) else eager.why}")
    kept["shape"] = list(eager.ask("mask").shape)
    kept.pop("stopped", None)
    for runtime in missing(state, family, args):
        kept["runtimes"][runtime] = row = measure(job, runtime, eager, args)
        write(args.state, state)
        shown = ", ".join(f"{name} {ms:.1f} ms" for name, ms in row["ms"].items())
        shown += "".join(f"; {n}: {s:.2%} equal" for n, s in row["equal"].items() if s < EQUAL)
        print(f"{family}, {runtime}: {shown}{''.join(f'; {n}: {w}' for n, w in row['failed'].items())}", flush=True)
    eager.stop()


def missing(state: dict[str, Any], family: str, args: argparse.Namespace) -> list[str]:
    """The runtimes that the state lacks."""
    known = state["families"].get(family, {"runtimes": {}})["runtimes"]
    return [runtime for runtime in args.runtimes if args.again or runtime not in known]


def read(path: Path) -> dict[str, Any]:
    """Read the state; empty if there is no file."""
    return json.loads(path.read_text()) if path.is_file() else {"families": {}}  # type: ignore[no-any-return]


def write(path: Path, state: dict[str, Any]) -> None:
    """Write the state; an interruption leaves the old one."""
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(state, indent=1))
    aside.replace(path)


def machine() -> dict[str, str]:
    """The machine, and the versions of the packages."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    found = {"processor": name, "cores": str(os.cpu_count()), "system": f"{platform.system()}, {platform.machine()}"}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def in_own_process(family: str, args: argparse.Namespace) -> None:
    """Measure a family in a process. Kills it, with all processes that it started, if it exceeds the time limit."""
    process = multiprocessing.get_context("spawn").Process(target=measure_family, args=(family, args))
    process.start()
    try:
        process.join(args.family_limit)
        if process.exitcode is None or process.exitcode != 0:
            ended = f"exit code {process.exitcode}" if process.exitcode else f"not done after {args.family_limit} s"
            state = read(args.state)
            state["families"].setdefault(family, {"runtimes": {}})["stopped"] = ended
            write(args.state, state)
            print(f"{family}: {ended}", flush=True)
    finally:
        if process.pid is not None and process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--runtimes", nargs="+", choices=ROUTES, default=list(ROUTES))
    parser.add_argument("--runs", type=int, default=15, help="at most")
    parser.add_argument("--seconds", type=float, default=10, help="for the runs of a route")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", help="HxW in place of the crop sizes")
    parser.add_argument("--limit", type=int, default=300, help="seconds for one step or one run")
    parser.add_argument("--family-limit", type=int, default=1200, help="seconds for one family")
    parser.add_argument("--memory", type=float, default=12, help="GiB for one process")
    parser.add_argument("--folder", type=Path, default=Path("latency-files"))
    parser.add_argument("--keep", action="store_true", help="keep the files of measured families")
    parser.add_argument("--state", type=Path, default=Path("latency.json"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    if args.page:
        latency_page.write(read(args.state), Path(__file__).resolve().parent.parent / "docs" / "tables")
        return
    state = read(args.state)
    state["machine"], state["command"] = machine(), shlex.join(["python", "benchmarks/latency.py", *sys.argv[1:]])
    write(args.state, state)
    for family in args.families:
        if missing(read(args.state), family, args):
            begin = time.perf_counter()
            in_own_process(family, args)
            print(f"{family}: {time.perf_counter() - begin:.0f} s in all", flush=True)
        if not args.keep:
            shutil.rmtree(args.folder / f"{family}-{args.shape or 'crop'}", ignore_errors=True)
    print("\n".join(latency_page.summary(read(args.state))))


if __name__ == "__main__":
    main()
