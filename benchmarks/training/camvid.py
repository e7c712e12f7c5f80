"""Train light families of mmseg's zoo on CamVid, on a CPU or a GPU, for measuring what int8 costs trained weights.

    python benchmarks/training/camvid.py --data CAMVID --net stdc1 --minutes 20
    python benchmarks/training/camvid.py --data CAMVID --net icnet --init bisenetv1.pth --take backbone.context_path.

CAMVID holds `train/images/*.jpg` and `train/labels/*.png` (class numbers; other numbers are ignored). Weights and
configs lie in --cache (~/.cache/segc-training): NET_camvid.pth and NET_camvid.py, a SOURCE and a --checkpoint of
`segc compile` at any time, since both are written every --every steps; NET_camvid.state is what a stopped training goes
on from with the same command. The schedule ends after --steps or --minutes of processor time, whichever
is first; `segc val` judges.

Weights pretrained on ImageNet are not used. What makes short trainings from scratch learn: decoded images in memory,
crops of 240x320 at several scales, AdamW with one cycle, weights for rare classes, bfloat16 where the processor has it.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from segc.frontend.mmseg_env import config_root, import_mmseg
from segc.frontend.quiet import quiet

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
SIZE = (360, 480)  # of the images: height, width
IGNORED = 255
AUXILIARY_WEIGHT = 0.4
# Net: the config of mmseg's zoo, below its folder of configs.
NETS = {
    "stdc1": "stdc/stdc1_4xb12-80k_cityscapes-512x1024.py",
    "bisenetv2": "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py",
    "ddrnet": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py",
    "pidnet": "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
    "erfnet": "erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py",
    "cgnet": "cgnet/cgnet_fcn_4xb8-60k_cityscapes-512x1024.py",
    "icnet": "icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py",
    "deeplabv3plus": "deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py",
    "pspnet": "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py",
}
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Schedule:
    """One cycle: the rate rises to `peak` and falls to nothing at `steps` or after `seconds`, whichever is first."""

    peak: float
    steps: int
    seconds: float

    def done(self, step: int, seconds: float) -> float:
        """The share of the training that lies behind, 0 to 1."""
        return min(1.0, max(step / self.steps, seconds / self.seconds))

    def rate(self, done: float) -> float:
        """The learning rate at a share of the training: up for 15 %, then down along a cosine."""
        if done < 0.15:
            return self.peak * (0.04 + 0.96 * done / 0.15)
        return self.peak * max(1e-3, 0.5 * (1 + math.cos(math.pi * (done - 0.15) / 0.85)))


# ---------------------------------------------------------------------------------------------------------------- model


def config_of(net: str) -> Any:
    """The zoo's config with CamVid's classes, without pretrained weights and Cityscapes' class weights."""
    import_mmseg()
    from mmengine.config import Config

    root = config_root()
    assert root is not None
    config = Config.fromfile(str(root / NETS[net]))
    model = _for_camvid(config.model.to_dict())
    model["data_preprocessor"]["size"] = SIZE
    steps = [{"type": name} for name in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")]
    return Config({"default_scope": "mmseg", "crop_size": SIZE, "model": model, "test_pipeline": steps})


def _for_camvid(part: Any) -> Any:
    """A part of the config, changed."""
    if isinstance(part, list | tuple):
        return type(part)(_for_camvid(one) for one in part)
    if not isinstance(part, dict):
        return part
    kept = {key: _for_camvid(value) for key, value in part.items() if key not in ("class_weight", "sampler")}
    if kept.get("num_classes") == 19:
        kept["num_classes"] = len(CLASSES)
    for key in ("init_cfg", "pretrained"):
        if key in kept:
            kept[key] = None
    return kept


def build_model(config: Any) -> nn.Module:
    """The config's model with BatchNorm for SyncBN and mmseg's own initial weights."""
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        model: nn.Module = MODELS.build(config.model)
        model.init_weights()
        return revert_sync_batchnorm(model)


def start_from(model: nn.Module, checkpoint: Path, prefix: str) -> int:
    """Copy weights of another net into layers whose names end alike and have their shapes; how many tensors.

    prefix: what precedes those names in the checkpoint, such as 'backbone.context_path.'.
    """
    given = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    own, count = model.state_dict(), 0
    for name, value in given.items():
        ending = name.removeprefix(prefix)
        fits = [mine for mine in own if f".{mine}".endswith(f".{ending}") and own[mine].shape == value.shape]
        if name.startswith(prefix) and len(fits) == 1:
            own[fits[0]].copy_(value.float() if value.is_floating_point() else value)
            count += 1
    return count


# ----------------------------------------------------------------------------------------------------------------- data


def read_split(folder: Path) -> tuple[list[Image], list[Image]]:
    """Images (BGR) and labels of one split, decoded; labels that are no class become IGNORED."""
    images, labels = [], []
    for path in sorted((folder / "images").iterdir()):
        image = cv2.imread(str(path))
        label = cv2.imread(str(folder / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        if image is None or label is None:
            raise SystemExit(f"{path}: the image or its label cannot be read")
        images.append(np.asarray(image, np.uint8))
        labels.append(np.where(label < len(CLASSES), label, IGNORED).astype(np.uint8))
    return images, labels


def class_weights(labels: list[Image]) -> Tensor:
    """float32 (C,): the root of the inverse frequency, with mean 1 over classes and at most 3."""
    counts = sum(np.bincount(label.ravel(), minlength=256)[: len(CLASSES)] for label in labels)
    weights = 1 / np.sqrt(np.maximum(counts, 1) / np.sum(counts))
    return torch.from_numpy(np.minimum(weights / weights.mean(), 3).astype(np.float32))


def augmented(rng: np.random.Generator, image: Image, label: Image, crop: tuple[int, int]) -> tuple[Image, Image]:
    """A crop of (height, width) at 0.6 to 1.3 times the size, mirrored or not, with other colours."""
    scale = rng.uniform(0.6, 1.3)
    (height, width), (rows, columns) = label.shape, crop
    left = rng.uniform(min(0, width * scale - columns), max(0, width * scale - columns))
    top = rng.uniform(min(0, height * scale - rows), max(0, height * scale - rows))
    move = np.array([[scale, 0, -left], [0, scale, -top]], np.float64)
    if rng.random() < 0.5:
        move[0] = (-scale, 0, width * scale - 1 - left)
    size = (columns, rows)
    image = np.asarray(cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)
    label = np.asarray(
        cv2.warpAffine(label, move, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORED),
        np.uint8,
    )
    ramp = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.7, 1.4)
    curve = ramp * rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3) + rng.uniform(-0.05, 0.05)
    table = np.clip(curve * 255, 0, 255).astype(np.uint8)[:, None]
    return np.asarray(cv2.LUT(image, table), np.uint8), label


def batches(
    images: list[Image], labels: list[Image], size: int, crop: tuple[int, int], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (images uint8 (N, 3, H, W) BGR, labels int64 (N, H, W)), every image once before any comes again."""
    rng = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += rng.permutation(len(images)).tolist()
        chosen = [augmented(rng, images[at], labels[at], crop) for at in (queue.pop(0) for _ in range(size))]
        x = np.ascontiguousarray(np.stack([image for image, _ in chosen]).transpose(0, 3, 1, 2))
        yield torch.from_numpy(x), torch.from_numpy(np.stack([label for _, label in chosen]).astype(np.int64))


# ------------------------------------------------------------------------------------------------------------- training


def logits_of(model: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Class logits of the decode head and of the auxiliary heads, float (N, C, h, w), for uint8 BGR images.

    A head that answers something else than classes (edges) teaches nothing here.
    """
    prepared = model.data_preprocessor
    x = (images[:, [2, 1, 0]].float() - prepared.mean) / prepared.std
    features = model.extract_feat(x.contiguous(memory_format=torch.channels_last))
    main = model.decode_head(features)
    heads = getattr(model, "auxiliary_head", [])
    extra = [head(features) for head in (heads if isinstance(heads, nn.ModuleList | list) else [heads])]
    main = list(main) if isinstance(main, list | tuple) else [main]
    return [y for y in main if y.shape[1] == len(CLASSES)], [y for y in extra if y.shape[1] == len(CLASSES)]


def loss_of(model: Any, images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross entropy; heads but the last main one at a quarter of the size."""
    with torch.autocast(images.device.type, torch.bfloat16):
        main, extra = logits_of(model, images)
    half, coarse = labels[:, 1::2, 1::2], labels[:, 2::4, 2::4]
    loss = _cross_entropy(main[-1], half, weights)
    for y in (*main[:-1], *extra):
        loss = loss + AUXILIARY_WEIGHT * _cross_entropy(y, coarse, weights)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    sized = functional.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    return functional.cross_entropy(sized, labels, weight=weights, ignore_index=IGNORED)


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}])


class Training:
    """One net's training: what is learnt, and what it goes on from."""

    def __init__(self, net: str, cache: Path, schedule: Schedule, device: str) -> None:
        self.config, self.schedule, self.device = config_of(net), schedule, device
        self.model = build_model(self.config).to(device, memory_format=torch.channels_last)
        self.optimiser = optimiser_of(self.model)
        self.step, self.seconds = 0, 0.0
        self.weights, self.source = cache / f"{net}_camvid.pth", cache / f"{net}_camvid.py"
        self.state = cache / f"{net}_camvid.state"

    def resume(self) -> bool:
        """Go on from the state file, where there is one."""
        if not self.state.exists():
            return False
        kept = torch.load(self.state, map_location=self.device, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.step, self.seconds = kept["step"], kept["seconds"]
        return True

    def save(self) -> None:
        """Write state, weights and config; each appears whole."""
        _write(self.state, {
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds,
        })  # fmt: skip
        palette = [[37 * at % 256, 101 * at % 256, 173 * at % 256] for at in range(len(CLASSES))]
        about = {"dataset_meta": {"classes": list(CLASSES), "palette": palette}, "steps": self.step}
        _write(self.weights, {"state_dict": {k: v.contiguous() for k, v in self.model.state_dict().items()},
                              "meta": about})  # fmt: skip
        self.source.write_text(self.config.pretty_text)

    def run(self, images: list[Image], labels: list[Image], batch: int, crop: tuple[int, int], every: int) -> None:
        """Train to the end of the schedule; print the loss and save every `every` steps."""
        weights, total, start = class_weights(labels).to(self.device), 0.0, time.process_time() - self.seconds
        self.model.train()
        for x, y in batches(images, labels, batch, crop, seed=self.step):
            done = self.schedule.done(self.step, self.seconds)
            if done >= 1:
                break
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule.rate(done)
            loss = loss_of(self.model, x.to(self.device), y.to(self.device), weights)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimiser.step()
            self.step, self.seconds = self.step + 1, time.process_time() - start
            total += float(loss.detach())
            if self.step % every == 0:
                print(f"step {self.step}  {done:.0%}  loss {total / every:.3f}  {self.seconds:.0f} s", flush=True)
                total = 0.0
                self.save()
        self.save()


def _write(path: Path, value: object) -> None:
    part = path.with_name(f".{path.name}.part")
    torch.save(value, part)
    part.replace(path)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="CAMVID")
    parser.add_argument("--net", required=True, choices=sorted(NETS))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/segc-training").expanduser())
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="start from these weights where they fit")
    parser.add_argument("--take", default="", metavar="PREFIX", help="of --init, only names that begin so, without it")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=60.0, help="of processor time")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", default="240x320", metavar="HxW")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--every", type=int, default=50, help="steps between two saves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Train one net, from scratch or from where it was stopped."""
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    torch.manual_seed(args.seed)
    args.cache.mkdir(parents=True, exist_ok=True)
    training = Training(args.net, args.cache, Schedule(args.rate, args.steps, args.minutes * 60), args.device)
    if training.resume():
        print(f"goes on after step {training.step}", flush=True)
    elif args.init:
        print(f"{start_from(training.model, args.init, args.take)} tensors of {args.init}", flush=True)
    height, _, width = args.crop.partition("x")
    images, labels = read_split(args.data / "train")
    training.run(images, labels, args.batch, (int(height), int(width)), args.every)
    print(f"wrote {training.weights} and {training.source}", flush=True)


if __name__ == "__main__":
    main()
