"""Engines on a GPU: loaded, compared with PyTorch there, timed beside it. Prints JSON. Exits 3 without a GPU.

    python measure.py KIT [--work FOLDER] [--json FILE] [--seconds 540] [--kinds KIND …]

Needs Python, NumPy and torch on the machine, and nothing of segc but this folder. KIT: what prepare.py wrote, or some
of its parts; they are unpacked in --work (default KIT/work), and a part that was unpacked is not needed again.

The most telling comes first: whether one engine loads on this architecture at all; then for every model the static
engines of both precisions; the many small networks; the dynamic engines; the speed of the --timed models, engines and
eager PyTorch; torch.compile. Every answer is written to WORK/rows.jsonl at once. After --seconds nothing new begins;
run again, and it goes on. A crash or a row of more than LIMIT seconds costs that row.

The reference is the model in PyTorch in float32 on this GPU, TF32 off everywhere. Where this torch does not read
model.pt2, and for the sizes of dynamic engines, it is what PyTorch gave where the kit was prepared.

The JSON holds `cells`, which `segc matrix --results FILE` reads, `rows`, and a `summary`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import lzma
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

KINDS = ("first", "engine", "probes", "speed", "eager", "compile")
NO_GPU, LIMIT = 3, 120.0  # exit code; seconds
AGREEMENT = {"fp32": 0.999, "fp16": 0.995}
ERROR = 1e-3  # of the largest logit, fp32: as the matrix asks
Row = dict[str, Any]
Job = tuple[str, str, int]  # kind, model or group, number of the engine


def unpack(kit: Path, work: Path) -> None:
    """Unpack the parts that were not yet."""
    work.mkdir(parents=True, exist_ok=True)
    for path in sorted((*kit.glob("*.tar.xz"), *kit.glob("*.tar"))):
        done = work / f"{path.name}.unpacked"
        if done.exists():
            continue
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                tar.extractall(work / "packed", filter="data")
        else:
            unpack_one(path, work)
        done.touch()
    for path in sorted((work / "packed").glob("*.tar.xz")):
        unpack_one(path, work / "models")
        path.unlink()


def unpack_one(path: Path, folder: Path) -> None:
    """Unpack a .tar.xz."""
    with lzma.open(path) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        tar.extractall(folder, filter="data")


class Model:
    """A prepared model: its drawn weights, the constants of its engines, its references."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder, self.row = folder, json.loads((folder / "model.json").read_bytes())
        with np.load(folder / "arrays.npz") as stored:
            self.references = dict(stored)

    @cached_property
    def drawn(self) -> Row:
        """The weights by the names of their parameters."""
        import weights

        return {n: weights.draw(n, tuple(w["shape"]), w["deviation"]) for n, w in self.row["weights"].items()}

    @cached_property
    def constants(self) -> list[Any]:
        """What the recipes make."""
        import numpy as np
        import weights

        made: list[Any] = []
        with np.load(self.folder / "recipes.npz") as arrays:
            for row in self.row["recipes"]:
                made.append(weights.made(row, made, self.drawn, arrays))
        return made

    def plan(self, number: int) -> bytes:
        """An engine, byte for byte as it was built. Raises RuntimeError if it is not."""
        import weights

        engine = self.row["engines"][number]
        plan = weights.joined((self.folder / engine["file"]).read_bytes(), engine["pieces"], self.constants)
        if hashlib.sha256(plan).hexdigest() != engine["sha256"]:
            raise RuntimeError("put together again it is not the engine that was built")
        return plan

    def module(self, device: str) -> Any:
        """The model in PyTorch."""
        import torch

        program = torch.export.load(self.folder / "model.pt2")
        with torch.no_grad():
            for name, value in self.drawn.items():
                program.state_dict[name].copy_(torch.from_numpy(value))
        return program.module().to(device)

    def inputs(self, dynamic: bool) -> Iterator[tuple[str, Any]]:
        """Name and input of each reference, static or dynamic."""
        kind = "dynamic" if dynamic else "static"
        for key in sorted(self.references):
            if key.startswith(kind) and key.endswith(".x"):
                yield key.removesuffix(".x"), self.references[key]


