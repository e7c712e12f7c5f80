"""Masks from logits: segc's host kernel and its lowerings in graphs, compared with the runtimes' Resize and ArgMax.

    python benchmarks/masks.py [--runs 15] [--threads 2] [--cases 150 19] [--no-memory] [--json FILE]
                               [--weights PTH --config CONFIG --images DIR]

All methods get the same logits and run in turns, so that other load affects all equally. Each turn is a pause, in
which the threads of other runtimes go to sleep, a run that wakes the method's threads, and the run that is timed. The
script prints medians in milliseconds. Memory is the growth of the peak of a process that has loaded the logits and the
engine. `differ` is the number of pixels that differ from torch's; all of them are ties.

Scene logits come from the Fast-SCNN in examples/street_scenes on generated scenes, or, with --weights, from that
checkpoint on the images of a folder (the number of classes is that of its head). For classes that the network lacks,
the logits of other classes are shifted in space and lowered, so that they seldom win, and about as many cells have
several classes as in the scene.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CASES = {150: ((128, 128), (512, 512)), 19: ((128, 256), (1024, 2048))}
LARGE = {150: ((128, 256), (1024, 2048))}  # for memory
PAUSE = 0.2  # seconds: ONNX Runtime's threads spin after a run, and take a core from the next method
Method = Callable[[np.ndarray], np.ndarray]


def tail_model(classes: int, small: tuple[int, int], large: tuple[int, int], step: Any) -> Any:
    """A model from logits to a uint8 mask, with segc.ResizeArgMax lowered by the pass `step`."""
    import onnx.parser

    from segc.graph import ir

    text = f"""<ir_version: 9, opset_import: ["" : 20, "segc" : 1]>
        g (float[1,{classes},{small[0]},{small[1]}] x) => (uint8[1,{large[0]},{large[1]}] y)
        <int64[2] size = {{{large[0]}, {large[1]}}}, int64[1] a = {{1}}> {{
        k = segc.ResizeArgMax <coordinate_transformation_mode = "half_pixel"> (x, size)
        i = Squeeze (k, a)  y = Cast <to = 2> (i) }}"""
    graph = ir.from_model(onnx.parser.parse_model(text))
    ir.infer_shapes(graph)
    step.run(graph)
    ir.cleanup(graph)
    return ir.to_model(graph, functions=False)


def in_graph(target: str, model: Any, threads: int) -> Method:
    from segc import targets
    from segc.targets.protocol import Settings

    runtime = targets.get(target)
    folder = tempfile.mkdtemp()
    emitted = runtime.emit(model, Path(folder), Settings())
    return runtime.load(Path(folder), emitted.options, threads).run


def methods(
    classes: int, small: tuple[int, int], large: tuple[int, int], threads: int
) -> dict[str, Callable[[], Method]]:
    """By name, a function that prepares the method."""
    from segc import targets
    from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
    from segc.runtime import resize
    from segc.runtime.masks import dispatch

    def host() -> Method:
        return lambda x: dispatch.resize_argmax(x[0], large, False, threads=threads)[None]

    def numpy() -> Method:
        return lambda x: resize.resize_argmax(x[0], large, False)[None]

    def graph(target: str, step: Any) -> Callable[[], Method]:
        return lambda: in_graph(target, tail_model(classes, small, large, step), threads)

    return {
        "onnxruntime, Resize + ArgMax + Cast": graph("onnxruntime", LowerResizeArgMax()),
        "host kernel": host,
        "host, NumPy": numpy,
        "onnxruntime, segc's lowering": graph("onnxruntime", targets.get("onnxruntime").mask_lowering),
        "openvino, Resize + ArgMax + Cast": graph("openvino", LowerResizeArgMax()),
        "openvino, segc's lowering": graph("openvino", targets.get("openvino").mask_lowering),
    }


def scene_logits(size: tuple[int, int], args: argparse.Namespace) -> np.ndarray:
    """float32 (classes of the network, *size): the logits of one scene before the last resize."""
    import cv2

    import segc

    street = ROOT / "examples" / "street_scenes"
    shape = size[0] * 8, size[1] * 8  # Fast-SCNN's logits have an eighth of the input's size
    with tempfile.TemporaryDirectory() as folder:
        config, weights = street / "fast_scnn_street.py", street / "fast_scnn_street.pth"
        if args.weights:
            config, weights = _config_of(Path(args.weights), Path(folder)), Path(args.weights)
        bundle = segc.compile(
            config, checkpoint=weights, shape=shape, output="mask", decode="host", mode="whole", verify=False,
            out=Path(folder) / "b",
        )  # fmt: skip
        engine = segc.load(bundle.path, threads=args.threads)
        if args.images:
            image = cv2.imread(str(sorted(Path(args.images).glob("*.*"))[0]))
        else:
            sys.path.insert(0, str(street))
            import scenes

            image = scenes.render(scenes.DEMO_SEEDS[0], *shape).image
        from segc.runtime.preprocessing import preprocess

        x, _ = preprocess(cv2.resize(image, shape[::-1]), bundle.manifest.preprocessing)
        return np.asarray(engine._batches(x)[0])


def _config_of(weights: Path, folder: Path) -> Path:
    """A Fast-SCNN config with as many classes as the checkpoint's head."""
    import torch

    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    classes = len(state["decode_head.conv_seg.bias"])
    street = (ROOT / "examples" / "street_scenes" / "fast_scnn_street.py").read_text()
    head, _, rest = street.partition("classes = (")
    tail = rest.partition("palette = [")[2].partition("]  # fmt: skip")[2]
    names = tuple(f"class {i}" for i in range(classes))
    path = folder / "fast_scnn_other.py"
    path.write_text(f"{head}classes = {names!r}\npalette = {[[i, i, i] for i in range(classes)]!r}\n{tail}")
    return path


