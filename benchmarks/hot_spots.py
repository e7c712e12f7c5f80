"""Where compiled networks spend their time, by the runtimes' profilers, and which are slow for the work that they do.

    python benchmarks/hot_spots.py MODEL... [--target onnxruntime|openvino] [--shape HxW] [--runs 5] [--threads 1]
                                            [--top 8]

MODEL: a source for `segc compile`. Each model is compiled to a mask. Its first line has the time of a run, the number
of multiply-adds in convolutions and matrix products (GMAC), and the milliseconds for each GMAC; the models with the
most milliseconds come first. The second line has the share of each kind of layer. ncnn is not supported, because its
wheel is built without the profiler.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference

import segc
from segc.errors import SegcError

Milliseconds = dict[str, float]  # by kind of layer, one run


def products(model: onnx.ModelProto) -> float:
    """GMAC of the convolutions and matrix products of a static graph. Nodes of unknown shape are not counted."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    total = 0
    for node in inferred.node:
        a, b, y = (
            shapes.get(name, []) for name in (*node.input[:2], *[""] * (2 - len(node.input[:2])), node.output[0])
        )
        if not a or not b or not y:
            continue
        if node.op_type == "Conv":
            total += math.prod(y) * math.prod(b[1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(a) * math.prod(b[1:])
        elif node.op_type in ("MatMul", "Gemm"):
            total += math.prod(y) * a[-1]
    return total / 1e9


def onnxruntime_profile(folder: Path, x: np.ndarray, args: argparse.Namespace) -> Milliseconds:
    """From ONNX Runtime's profile: the fastest run of each layer, which other load affects least."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    for _ in range(args.runs + 1):
        session.run(None, {session.get_inputs()[0].name: x})
    events = json.loads(Path(session.end_profiling()).read_text())
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    spent: Milliseconds = defaultdict(float)
    for (kind, _), durations in found.items():
        spent[kind] += min(durations)
    return spent


def openvino_profile(folder: Path, x: np.ndarray, args: argparse.Namespace) -> Milliseconds:
    """From OpenVINO's performance counters: the fastest run of each layer."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": args.threads, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    request = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", settings).create_infer_request()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(args.runs + 1):
        request.infer([x])
        for layer in request.get_profiling_info():
            found[layer.node_type, layer.node_name].append(layer.real_time.total_seconds() * 1e3)
    spent: Milliseconds = defaultdict(float)
    for (kind, _), durations in found.items():
        spent[kind] += min(durations)
    return spent


PROFILERS = {"onnxruntime": onnxruntime_profile, "openvino": openvino_profile}


def profile(source: str, args: argparse.Namespace) -> tuple[float, float, Milliseconds]:
    """(milliseconds of all layers in a run, GMAC, milliseconds by kind of layer). Raises SegcError."""
    shape = tuple(int(side) for side in args.shape.split("x")) if args.shape else None
    with tempfile.TemporaryDirectory() as top:
        bundle = segc.compile(
            source, target=args.target, shape=shape, mode="whole", output="mask", verify=False, hybrid=False,
            keep_onnx=True, out=Path(top) / "bundle",
        )  # fmt: skip
        folder = bundle.path
        model = onnx.load(next(iter(sorted(folder.glob("*.onnx")))))
        dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
        spent = PROFILERS[args.target](folder, x, args)
    return sum(spent.values()), products(model), spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--target", choices=PROFILERS, default="onnxruntime")
    parser.add_argument("--shape")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--top", type=int, default=8, help="kinds of layers to show")
    args = parser.parse_args()
    rows = []
    for source in args.models:
        try:
            rows.append((source, *profile(source, args)))
        except SegcError as why:
            print(f"{source}: {str(why).splitlines()[0]}", flush=True)
    for source, total, gmac, spent in sorted(rows, key=lambda row: -row[1] / max(row[2], 1e-9)):
        print(f"{Path(source).name}: {total:.1f} ms, {gmac:.2f} GMAC, {total / max(gmac, 1e-9):.1f} ms per GMAC")
        kinds = sorted(spent.items(), key=lambda item: -item[1])[: args.top]
        print("  " + ", ".join(f"{kind} {ms / max(total, 1e-9):.0%}" for kind, ms in kinds), flush=True)


if __name__ == "__main__":
    main()
