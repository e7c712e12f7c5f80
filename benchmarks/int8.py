"""What int8 and bfloat16 gain over float32 on trained nets, beside the plain int8 routes of ONNX Runtime and NNCF.

    python benchmarks/int8.py build --weights DIR --data CAMVID --net stdc1 --work WORK      once for each net
    python benchmarks/int8.py time --work WORK --rounds 15 --threads 2                       table.json and a table
    python benchmarks/int8.py score --work WORK --data CAMVID --net stdc1                    mIoU on the test split

DIR holds NET_camvid.py and NET_camvid.pth, as benchmarks/training/camvid.py writes them. A route goes from an image in
memory to a mask in memory, normalization and argmax included, at 360x480. segc's bundles return masks. The plain routes
are `torch.onnx.export` of the eager model followed by argmax, with `quantize_static` of ONNX Runtime or `quantize` of
NNCF (where it is installed) at their defaults, calibrated with the same 40 training images. Times are medians of
rounds in which every route of a net runs once.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (360, 480)
SEGC = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8"), "ncnn": ("fp32", "int8")}
PLAIN = {"onnxruntime": "plain-int8.onnx", "openvino": "plain-int8.xml"}
PAUSE = 0.1  # seconds: threads of the runtime that ran before spin for a while
CALIBRATION = 40  # images, evenly over the training split
Image = np.ndarray
Run = Callable[[Image], np.ndarray]


# ---------------------------------------------------------------------------------------------------------------- build


def calibration_images(data: Path, folder: Path) -> Path:
    """A folder with copies of some training images."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted((data / "train" / "images").iterdir())
    for file in files[:: len(files) // CALIBRATION]:
        shutil.copy2(file, folder / file.name)
    return folder


def build(args: argparse.Namespace) -> None:
    """segc's bundles and the plain routes of one net, but for those that are there."""
    import segc

    images = calibration_images(args.data, args.work / "calibration")
    folder = args.work / args.net
    folder.mkdir(parents=True, exist_ok=True)
    source, checkpoint = (args.weights / f"{args.net}_camvid{suffix}" for suffix in (".py", ".pth"))
    for target in args.targets:
        for precision in SEGC[target]:
            out = folder / f"{target}-{precision}"
            if not out.exists():
                segc.compile(
                    source, checkpoint=checkpoint, target=target, precision=precision, shape=SIZE, output="mask",
                    calibration=images if precision == "int8" else None, verify=not args.no_verify, out=out,
                    state=args.work / "searches.jsonl" if precision == "int8" else None,
                )  # fmt: skip
                print(f"{out}", flush=True)
        if target in PLAIN and not (folder / PLAIN[target]).exists():
            _plain(target, source, checkpoint, images, folder)
            print(f"{folder / PLAIN[target]}", flush=True)


def _plain(target: str, source: Path, checkpoint: Path, images: Path, folder: Path) -> None:
    """The int8 model as a user makes it with a tool's defaults; the reason, in a .txt file, where that fails."""
    try:
        exported = folder / "plain.onnx"
        if not exported.exists():
            _export(source, checkpoint, exported)
        inputs = [normalized(cv2.imread(str(path))) for path in sorted(images.iterdir())]
        (_quantize_ort if target == "onnxruntime" else _quantize_nncf)(exported, inputs, folder / PLAIN[target])
    except Exception as error:  # a tool may raise anything
        (folder / f"{PLAIN[target]}.txt").write_text(f"{type(error).__name__}: {error}"[:500])
        print(f"{target}, plain: {type(error).__name__}: {str(error)[:200]}", flush=True)


def _export(source: Path, checkpoint: Path, path: Path) -> None:
    import torch
    from latency_routes import with_argmax

    from segc.frontend.source import open_source

    module = open_source(source, checkpoint=checkpoint, mode="whole").module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            with_argmax(module), (torch.zeros(1, 3, *SIZE),), str(path), dynamo=True, opset_version=20,
            external_data=False,
        )  # fmt: skip


def _quantize_ort(exported: Path, inputs: list[np.ndarray], path: Path) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    name = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(self.left, None)
            return None if x is None else {name: x}

    quantize_static(exported, path, Reader(), per_channel=True)


def _quantize_nncf(exported: Path, inputs: list[np.ndarray], path: Path) -> None:
    import nncf
    import openvino

    model = openvino.convert_model(str(exported))
    made = nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs))
    openvino.save_model(made, path, compress_to_fp16=False)


# ----------------------------------------------------------------------------------------------------------------- time


def normalized(image: Image) -> np.ndarray:
    """float32 (1, 3, H, W) as the nets of benchmarks/training want it, but for CGNet."""
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    return np.ascontiguousarray(((image[..., ::-1] - mean) / std).transpose(2, 0, 1)[None], np.float32)


