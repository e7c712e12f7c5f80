"""Train mmseg's Fast-SCNN on procedural street scenes, on a CPU, and score a checkpoint on scenes it never saw.

    python examples/street_scenes/train.py --out street.pth          about half an hour on one core; see README.md
    python examples/street_scenes/train.py --evaluate street.pth     mIoU through mmseg's own predict path

The loop is plain torch. Weights are rounded to half precision before they are scored, so the printed mIoU is that of
the file.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scenes import CLASSES, PALETTE, TRAIN_SEEDS, VALIDATION_SEEDS, Scene, render
from torch import Tensor, nn
from torch.nn import functional

from segc.frontend.mmseg_env import import_mmseg

CONFIG = Path(__file__).with_name("fast_scnn_street.py")
SIZE = (256, 512)  # height, width
# Poles, signs and people cover few pixels; a class's weight in the loss says how dear a miss is.
CLASS_WEIGHTS = (1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.2)
AUXILIARY_WEIGHT = 0.4  # as in the zoo's config

Image = NDArray[np.uint8]


def build_model() -> nn.Module:
    """The config's model with BatchNorm for SyncBN; `model.cfg` is the config, as mmseg's inference API expects."""
    import_mmseg()
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    config = Config.fromfile(str(CONFIG))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = revert_sync_batchnorm(MODELS.build(config.model))
    model.cfg = config
    return model


# ----------------------------------------------------------------------------------------------------------------- data


def jitter(rng: np.random.Generator, image: Image) -> Image:
    """Random gain, gamma and offset for each channel, sometimes grey: uint8 (H, W, 3)."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** rng.uniform(0.7, 1.4)
    curve = ramp * rng.uniform(0.7, 1.3) * rng.uniform(0.88, 1.12, 3) + rng.uniform(-0.06, 0.06)
    table = np.clip(curve * 255, 0, 255).astype(np.uint8)[:, None]
    if rng.random() < 0.1:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def augment(rng: np.random.Generator, scene: Scene) -> Scene:
    """Mirror, crop, stretch and recolour; same size as before."""
    height, width = scene.mask.shape
    zoom = rng.uniform(1, 1.6) if rng.random() < 0.5 else 1.0
    aspect = rng.uniform(1, 1.4) if rng.random() < 0.4 else 1.0
    along, up = (zoom, zoom * aspect) if rng.random() < 0.5 else (zoom * aspect, zoom)
    left, top = rng.uniform(0, width * (along - 1)), rng.uniform(0, height * (up - 1))
    move = np.array([[along, 0, -left], [0, up, -top]], np.float64)
    if rng.random() < 0.5:
        move[0] = (-along, 0, width - 1 + left)
    image = cv2.warpAffine(scene.image, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(scene.mask, move, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return Scene(jitter(rng, np.asarray(image, np.uint8)), np.asarray(mask, np.uint8))


def batches(scenes: Sequence[Scene], size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (images uint8 (N, 3, H, W) BGR, masks int64 (N, H, W)), every scene once before any comes again."""
    rng = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += rng.permutation(len(scenes)).tolist()
        chosen = [augment(rng, scenes[queue.pop(0)]) for _ in range(size)]
        images = np.stack([scene.image for scene in chosen]).transpose(0, 3, 1, 2)
        masks = np.stack([scene.mask for scene in chosen]).astype(np.int64)
        yield torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(masks)


# ------------------------------------------------------------------------------------------------------------- training


def normalised(model: Any, images: Tensor) -> Tensor:
    """float32 (N, 3, H, W) RGB as the model's own preprocessor makes it of uint8 BGR images."""
    prepared = model.data_preprocessor
    rgb = images[:, [2, 1, 0]].float()
    return ((rgb - prepared.mean) / prepared.std).contiguous(memory_format=torch.channels_last)


def head_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Weighted cross entropy; logits float (N, C, h, w), masks int64 (N, H, W)."""
    enlarged = functional.interpolate(logits.float(), size=masks.shape[1:], mode="bilinear", align_corners=False)
    return functional.cross_entropy(enlarged, masks, weight=torch.tensor(CLASS_WEIGHTS), ignore_index=255)


def batch_loss(model: Any, images: Tensor, masks: Tensor) -> Tensor:
    """Loss of the decode head at full resolution plus that of the auxiliary heads at a quarter of it."""
    with torch.autocast("cpu", torch.bfloat16):
        features = model.extract_feat(normalised(model, images))
        logits = model.decode_head(features)
        auxiliary = [head(features) for head in model.auxiliary_head]
    coarse = masks[:, 2::4, 2::4]
    return head_loss(logits, masks) + AUXILIARY_WEIGHT * sum(head_loss(out, coarse) for out in auxiliary)


def train(model: nn.Module, scenes: Sequence[Scene], steps: int, batch: int, peak: float, seed: int) -> None:
    """AdamW with a one-cycle learning rate that peaks at `peak`; prints the loss every 100 steps."""
    model.to(memory_format=torch.channels_last).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.15)
    total, start = 0.0, time.perf_counter()
    for step, (images, masks) in zip(range(1, steps + 1), batches(scenes, batch, seed), strict=False):
        loss = batch_loss(model, images, masks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {total / 100:.3f}  {time.perf_counter() - start:.0f} s", flush=True)
            total = 0.0


# ----------------------------------------------------------------------------------------------------------- evaluation


def confusion(model: nn.Module, seeds: Sequence[int], size: tuple[int, int] = SIZE) -> NDArray[np.int64]:
    """int64 (C, C) pixel counts, row: truth, column: prediction of `mmseg.apis.inference_model`."""
    from mmseg.apis import inference_model

    counts = np.zeros(len(CLASSES) ** 2, np.int64)
    model.eval()
    for seed in seeds:
        scene = render(seed, *size)
        predicted = inference_model(model, scene.image).pred_sem_seg.data[0].numpy()
        pairs = scene.mask.astype(np.int64) * len(CLASSES) + predicted
        counts += np.bincount(pairs.ravel(), minlength=counts.size)
    return counts.reshape(len(CLASSES), len(CLASSES))


def class_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 (C,): intersection over union of each class; NaN for a class neither present nor predicted."""
    hit = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def report(counts: NDArray[np.int64]) -> float:
    """Print the IoU of every class and their mean; return the mean."""
    scores = class_iou(counts)
    for name, score in zip(CLASSES, scores, strict=True):
        print(f"{name:<14}{score:7.4f}")
    mean = float(np.nanmean(scores))
    print(f"{'mIoU':<14}{mean:7.4f}")
    return mean


# ----------------------------------------------------------------------------------------------------------- checkpoint


def round_to_half(model: nn.Module) -> dict[str, Tensor]:
    """Round the model's weights to half precision in place; return them as a convert-to-fp16 state dict."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return {name: value.contiguous() for name, value in state.items()}


def save(path: Path, state: dict[str, Tensor], miou: float, steps: int) -> None:
    """Write a checkpoint that `torch.load(path, weights_only=True)` reads."""
    about = {"classes": list(CLASSES), "palette": [list(colour) for colour in PALETTE]}
    torch.save({"state_dict": state, "meta": {"dataset_meta": about, "miou": miou, "steps": steps}}, path)


def load_model(path: Path) -> nn.Module:
    """The model with the weights of a checkpoint; every key has to match."""
    model = build_model()
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["state_dict"], strict=True)
    model.dataset_meta = checkpoint["meta"]["dataset_meta"]
    return model.eval()


def rendered(seeds: Sequence[int]) -> list[Scene]:
    """All these scenes, kept in memory: half a megabyte each."""
    start = time.perf_counter()
    scenes = [render(seed, *SIZE) for seed in seeds]
    print(f"rendered {len(scenes)} scenes in {time.perf_counter() - start:.0f} s", flush=True)
    return scenes


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=2400, help="training scenes rendered before the first step")
    parser.add_argument("--first", type=int, default=0, help="position of the first of them in TRAIN_SEEDS")
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="start from these weights")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fast_scnn_street.pth"))
    parser.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="score this checkpoint, train nothing")
    parser.add_argument("--unseen", type=int, default=200, help="validation scenes")
    return parser.parse_args()


def main() -> None:
    """Train and save, or only score."""
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    torch.manual_seed(args.seed)
    unseen = VALIDATION_SEEDS[: args.unseen]
    if args.evaluate:
        report(confusion(load_model(args.evaluate), unseen))
        return
    model = load_model(args.init) if args.init else build_model()
    scenes = rendered(TRAIN_SEEDS[args.first : args.first + args.scenes])
    train(model, scenes, args.steps, args.batch, args.rate, args.seed)
    state = round_to_half(model)
    earlier = torch.load(args.init, weights_only=True)["meta"]["steps"] if args.init else 0
    save(args.out, state, report(confusion(model, unseen)), earlier + args.steps)
    print(f"wrote {args.out}, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