def widened(x: np.ndarray, classes: int) -> np.ndarray:
    """float32 (1, classes, h, w): the logits with additional classes, which seldom win."""
    rng = np.random.default_rng(0)
    made = [*x]
    while len(made) < classes:
        other = x[rng.integers(len(x))]
        made.append(np.roll(other, rng.integers(0, min(other.shape), 2), (0, 1)) - np.float32(3 + 4 * rng.random()))
    return np.ascontiguousarray(np.stack(made[:classes])[None], np.float32)


def mixed_share(x: np.ndarray) -> float:
    """The share of cells whose four corners are not all of one class."""
    win = x[0].argmax(0)
    same = (win[1:, 1:] == win[:-1, 1:]) & (win[1:, 1:] == win[1:, :-1]) & (win[1:, 1:] == win[:-1, :-1])
    return 1 - float(same.mean())


def timed(made: dict[str, Method], x: np.ndarray, runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(runs + 2):
        for name, method in made.items():
            time.sleep(PAUSE)
            method(x)  # wakes its threads, as the network before it would
            begin = time.perf_counter()
            method(x)
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def measure(classes: int, kind: str, x: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    import torch

    small, large = CASES[classes]
    resized = torch.nn.functional.interpolate(torch.from_numpy(x), size=large, mode="bilinear")
    want = resized.argmax(1).numpy()
    del resized
    made = {name: make() for name, make in methods(classes, small, large, args.threads).items()}
    differ = {name: int((method(x) != want).sum()) for name, method in made.items()}
    times = {name: float(np.median(found)) for name, found in timed(made, x, args.runs).items()}
    return {
        "classes": classes, "from": small, "to": large, "logits": kind, "mixed": mixed_share(x), "ms": times,
        "differ": differ, "pixels": int(want.size),
    }  # fmt: skip


def two_resizes(classes: int, x: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """Resize logits to the input's size and then to an image of 4/3 of it: both resizes in one step, or directly."""
    from segc.runtime import resize
    from segc.runtime.masks import dispatch

    large = CASES[classes][1]
    image = large[0] * 4 // 3, large[1] * 4 // 3
    stepwise = resize.resize_argmax(resize.ResizedRows(resize.ArrayRows(x[0]), large, large, False), image, False)
    both: Method = lambda x: dispatch.resize_argmax(x[0], image, False, via=(large, large), threads=args.threads)  # noqa: E731
    direct: Method = lambda x: dispatch.resize_argmax(x[0], image, False, threads=args.threads)  # noqa: E731
    times = timed({"both at once": both, "directly": direct}, x, args.runs)
    return {
        "classes": classes, "image": image,
        "ms": {name: float(np.median(found)) for name, found in times.items()},
        "differ": {
            "both at once": float((both(x) != stepwise).mean()), "directly": float((direct(x) != stepwise).mean()),
        },
    }  # fmt: skip


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for classes, (small, large) in LARGE.items():
        peaks = {}
        for name in methods(classes, small, large, args.threads):
            command = [sys.executable, __file__, "--memory-of", name, "--threads", str(args.threads)]
            done = subprocess.run([*command, "--cases", str(classes)], capture_output=True, text=True, check=True)
            peaks[name] = float(done.stdout.split()[-1])
            print(f"  {name}: {peaks[name]:.0f} MB", flush=True)
        found.append({"classes": classes, "from": small, "to": large, "peak_mb": peaks})
    return found


def memory_of(name: str, classes: int, threads: int) -> None:
    """Print by how many MB the peak grows during a run on noise (Linux). The kernel is compiled before."""
    from segc.runtime.masks import dispatch

    small, large = LARGE[classes]
    x = np.random.default_rng(0).standard_normal((1, classes, *small)).astype(np.float32)
    dispatch.resize_argmax(x[0, :2, :4, :4], (8, 8), False)
    method = methods(classes, small, large, threads)[name]()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which a child inherits from its parent
    before = resident("VmRSS")
    method(x)
    print((resident("VmHWM") - before) / 1024)


def resident(what: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what)))


def show(row: dict[str, Any]) -> None:
    shape = f"{row['classes']} classes, {row['from'][0]}x{row['from'][1]} -> {row['to'][0]}x{row['to'][1]}"
    print(f"{shape}, {row['logits']}, {row['mixed']:.0%} of cells mixed")
    for name, ms in row["ms"].items():
        runtime = "openvino" if name.startswith("openvino") else "onnxruntime"
        plain = row["ms"][f"{runtime}, Resize + ArgMax + Cast"]
        print(f"  {name:38s} {ms:8.2f} ms {plain / ms:7.2f}x   differ {row['differ'][name]} of {row['pixels']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", type=int, nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--weights", help="a Fast-SCNN checkpoint in place of the one in examples/")
    parser.add_argument("--images", help="a folder of images in place of generated scenes")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.memory_of:
        memory_of(args.memory_of, args.cases[0], args.threads)
        return
    rows, resizes = [], []
    for classes in args.cases:
        small = CASES[classes][0]
        noise = np.random.default_rng(0).standard_normal((1, classes, *small)).astype(np.float32)
        scene = widened(scene_logits(small, args), classes)
        for kind, x in (("scene", scene), ("noise", noise)):
            rows.append(measure(classes, kind, x, args))
            show(rows[-1])
        resizes.append(two_resizes(classes, scene, args))
        print(f"  on to an image: {json.dumps(resizes[-1])}")
    peaks = [] if args.no_memory else memory(args)
    if args.json:
        args.json.write_text(json.dumps({"masks": rows, "two resizes": resizes, "memory": peaks}, indent=2))


if __name__ == "__main__":
    main()