class Session:
    """A process that asks the GPU: the device, and what it has loaded."""

    def __init__(self, work: Path, device: Any, warmup: int, repeat: int) -> None:
        self.work, self.device, self.warmup, self.repeat = work, device, warmup, repeat
        self._models: dict[str, Model] = {}
        self._logits: dict[str, list[Any] | str] = {}

    def model(self, name: str) -> Model:
        """The model, kept until another is asked for."""
        if name not in self._models:
            self._models, self._logits = {name: Model(self.work / "models" / name)}, {}
        return self._models[name]

    def answer(self, job: Job) -> Row:
        """The row of a job. Raises what went wrong."""
        kind, name, number = job
        if kind == "probes":
            import probes

            return probes.answer(self.device, self.work / "probes", number)
        if kind in ("eager", "compile"):
            return self.pytorch(self.model(name), kind)
        row = self.engine(self.model(name), number, timed=kind == "speed")
        return row | ({"device": self.device.described()} if kind == "first" else {})

    def pytorch_logits(self, model: Model) -> list[Any] | str:
        """PyTorch's logits for the static inputs on this GPU, or why there are none."""
        import torch

        name = model.row["model"]
        if name not in self._logits:
            try:
                module = model.module(self.device.device)
                with torch.no_grad():
                    found = [module(torch.from_numpy(x).to(self.device.device)).float() for _, x in model.inputs(False)]
                self._logits[name] = found
            except Exception as error:  # torch may not read what another version wrote: it raises anything
                self._logits[name] = f"{type(error).__name__}: {str(error)[:300]}"
        return self._logits[name]

    def engine(self, model: Model, number: int, *, timed: bool) -> Row:
        """Load one engine, compare it, and time it."""
        import torch

        asked, start = model.row["engines"][number], time.perf_counter()
        plan = model.plan(number)
        row: Row = {"made_s": time.perf_counter() - start}
        start = time.perf_counter()
        engine = self.device.load(plan)
        row |= {"load_s": time.perf_counter() - start, "validity": engine.validity, "cases": []}
        live = self.pytorch_logits(model) if not asked["dynamic"] else []
        if isinstance(live, str):
            row["no_pytorch"] = live
        for at, (name, x) in enumerate(model.inputs(asked["dynamic"])):
            y = torch.cat([self.once(engine, x[n : n + 1]) for n in range(len(x))])  # an engine takes one image
            case = against_stored(model, name, y)
            if not isinstance(live, str) and live:
                case |= {f"here_{key}": value for key, value in compared(live[at], y.to(live[at].device)).items()}
            row["cases"].append(case)
        if timed:
            x = torch.from_numpy(next(model.inputs(asked["dynamic"]))[1])
            to = next(iter(engine.bind({engine.inputs[0]: x}) and engine.feed.values()))
            stream = self.device.stream_of(engine)
            row |= self.device.timed(engine, stream, self.warmup, self.repeat)
            row |= self.device.to_mask(engine, to, x, stream, self.warmup, self.repeat)
        return row

    def once(self, engine: Any, x: Any) -> Any:
        """What the engine gives for one image."""
        import torch

        engine.bind({engine.inputs[0]: torch.from_numpy(x)})
        y = engine()
        self.device.synchronize()
        return y.cpu().clone()

    def pytorch(self, model: Model, how: str) -> Row:
        """PyTorch's own time, eager or compiled, in float32 and float16."""
        import torch

        x, row = torch.from_numpy(next(model.inputs(False))[1]), Row()
        for precision, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
            module = model.module(self.device.device).to(kind)
            run = torch.compile(module) if how == "compile" else module
            image = x.to(self.device.device, kind, memory_format=torch.channels_last)
            start, stream = time.perf_counter(), self.device.stream_of(None)
            with torch.no_grad():
                run(image)
                self.device.synchronize()
                found = {"first_s": time.perf_counter() - start}
                again = lambda r=run, i=image: r(i)  # noqa: E731
                found |= self.device.timed(again, stream, self.warmup, self.repeat)
                found |= self.device.to_mask(again, image, x, stream, self.warmup, self.repeat)
            row[precision] = found
        return row


