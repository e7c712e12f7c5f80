"""segc opt, compared with onnxsim and onnxslim on plain exports of models from mmseg's zoo.

    python benchmarks/simplifiers.py [--models fcn pspnet …] [--runs 41] [--folder DIR] [--json FILE]

Each model is exported by `torch.onnx.export(dynamo=True)` alone, at a small odd size. Each tool gets that file in a
process of its own; measured are the seconds of the call, without imports, and the peak memory of the process. ONNX
Runtime then runs the results with two threads and its default optimizations, in turns, so that other load affects all
equally. The script prints medians, and the median ratio of segc's time to that of each tool in the same turn. `error`
is the largest relative difference from the export.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segc.support_matrix.families import FAMILIES

LIGHT = ("fcn", "pspnet", "deeplabv3plus", "segformer", "unet", "fastscnn", "bisenetv2", "segmenter", "stdc")
MODELS = {**{name: FAMILIES[name] for name in LIGHT}, "hrnet": "fcn_hr18s_4xb2-40k_cityscapes-512x1024"}
TOOLS = ("segc", "onnxsim", "onnxslim")
SIZE = (97, 129)


@dataclass
class Row:
    """One model. For each tool and "export": nodes, kinds of ops, seconds, peak MB, median ms, relative error."""

    model: str
    size: tuple[int, int]
    nodes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)  # segc's latency divided by the tool's, median over turns
    ops: dict[str, dict[str, int]] = field(default_factory=dict)


def simplify(tool: str, source: str, out: str) -> dict[str, float]:
    """Run one tool in this process. Returns its seconds and the peak memory of the process."""
    if tool == "segc":
        import onnxruntime  # noqa: F401 - so that the timed call does not import it
        import onnxsim

        from segc.commands.optimize import optimize

        start = time.perf_counter()
        optimize(source, out=out, force=True)
    elif tool == "onnxsim":
        import onnxsim

        start = time.perf_counter()
        model, _ = onnxsim.simplify(onnx.load(source))
        onnx.save(model, out)
    else:
        import onnxslim

        start = time.perf_counter()
        onnxslim.slim(source, out)
    return {
        "seconds": time.perf_counter() - start,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The peak resident memory of this process; getrusage would include that of its parent before the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measure(name: str, folder: Path, runs: int) -> Row:
    path = folder / f"{name}.onnx"
    if not path.exists():
        subprocess.run([sys.executable, __file__, "--export", name, str(path)], check=True, stdout=subprocess.DEVNULL)
    files = {"export": path}
    model = onnx.load(str(path))
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    row = Row(name, (dims[2], dims[3]))
    for tool in TOOLS:
        files[tool] = folder / f"{name}.{tool}.onnx"
        arguments = [sys.executable, __file__, "--child", tool, str(path), str(files[tool])]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        row.seconds[tool], row.peak_mb[tool] = figures["seconds"], figures["peak_mb"]
    for tool, file in files.items():
        nodes = onnx.load(str(file)).graph.node
        row.nodes[tool], row.kinds[tool] = len(nodes), len({n.op_type for n in nodes})
        row.ops[tool] = {op: sum(n.op_type == op for n in nodes) for op in sorted({n.op_type for n in nodes})}
    run_all(row, files, dims, runs)
    return row


def run_all(row: Row, files: dict[str, Path], dims: Sequence[int], runs: int) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = {t: onnxruntime.InferenceSession(str(f), options, ["CPUExecutionProvider"]) for t, f in files.items()}
    x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    feeds = {tool: {s.get_inputs()[0].name: x} for tool, s in sessions.items()}
    want = sessions["export"].run(None, feeds["export"])[0]
    for tool, session in sessions.items():
        got = session.run(None, feeds[tool])[0]
        row.error[tool] = float(np.abs(got - want).max() / np.abs(want).max())
    times: dict[str, list[float]] = {tool: [] for tool in sessions}
    order = list(sessions)
    for at in range(runs):
        for tool in order[at % len(order) :] + order[: at % len(order)]:
            start = time.perf_counter()
            sessions[tool].run(None, feeds[tool])
            times[tool].append((time.perf_counter() - start) * 1e3)
    for tool, found in times.items():
        row.ms[tool] = statistics.median(found)
        row.ratio[tool] = statistics.median(a / b for a, b in zip(times["segc"], found, strict=True))


def export(name: str, out: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from parity import accepted_size, plain_export

    from segc.frontend.source import open_source

    source = open_source(MODELS[name], mode="whole")
    size = accepted_size(source, SIZE)
    onnx.save(plain_export(source, (1, source.info.in_channels, *size)), out)


def line(row: Row) -> str:
    def three(values: dict[str, Any], digits: int) -> str:
        return " / ".join(f"{values[tool]:.{digits}f}" for tool in TOOLS)

    ratios = " / ".join(f"{row.ratio[tool]:.2f}" for tool in ("export", "onnxsim", "onnxslim"))
    return (
        f"| {row.model} {row.size[0]}x{row.size[1]} | {row.nodes['export']} | {three(row.nodes, 0)} | "
        f"{three(row.kinds, 0)} | {three(row.seconds, 2)} | {three(row.peak_mb, 0)} | {three(row.ms, 1)} | {ratios} | "
        f"{max(row.error[tool] for tool in TOOLS[:1]):.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--folder", type=Path, help="save exports and results here")
    parser.add_argument("--json", type=Path, help="also save the rows here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(simplify(*args.child)))
        return
    if args.export:
        export(*args.export)
        return
    print("segc / onnxsim / onnxslim; ratio: segc's latency divided by that of export / onnxsim / onnxslim\n")
    print("| model | exported nodes | nodes | op kinds | seconds | peak MB | latency ms | ratio | segc's error |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in args.models:
            rows.append(measure(name, folder, args.runs))
            print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
