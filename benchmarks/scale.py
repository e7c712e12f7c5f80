"""How the time of the standard pipeline grows with the size of the graph, and memory for models over 2 GB.

    python benchmarks/scale.py [--nodes 1000 10000 50000] [--target onnxruntime] [--repeat 3]
    python benchmarks/scale.py --large [--gigabytes 2.5] [--folder DIR]

The graphs are a chain of segmentation ops, and a wide graph in which a third of all nodes read one tensor and a tree
joins their outputs. `growth` is the growth of the time divided by that of the number of nodes, from the row before: 1.0
is linear. Each size runs in a process of its own. Seconds are CPU seconds, which other load hardly affects, of the best
of `--repeat` runs. The time of the slowest pass is wall time.

`--large` writes a model with --gigabytes of external data, sparse on disk, runs `segc opt` on it in a process of its
own, and prints the peak resident memory. The file lies in --folder meanwhile (default: the temporary folder).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

FLOAT = onnx.TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model of these nodes from x (N, 4, H, W) to the output of the last node."""
    for at, node in enumerate(nodes):
        node.name = f"node{at}"
    graph = onnx.helper.make_graph(
        nodes, "scale",
        [onnx.helper.make_tensor_value_info("x", FLOAT, ["N", 4, "H", "W"])],
        [onnx.helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, ["N", 4, None, None])],
        initializer=[onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def chain(count: int) -> onnx.ModelProto:
    """A chain of Conv, Relu, Add, Identity, Shape and Reshape."""
    make, nodes, before = onnx.helper.make_node, [], "x"
    while len(nodes) < count - 4:
        at = len(nodes)
        nodes += [
            make("Conv", [before, "w"], [f"a{at}"], pads=[1, 1, 1, 1]),
            make("Relu", [f"a{at}"], [f"b{at}"]),
            make("Add", [f"b{at}", "c"], [f"c{at}"]),
            make("Identity", [f"c{at}"], [f"d{at}"]),
            make("Shape", [f"d{at}"], [f"e{at}"]),
            make("Reshape", [f"d{at}", f"e{at}"], [f"f{at}"]),
        ]
        before = f"f{at}"
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((4, 4, 3, 3)) / 6).astype(np.float32)
    nodes.append(make("Relu", [before], ["y"]))
    return model_of(nodes, {"w": weight, "c": np.full(1, 0.01, np.float32)})


