"""The main job in a minute: compile a small street-scene model, segment a generated scene and a real photograph.

    python examples/demo.py [--out DIR] [--target T]

Every step is a `segc` command that you can type yourself; it is printed before it runs.
"""

from __future__ import annotations

import argparse
import importlib.resources
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np

from segc.cli import main as segc
from segc.parity.metrics import mean_iou

STREET = Path(__file__).parent / "street_scenes"
sys.path.insert(0, str(STREET))

import scenes  # noqa: E402 - lies beside the model, not in a package


def run(*arguments: object) -> None:
    """Print a segc command and run it; leave with its exit code when it fails."""
    words = [str(a) for a in arguments]
    print(f"\n$ segc {shlex.join(words)}", flush=True)
    if code := segc(words):
        raise SystemExit(code)


def photograph(folder: Path) -> Path:
    """A real photograph (640 x 427) that scikit-learn ships; part of segc's dev extra."""
    found = importlib.resources.files("sklearn.datasets.images").joinpath("china.jpg")
    target = folder / "photograph.jpg"
    target.write_bytes(found.read_bytes())
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--target", default="onnxruntime")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bundle, masks = args.out / f"street-{args.target}", args.out / "masks"

    scene = scenes.render(scenes.DEMO_SEEDS[0])
    generated = args.out / "scene.png"
    cv2.imwrite(str(generated), scene.image)
    real = photograph(args.out)

    run(
        "compile", STREET / "fast_scnn_street.py", "--checkpoint", STREET / "fast_scnn_street.pth",
        "--target", args.target, "--dynamic", "--force", "-o", bundle,
    )  # fmt: skip
    run("run", bundle, generated, real, "-o", masks)

    found = palette_indices(masks / "scene_mask.png")
    print(f"\nmIoU on the generated scene, which the model has never seen: {mean_iou(scene.mask, found):.3f}")
    for name in ("scene", "photograph"):
        print(f"{name + ':':<12} mask {masks / f'{name}_mask.png'}, overlay {masks / f'{name}_overlay.png'}")
    print(f"report:      {bundle / 'report.html'}, for a browser")


def palette_indices(path: Path) -> np.ndarray:
    """Class numbers of a palette PNG; cv2 would turn them into colours."""
    from PIL import Image

    return np.asarray(Image.open(path))


if __name__ == "__main__":
    main()
