"""Small models of other libraries, each with what the library's documentation shows for a mask of a picture file.

Nothing here uses segc: the functions are the reference of tools/equality.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segc.frontend import torchvision_import
from tests.helpers.equality_sources import Kind, Made, picture, write

_SMP_SIZE = (96, 128)


def _spread(run: Callable[[], Any], head: Any, added: Any = None) -> None:
    """Scale and shift a head's last convolution so that its logits have mean 0 and deviation 2 on a picture.

    added: another one, whose result is added to the logits.
    """
    import torch

    with torch.no_grad():
        logits = run()[0]
        scale = 2 / logits.std((1, 2)).clamp_min(1e-6)
        if head.bias is None:
            head.bias = torch.nn.Parameter(torch.zeros(len(logits)))
        head.bias.copy_((head.bias - logits.mean((1, 2))) * scale)
        head.weight.mul_(scale[:, None, None, None])
        if added is not None:
            added.bias.mul_(scale)
            added.weight.mul_(scale[:, None, None, None])


def _hf(model: str, narrow: str | None = None) -> Callable[[Path], Made]:
    """A folder that save_pretrained wrote, in half precision if `narrow` names it; run in float32."""

    def make(folder: Path) -> Made:
        torchvision_import.prepare()
        import torch
        from PIL import Image

        from tests.helpers.hf_models import MADE

        made, config, processor = MADE[model]()
        torch.manual_seed(0)
        network = made._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
        example = Image.open(write(picture((61, 93), 3, np.uint8, 99), folder / "spread"))
        inputs = processor(images=example, return_tensors="pt")
        _spread(lambda: network(**inputs).logits, network.decode_head.classifier)
        path = folder / "saved"
        (network.to(getattr(torch, narrow)) if narrow else network).save_pretrained(path)
        processor.save_pretrained(path)
        network = made.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

        def own(file: Path) -> np.ndarray:
            image = Image.open(file).convert("RGB")
            with torch.no_grad():
                outputs = network(**processor(images=image, return_tensors="pt"))
            (mask,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(image.height, image.width)])
            return np.asarray(mask.numpy(), np.int64)

        return Made(f"hf:{path}", own)

    return make


def _smp(folder: Path) -> Made:
    """Images are resized by OpenCV, prepared by smp, and the logits resized back, as smp's examples do."""
    torchvision_import.prepare()
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, classes=4).eval()
    mean, std = (np.array(values, np.float32) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def logits(image: np.ndarray) -> Any:
        small = cv2.cvtColor(cv2.resize(image, _SMP_SIZE[::-1]), cv2.COLOR_BGR2RGB)
        return network(torch.from_numpy(((small / np.float32(255) - mean) / std).transpose(2, 0, 1)[None].copy()))

    example = picture((61, 93), 3, np.uint8, 99)
    _spread(lambda: logits(example), network.segmentation_head[0])
    torch.save(network.state_dict(), checkpoint := folder / "weights.pth")

    def own(file: Path) -> np.ndarray:
        image = cv2.imread(str(file))
        with torch.no_grad():
            made = torch.nn.functional.interpolate(logits(image), size=image.shape[:2], mode="bilinear")
        return np.asarray(made.argmax(1)[0].numpy(), np.int64)

    return Made("smp:unet/resnet18", own, checkpoint, fixed=_SMP_SIZE, dynamic=False)


def _torchvision(folder: Path) -> Made:
    """Pillow, the transforms of the published weights, and the logits resized to the picture."""
    torchvision_import.prepare()
    import torch
    from PIL import Image
    from torchvision.models import segmentation

    torch.manual_seed(0)
    prepare = segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT.transforms()
    network = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()

    def logits(image: Any) -> Any:
        return network(prepare(image)[None])["out"]

    example = Image.open(write(picture((61, 93), 3, np.uint8, 99), folder / "spread"))
    _spread(lambda: logits(example), network.classifier.low_classifier, network.classifier.high_classifier)
    torch.save(network.state_dict(), checkpoint := folder / "weights.pth")

    def own(file: Path) -> np.ndarray:
        image = Image.open(file).convert("RGB")
        with torch.no_grad():
            made = torch.nn.functional.interpolate(logits(image), size=(image.height, image.width), mode="bilinear")
        return np.asarray(made.argmax(1)[0].numpy(), np.int64)

    return Made("torchvision:lraspp_mobilenet_v3_large", own, checkpoint)


_TRANSFORMERS = ("transformers",)
LIBRARIES: Sequence[Kind] = (
    Kind("transformers: SegFormer", _hf("segformer"), needs=_TRANSFORMERS),
    Kind("transformers: SegFormer, saved in bfloat16", _hf("segformer", "bfloat16"), needs=_TRANSFORMERS),
    Kind("segmentation-models-pytorch: U-Net", _smp, needs=("segmentation_models_pytorch",)),
    Kind("torchvision: LR-ASPP", _torchvision, needs=("torchvision",)),
)