def wide(count: int) -> onnx.ModelProto:
    """A third of the nodes read one tensor; every tenth pair of readers computes the same."""
    make, nodes, constants = onnx.helper.make_node, [], {}
    level = []
    for at in range(count // 3):
        constants.setdefault(f"c{at - (at % 10 == 1)}", np.full(1, 0.1 + at / count, np.float32))
        nodes.append(make("Mul", ["x", f"c{at - (at % 10 == 1)}"], [f"m{at}"]))
        nodes.append(make("Relu", [f"m{at}"], [f"r{at}"]))
        level.append(f"r{at}")
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = []
        for pair in pairs:
            level.append(f"s{len(nodes)}")
            nodes.append(make("Add" if len(pair) == 2 else "Identity", pair, [level[-1]]))
    return model_of(nodes, constants)


KINDS = {"chain": chain, "wide": wide}


def measure(kind: str, count: int, target: str) -> dict[str, float]:
    """Seconds for import, pipeline and export of one graph, after a warm-up on a small one."""
    from segc import targets
    from segc.graph import ir
    from segc.pipeline import hooks, stages

    seconds = {}
    for nodes in (100, count):
        model = KINDS[kind](nodes)
        timing = hooks.Timing()
        start = time.process_time()
        graph = ir.from_model(model)
        ir.infer_shapes(graph)
        imported = time.process_time()
        stages.standard(targets.get(target), shape=(1, 8, 8)).run(graph, [timing])
        ran = time.process_time()
        ir.to_model(graph)
        ended = time.process_time()
        seconds = {
            "nodes": float(len(model.graph.node)), "left": float(len(graph.nodes)), "import": imported - start,
            "pipeline": ran - imported, "export": ended - ran, "total": ended - start, **timing.by_name(),
        }  # fmt: skip
    return seconds


def in_child(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(sizes: list[int], target: str, repeat: int) -> None:
    print("| graph | nodes | left | import s | pipeline s | export s | ms per node | growth | slowest pass |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        before: dict[str, float] | None = None
        for count in sizes:
            runs = [in_child("--child", kind, str(count), target) for _ in range(repeat)]
            row = min(runs, key=lambda run: run["total"])
            known = {"nodes", "left", "import", "pipeline", "export", "total"}
            slowest = max((name for name in row if name not in known), key=lambda name: row[name])
            growth = "-"
            if before is not None:
                growth = f"{row['total'] / before['total'] / (row['nodes'] / before['nodes']):.2f}"
            print(
                f"| {kind} | {row['nodes']:.0f} | {row['left']:.0f} | {row['import']:.2f} | {row['pipeline']:.2f} "
                f"| {row['export']:.2f} | {row['total'] / row['nodes'] * 1e3:.3f} | {growth} "
                f"| {slowest} {row[slowest]:.2f} s |",
                flush=True,
            )
            before = row


def write_large(folder: Path, size: float, layers: int = 8) -> Path:
    """Write a chain of MatMul and Relu with weights of `size` bytes in total, in a sparse file."""
    width = int((size / layers / 4) ** 0.5)
    make, nodes, weights, before = onnx.helper.make_node, [], [], "x"
    for at in range(layers):
        nodes += [make("MatMul", [before, f"w{at}"], [f"m{at}"]), make("Relu", [f"m{at}"], [f"r{at}"]),
                  make("Identity", [f"r{at}"], [f"i{at}"])]  # fmt: skip
        before = f"i{at}"
        weight = onnx.TensorProto(name=f"w{at}", data_type=FLOAT, dims=[width, width])
        weight.data_location = onnx.TensorProto.EXTERNAL
        length = width * width * 4
        for key, value in (("location", "large.data"), ("offset", at * length), ("length", length)):
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "large", [info("x", FLOAT, [1, width])], [info(before, FLOAT, [1, width])], initializer=weights
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with (folder / "large.data").open("wb") as stream:
        stream.write(b"\0" * 4096)
        stream.truncate(layers * width * width * 4)
    (folder / "large.onnx").write_bytes(model.SerializeToString())
    return folder / "large.onnx"


def large(size: float, folder: str | None) -> None:
    """Print the peak memory of `segc opt` on a large model and, for comparison, of `onnx.load`."""
    cli = "import sys; from segc.cli import main;"
    programs = {
        "segc opt -o OUT": f"{cli} sys.exit(main(['opt', sys.argv[1], '-o', sys.argv[1] + '.out', '--force']))",
        "segc opt --check": f"{cli} sys.exit(main(['opt', sys.argv[1], '--check']))",
        "onnx.load": "import sys, onnx; onnx.load(sys.argv[1])",
    }
    print("| program | weights MB | peak RSS MB | peak RSS without mapped files MB | seconds |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        path = write_large(Path(parent), size)
        for name, program in programs.items():
            peak, private, seconds = run_watched([sys.executable, "-c", program, str(path)])
            print(f"| {name} | {size / 1e6:.0f} | {peak / 1e6:.0f} | {private / 1e6:.0f} | {seconds:.1f} |", flush=True)


def run_watched(command: list[str]) -> tuple[int, int, float]:
    """Run a command: its peak resident bytes, the peak without mapped files, and its seconds."""
    import psutil

    start, peak, private = time.perf_counter(), 0, 0
    child = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while child.poll() is None:
        try:
            memory = child.memory_info()
        except psutil.Error:
            break
        peak, private = max(peak, memory.rss), max(private, memory.rss - getattr(memory, "shared", 0))
        time.sleep(0.01)
    _, errors = child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command[:2])} failed:\n{errors.decode()}")
    return peak, private, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--folder")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child[0], int(args.child[1]), args.child[2])))
    elif args.large:
        large(args.gigabytes * 1e9, args.folder)
    else:
        table(args.nodes, args.target, args.repeat)


if __name__ == "__main__":
    main()