def against_stored(model: Model, name: str, y: Any) -> Row:
    """An engine's output beside what PyTorch gave where the kit was prepared: every class, some of the logits."""
    import gpu
    import numpy as np

    wanted, sample = model.references[f"{name}.mask"], model.references[f"{name}.logits"]
    case: Row = {"name": name, "agreement": float(np.mean(gpu.as_mask(y).numpy() == wanted))}
    if y.ndim == 4:
        step = -(-y.shape[-1] // sample.shape[-1])
        found = y.float().numpy()[:, :, ::step, ::step]
        largest = float(model.references[f"{name}.largest"])
        case["relative_error"] = float(np.abs(found - sample.astype(np.float32)).max()) / largest
    return case


def compared(reference: Any, y: Any) -> Row:
    """Parity with the reference logits (N, C, H, W), of logits or of a mask (N, H, W)."""
    import torch

    wanted = reference.argmax(1)
    row: Row = {}
    if y.ndim == 4:
        row["relative_error"] = float((y.float() - reference).abs().max() / reference.abs().max())
        y = y.argmax(1)
    different = wanted != y.to(wanted.dtype)
    row["agreement"] = 1 - float(different.float().mean())
    best = torch.topk(reference, 2, dim=1).values
    margins = (best[:, 0] - best[:, 1])[different]
    row["largest_margin"] = float(margins.max() / reference.abs().max()) if margins.numel() else 0.0
    return row


def jobs(work: Path) -> list[Job]:
    """All jobs, the most telling first."""
    models = [json.loads((p / "model.json").read_bytes()) for p in sorted((work / "models").glob("*"))]
    small = sorted(models, key=lambda m: sum(e["bytes"] for e in m["engines"]))
    cells = [m for m in small if any(e["cell"] for e in m["engines"])]
    static, dynamic = list[Job](), list[Job]()
    for model in cells:
        for at, engine in enumerate(model["engines"]):
            (dynamic if engine["dynamic"] else static).append(("engine", model["model"], at))
    timed = [m for m in small if any(e["what"] == "plain" for e in m["engines"])]
    speed = [("speed", m["model"], at) for m in timed for at in range(len(m["engines"]))]
    groups = [("probes", "probes", int(p.stem)) for p in sorted((work / "probes").glob("*.engine"))]
    eager = [(how, m["model"], 0) for how in ("eager", "compile") for m in timed]
    first: list[Job] = [("first", small[0]["model"], 0)] if small else []
    return [*first, *static, *groups, *dynamic, *speed, *eager]


def key_of(job: Job) -> str:
    """A job's name in rows.jsonl."""
    return " ".join(map(str, job))


def kept(work: Path) -> dict[str, Row]:
    """The rows that are there, by key; one that was begun and not ended has no 'ended'."""
    path, found = work / "rows.jsonl", dict[str, Row]()
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # written in part when the machine was stopped
            continue
        found[row["key"]] = row
    return found


def keep(work: Path, row: Row) -> None:
    """Append a row."""
    with (work / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def work_through(work: Path, device: Any, end: float, kinds: list[str], warmup: int, repeat: int) -> None:
    """In the child: every job of these kinds that has no row, until the time is up."""
    session, there = Session(work, device, warmup, repeat), kept(work)
    if any(key.startswith("first ") and "failed" in row for key, row in there.items()):
        return  # no other engine will load
    for job in jobs(work):
        key = key_of(job)
        if key in there or job[0] not in kinds:
            continue
        if time.time() > end:
            return
        keep(work, {"key": key})
        start = time.perf_counter()
        try:
            row = session.answer(job)
        except Exception as error:  # what fails costs its row
            row = {"failed": f"{type(error).__name__}: {str(error)[:500]}"}
        row |= {"key": key, "job": list(job), "ended": True, "s": time.perf_counter() - start}
        keep(work, row)
        print(
            json.dumps({"key": key, "s": round(row["s"], 2), "failed": row.get("failed")}), file=sys.stderr, flush=True
        )
        if job[0] == "first" and "failed" in row:
            return


def supervise(work: Path, command: list[str], end: float) -> None:
    """Run children until every job has a row or the time is up; a child that dies or hangs costs the row it was at."""
    while time.time() < end:
        child = subprocess.Popen(command)
        while child.poll() is None:
            time.sleep(0.2)
            path = work / "rows.jsonl"
            if path.is_file() and time.time() - path.stat().st_mtime > LIMIT and begun(work):
                child.kill()
        for key in begun(work):
            why = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
            keep(work, {"key": key, "failed": f"its process ended with {why}", "ended": True, "job": key.split()})
        if child.returncode == 0:
            return


def begun(work: Path) -> list[str]:
    """The rows that were begun and not ended."""
    return [key for key, row in kept(work).items() if "ended" not in row]


def results(work: Path) -> Row:
    """Everything as JSON: cells as `segc matrix` writes them, rows, a summary."""
    rows = {key: row for key, row in kept(work).items() if "ended" in row}
    first = next((row for key, row in rows.items() if key.startswith("first ")), {})
    device = first.get("device", {})
    cells, models = [], {p.name: Model(p) for p in sorted((work / "models").glob("*"))}
    for row in rows.values():
        kind, name, number = row["job"][0], row["job"][1], int(row["job"][2])
        if kind in ("engine", "speed", "first"):
            row["engine"] = {
                k: v for k, v in models[name].row["engines"][number].items() if k not in ("pieces", "profile")
            }
        if kind == "engine" and row["engine"]["cell"]:
            cells.append(cell_of(row, models[name]))
    ran = {"tensorrt": f"GPU {device['gpu']}, {device['tensorrt']}, on {date.today().isoformat()}"} if device else {}
    return {
        "command": "benchmarks/gpu/measure.py", "versions": device, "cells": cells, "ran_with": ran,
        "loads": "failed" not in first if first else None, "why_not": first.get("failed"),
        "summary": summary(rows, models), "rows": list(rows.values()),
    }  # fmt: skip


def cell_of(row: Row, model: Model) -> Row:
    """A cell of the support matrix."""
    cell, cases = row["engine"]["cell"], row.get("cases", [])
    found = {**cell, "status": "failed", "reason": row.get("failed", ""), "error": None, "agreement": None}
    if cases and "failed" not in row:
        errors = [v for c in cases for k, v in c.items() if k.endswith("relative_error")]
        agreements = [v for c in cases for k, v in c.items() if k.endswith("agreement")]
        found |= {"error": max(errors, default=None), "agreement": min(agreements)}
        good = min(agreements) >= AGREEMENT["fp32"] and max(errors, default=0.0) <= ERROR
        found |= {"status": "ok"} if good else {"reason": "beyond the limits of the matrix"}
    return found


def summary(rows: dict[str, Row], models: dict[str, Model]) -> Row:
    """How many engines of each kind are right, and how much faster they are than the plain export."""
    counts: Row = {}
    for row in rows.values():
        if row["job"][0] != "engine":
            continue
        engine = row["engine"]
        kind = f"{engine['precision']} {engine['output']}{' dynamic' if engine['dynamic'] else ''}"
        right = "failed" not in row and min(c["agreement"] for c in row["cases"]) >= AGREEMENT[engine["precision"]]
        count = counts.setdefault(kind, {"right": 0, "of": 0, "not": {}})
        count["of"] += 1
        count["right"] += right
        if not right:
            count["not"][row["job"][1]] = row.get("failed") or min(c["agreement"] for c in row["cases"])
    speed: Row = {}
    for name in models:
        found = {r["engine"]["file"].removesuffix(".rest"): r for r in rows.values() if r["job"][:2] == ["speed", name]}
        times = {what: r["to_mask_p50_ms"] for what, r in found.items() if "to_mask_p50_ms" in r}
        for how in ("eager", "compile"):
            row = rows.get(f"{how} {name} 0", {})
            times |= {f"torch-{how}-{p}": row[p]["to_mask_p50_ms"] for p in ("fp32", "fp16") if p in row}
        if times:
            plain = times.get("plain-fp32-logits")
            speed[name] = {what: {"to_mask_ms": ms, "over_plain": plain and plain / ms} for what, ms in times.items()}
    probed = [r for r in rows.values() if r["job"][0] == "probes"]
    wrong = {name: outcome for r in probed for name, outcome in r.get("networks", {}).items() if outcome != "right"}
    return {"engines": counts, "speed": speed, "probes": {"groups": len(probed), "not_right": wrong}}


def stand_in(path: Path) -> Callable[[Path | None], Any]:
    """The class `Device` of a Python file, in place of the GPU."""
    spec = importlib.util.spec_from_file_location("stand_in", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[Path | None], Any] = module.Device
    return found


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("kit", type=Path, metavar="KIT")
    command.add_argument("--work", type=Path)
    command.add_argument("--json", type=Path)
    command.add_argument("--seconds", type=float, default=540.0)
    command.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of rows; default all, in this order")
    command.add_argument("--warmup", type=int, default=10)
    command.add_argument("--repeat", type=int, default=50)
    command.add_argument("--stand-in", type=Path, help="a Python file whose class Device takes the place of the GPU")
    command.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of the child
    args = command.parse_args()
    work = args.work or args.kit / "work"
    import gpu

    if args.stand_in is None and (why := gpu.why_no_gpu()):
        print(json.dumps({"error": why, "exit_code": NO_GPU}))
        return NO_GPU
    if args.until is not None:
        device = (stand_in(args.stand_in) if args.stand_in else gpu.Cuda)(work / "site")
        work_through(work, device, args.until, args.kinds, args.warmup, args.repeat)
        return 0
    end = time.time() + args.seconds
    unpack(args.kit, work)
    supervise(work, [sys.executable, *sys.argv, "--until", str(end)], end)
    content = results(work)
    text = json.dumps(content, indent=1)
    (args.json or work / "results.json").write_text(text + "\n")
    print(json.dumps({key: content[key] for key in ("versions", "loads", "why_not", "summary")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
