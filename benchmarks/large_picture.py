"""Peak memory and speed of `segc run` on a TIFF file larger than memory, and whether its mask is right.

    python benchmarks/large_picture.py FOLDER [--side 30000] [--classes 19] [--limit-mb 2000]

Writes a made-up BigTIFF of SIDE x SIDE pixels and a cheap model that slides (a 3x3 convolution, windows of 512x512
every 341x341, as mmseg's configs say), runs the command in a process of its own, and compares the mask with `segment`
of crops that begin and end with windows. 30,000 x 30,000 pixels need 3 GB of disk and some 20 minutes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import rasterio

import segc
from segc.bundle.manifest import Manifest
from segc.bundle.store import write_bundle
from tests.helpers.tiny_bundles import REPORT, content

CROP, STRIDE, BLOCK = 512, 341, 512


def picture(path: Path, side: int) -> None:
    """Hills and noise, block by block."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (3, BLOCK, BLOCK), np.uint8)
    settings = {
        "driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "tiled": True, "bigtiff": "yes",
        "blockxsize": BLOCK, "blockysize": BLOCK, "photometric": "rgb", "compress": "deflate", "zlevel": 1,
        "crs": "EPSG:32633", "transform": rasterio.transform.from_origin(400000.0, 5800000.0, 0.5, 0.5),
    }  # fmt: skip
    with rasterio.open(path, "w", **settings) as dataset:
        for top in range(0, side, BLOCK):
            y = np.arange(top, min(top + BLOCK, side))[:, None]
            for left in range(0, side, BLOCK):
                x = np.arange(left, min(left + BLOCK, side))[None]
                hills = [107 + 107 * np.sin(x / (90 + 30 * c)) * np.cos(y / (70 + 20 * c)) for c in range(3)]
                block = np.stack(hills).astype(np.uint8) + noise[:, : len(y), : x.shape[1]]
                dataset.write(block, window=((top, top + len(y)), (left, left + x.shape[1])))


def model(path: Path, classes: int) -> None:
    """A bundle of one convolution."""
    net = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> tiny (float[N, 3, H, W] x, float[{classes}, 3, 3, 3] w)'
        f" => (float[N, {classes}, H, W] y) {{ y = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (x, w) }}"
    )
    del net.graph.input[1]
    weights = np.random.default_rng(1).standard_normal((classes, 3, 3, 3)).astype(np.float32)
    net.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    with write_bundle(path, force=True) as staging:
        onnx.save(net, staging.directory / "model.onnx")
        staging.manifest = Manifest.from_content(
            content(
                inference={"mode": "slide", "crop": [CROP, CROP], "stride": [STRIDE, STRIDE], "align_corners": False},
                output__channels=classes, model__num_classes=classes, classes=[f"class {i}" for i in range(classes)],
                palette=[[i * 13, 255 - i * 13, i * 7] for i in range(classes)],
                preprocessing__mean=[120.0, 110.0, 100.0], preprocessing__std=[58.0, 57.0, 59.0],
            )
        )  # fmt: skip
        staging.report = REPORT


def equal(folder: Path, side: int) -> bool:
    """Whether crops of the picture, segmented whole, have the mask's pixels where all of their windows lie inside."""
    engine, right = segc.load(folder / "model"), True
    size, inset = CROP + 3 * STRIDE, CROP - STRIDE  # beyond it the windows are those of the whole picture
    for at in (0, (side // 2) // STRIDE):
        low = at * STRIDE
        window = ((low, low + size), (low, low + size))
        with rasterio.open(folder / "big.tif") as dataset:
            crop = np.ascontiguousarray(np.moveaxis(dataset.read(window=window), 0, 2)[..., ::-1])
        with rasterio.open(folder / "out" / "big_mask.tif") as dataset:
            found = dataset.read(1, window=window)
        inner = slice(inset, size - inset)
        right = right and bool((engine.segment(crop).mask[inner, inner] == found[inner, inner]).all())
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--limit-mb", type=float, default=2000)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    model(args.folder / "model", args.classes)
    if not (args.folder / "big.tif").exists():
        picture(args.folder / "big.tif", args.side)
    words = ["run", args.folder / "model", args.folder / "big.tif", "-o", args.folder / "out", "--tile", "model"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "segc", *map(str, words), "--no-overlay"], check=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    pixels = args.side**2
    print(f"{pixels:,} pixels, {args.classes} classes: {seconds:.0f} s, {pixels / seconds / 1e6:.2f} Mpixel/s")
    logits = pixels * args.classes * 4 / 1e9
    print(f"peak memory of the process: {peak:.0f} MB; logits of the whole picture: {logits:.1f} GB")
    right = equal(args.folder, args.side)
    print(f"equal to `segment` of crops: {right}")
    if not right or peak > args.limit_mb:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
