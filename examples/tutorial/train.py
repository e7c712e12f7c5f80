"""Train the tutorial's model on drawn pictures, in seconds; write its weights and a picture it has not seen.

    python examples/tutorial/train.py [--steps N] [--out DIR]

Writes my_model.pth, shapes.png and shapes.ppm, the same picture for the C++ program.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from my_model import CLASSES, meta, model
from torch.nn import functional

HEIGHT, WIDTH = meta["shape"]
UNSEEN = 10**6  # seed of the first picture that training never draws


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 (H, W, 3) BGR, mask uint8 (H, W)): orange disks and blue squares on a grey, noisy background."""
    random = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, 3), random.integers(60, 200), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(5):
        x, y, size = int(random.integers(WIDTH)), int(random.integers(HEIGHT)), int(random.integers(8, 20))
        kind, shade = int(random.integers(1, 3)), int(random.integers(-40, 40))
        colour = (60 + shade, 120 + shade, 210 + shade) if kind == 1 else (210 + shade, 120 + shade, 60 + shade)
        for canvas, value in ((image, colour), (mask, kind)):
            if kind == 1:
                cv2.circle(canvas, (x, y), size, value, -1)
            else:
                cv2.rectangle(canvas, (x - size, y - size), (x + size, y + size), value, -1)
    noise = random.normal(0, 10, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def batch(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized images (N, 3, H, W) and classes (N, H, W)."""
    drawn = [picture(seed) for seed in seeds]
    images = np.stack([image[..., ::-1] for image, _ in drawn]).astype(np.float32)
    normalized = (images - np.float32(meta["mean"])) / np.float32(meta["std"])
    classes = np.stack([mask for _, mask in drawn]).astype(np.int64)
    return torch.from_numpy(normalized.transpose(0, 3, 1, 2).copy()), torch.from_numpy(classes)


def train(steps: int, size: int = 4) -> None:
    """Adam on fresh pictures, with a learning rate that falls to zero."""
    torch.set_num_threads(1)  # so little work that more threads only wait for each other
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=steps)
    model.train()
    for step in range(steps):
        images, classes = batch(range(step * size, (step + 1) * size))
        loss = functional.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def agreement() -> float:
    """The share of pixels of unseen pictures that get the right class."""
    images, classes = batch(range(UNSEEN, UNSEEN + 16))
    with torch.no_grad():
        return float((model(images).argmax(1) == classes).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args()
    train(args.steps)
    torch.save({"state_dict": model.state_dict()}, args.out / "my_model.pth")
    image, _ = picture(UNSEEN)
    for name in ("shapes.png", "shapes.ppm"):
        cv2.imwrite(str(args.out / name), image)
    print(f"{len(CLASSES)} classes; {agreement():.1%} of the pixels of 16 unseen pictures are right")


if __name__ == "__main__":
    main()