def routes(folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    """Every route of a net that was built, by name."""
    import segc

    for target, precisions in SEGC.items():
        for precision in precisions:
            path = folder / f"{target}-{precision}"
            if path.exists():
                engine = segc.load(path, threads=threads)
                yield path.name, lambda image, engine=engine: engine.segment(image).mask  # type: ignore[misc]
        if target in PLAIN and (folder / PLAIN[target]).exists():
            yield f"{target}-plain-int8", _plain_route(target, folder / PLAIN[target], threads)


def _plain_route(target: str, path: Path, threads: int) -> Run:
    if target == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: normalized(image)})[0][0]
    import openvino

    how = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", how)
    return lambda image: compiled(normalized(image))[0][0]


def measure(args: argparse.Namespace) -> None:
    """Interleaved medians of all nets that were built, and the ratios that count."""
    kept = args.work / "table.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    clock = time.process_time if args.cpu else time.perf_counter
    image = cv2.imread(str(sorted((args.work / "calibration").iterdir())[0]))
    for folder in sorted(path for path in args.work.iterdir() if path.is_dir() and path.name != "calibration"):
        if args.net and folder.name not in args.net.split(","):
            continue
        runs = dict(routes(folder, args.threads))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(args.rounds + 2):
            for name, run in runs.items():
                time.sleep(PAUSE)
                start = clock()
                run(image)
                if turn >= 2:
                    times[name].append(1e3 * (clock() - start))
        sizes = {name: _bytes(folder / name) for name in runs if (folder / name).exists()}
        rows[folder.name] = {
            "ms": {name: statistics.median(found) for name, found in times.items()},
            "least_ms": {name: min(found) for name, found in times.items()},
            "bytes": sizes, "rounds": args.rounds, "threads": args.threads, "cpu": args.cpu,
        }  # fmt: skip
        kept.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


def _bytes(bundle: Path) -> int:
    """Of the engine's files."""
    return sum(file.stat().st_size for file in bundle.rglob("*") if file.suffix in (".onnx", ".bin", ".xml", ".param"))


def table(rows: dict[str, Any]) -> list[str]:
    """A line for each net and target: milliseconds, int8 over float32 and over the plain route, size."""
    lines = ["| net | target | fp32 ms | bf16 ms | int8 ms | plain int8 ms | int8 over fp32 | over plain | size |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    gains: dict[str, list[tuple[float, float | None]]] = {}
    for net, row in sorted(rows.items()):
        for target in SEGC:
            ms = {kind: row["ms"].get(f"{target}-{kind}") for kind in ("fp32", "bf16", "int8", "plain-int8")}
            if not ms["fp32"] or not ms["int8"]:
                continue
            gain, plain = ms["fp32"] / ms["int8"], ms["plain-int8"] and ms["plain-int8"] / ms["int8"]
            gains.setdefault(target, []).append((gain, plain))
            share = row["bytes"][f"{target}-int8"] / row["bytes"][f"{target}-fp32"]
            shown = [f"{value:.1f}" if value else "-" for value in ms.values()]
            over = "-" if plain is None else f"{plain:.2f}x"
            lines.append(f"| {net} | {target} | {' | '.join(shown)} | {gain:.2f}x | {over} | {share:.2f} |")
    for target, pairs in gains.items():
        means = [_geometric([pair[at] for pair in pairs if pair[at]]) for at in (0, 1)]
        said = " and ".join(
            f"{mean:.2f}x over {what}" for mean, what in zip(means, ("fp32", "plain"), strict=True) if mean
        )
        lines.append(f"{target}: geometric mean {said}, {len(pairs)} nets")
    return lines


def _geometric(values: list[Any]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 0.0


# ---------------------------------------------------------------------------------------------------------------- score


def score(args: argparse.Namespace) -> None:
    """mIoU of the bundles of a net on the test split; goes on where it was stopped."""
    import segc

    folder = args.work / args.net
    bundles = [folder / f"{target}-{precision}" for target in args.targets for precision in SEGC[target]]
    bundles = [path for path in bundles if path.exists()]
    test = args.data / "test"
    result = segc.val(
        bundles, images=test / "images", labels=test / "labels", ignore_index=11, threads=args.threads,
        state=folder / f"scores-{'-'.join(args.targets)}.jsonl",
    )  # fmt: skip
    for one in result.columns:
        near = 100 * (one.boundary.m_iou or 0)
        print(f"{args.net} {Path(one.name).name}: {100 * (one.overall.m_iou or 0):.2f}, near boundaries {near:.2f}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "time", "score"))
    parser.add_argument("--weights", type=Path, default=Path("~/.cache/segc-training").expanduser())
    parser.add_argument("--data", type=Path, metavar="CAMVID")
    parser.add_argument("--net", help="for time: several between commas, or all that were built")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "segc-int8")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(SEGC))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="time the processor, with --threads 1 on a busy machine")
    parser.add_argument("--no-verify", action="store_true", help="build without the parity gate; `score` judges")
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    {"build": build, "time": measure, "score": score}[asked.what](asked)
