"""Small sources of every kind, each with its project's own way from a picture file to a mask.

mmseg's way is `mmseg.apis.inference_model`, that of ONNX files a few lines of OpenCV and ONNX Runtime, that of Python
files `meta["predict"]`, that of models of other libraries what their documentation shows (equality_libraries.py). Heads
are scaled so that every class occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.parser

from segc.frontend.given import Given
from segc.frontend.mmseg_env import import_mmseg
from segc.runtime.ort import outputs_of
from tests.helpers.tiny_models import source as python_source

Own = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Made:
    """A source on disk. own: the project's own function, from a file to class numbers (H, W).

    fixed: (height, width) of a static engine. dynamic: the sizes are the source's own.
    """

    path: Path | str
    own: Own
    checkpoint: Path | None = None
    given: Given = field(default_factory=Given)
    fixed: tuple[int, int] | None = None
    dynamic: bool = True


@dataclass(frozen=True)
class Kind:
    """name: for the table. make: writes the source to a folder. channels, dtype: of the pictures it is tried on.

    needs: modules without which the source cannot be made.
    """

    name: str
    make: Callable[[Path], Made]
    channels: int = 3
    dtype: type[np.generic] = np.uint8
    needs: tuple[str, ...] = ()


def picture(size: tuple[int, int], channels: int, dtype: type[np.generic], seed: int) -> np.ndarray:
    """Smooth blobs with some noise, the whole range of the type: (H, W), (H, W, 3) or (H, W, 4)."""
    rng = np.random.default_rng(seed)
    planes = [cv2.resize(rng.random((5, 6)), size[::-1], interpolation=cv2.INTER_CUBIC) for _ in range(channels)]
    image = np.stack(planes, 2) + rng.normal(0, 0.03, (*size, channels))
    made = (image.clip(0, 1) * (255 if dtype is np.uint8 else 65535)).astype(dtype)
    return np.ascontiguousarray(made[..., 0] if channels == 1 else made)


_CONFIG = """
import sys; sys.path.insert(0, 'FOLDER')
custom_imports = dict(imports=IMPORTS, allow_failed_imports=False)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder', data_preprocessor=dict(PREPROCESSOR),
    backbone=dict(
        type='ResNet', depth=18, in_channels=CHANNELS, stem_channels=8, base_channels=8, num_stages=2, strides=(1, 2),
        dilations=(1, 1), out_indices=(1,), norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=NUMBER, norm_cfg=norm_cfg,
        HEAD loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=SIGMOID)),
    test_cfg=dict(MODE))
test_pipeline = [dict(type='LoadImageFromFile', LOADER), STEPS dict(type='PackSegInputs')]
test_dataloader = dict(dataset=dict(type='BaseSegDataset', pipeline=test_pipeline))
"""
_RESIZE = "dict(type='Resize', scale=(96, 64), keep_ratio=True),"
_COLOUR = "type='SegDataPreProcessor', mean=[120, 115, 100], std=[58, 57, 56], bgr_to_rgb=True, pad_val=7"
_MODULE = """
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.registry import MODELS


@MODELS.register_module(force=True)
class OfUnitRange(SegDataPreProcessor):
    def forward(self, data, training=False):
        data['inputs'] = [image.float() / 255 for image in data['inputs']]
        return super().forward(data, training)
"""
_LAZY = """
from mmcv.transforms import LoadImageFromFile, Resize
from mmengine.dataset import BaseDataset
from mmseg.datasets import PackSegInputs
from mmseg.models import EncoderDecoder, FCNHead, ResNet, SegDataPreProcessor
from torch.nn import BatchNorm2d

norm_cfg = dict(type=BatchNorm2d)
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, mean=[120, 115, 100], std=[58, 57, 56], bgr_to_rgb=True),
    backbone=dict(
        type=ResNet, depth=18, stem_channels=8, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1,), norm_cfg=norm_cfg),
    decode_head=dict(
        type=FCNHead, in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=4, norm_cfg=norm_cfg),
    test_cfg=dict(mode='whole'))
test_pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 64), keep_ratio=True),
                 dict(type=PackSegInputs)]
test_dataloader = dict(dataset=dict(type=BaseDataset, pipeline=test_pipeline))
"""


def _mmseg(
    channels: int = 3, text: str = _CONFIG, dtype: type[np.generic] = np.uint8, prefix: str = "",
    deepspeed: bool = False, **own: str,
) -> Callable[[Path], Made]:  # fmt: skip
    def make(folder: Path) -> Made:
        values = {"PREPROCESSOR": _COLOUR, "LOADER": "", "STEPS": _RESIZE, "MODE": "mode='whole'",
                  "HEAD": "", "NUMBER": "4", "SIGMOID": "False",
                  "CHANNELS": str(channels), "IMPORTS": "[]", "FOLDER": str(folder), **own}  # fmt: skip
        made = text
        for name, value in values.items():
            made = made.replace(name, value)
        path = folder / "config.py"
        path.write_text(made)
        (folder / "equality_own.py").write_text(_MODULE)
        checkpoint = folder / "weights.pth"
        model = _spread(path, picture((61, 93), channels, dtype, 99), folder, checkpoint, prefix)
        if deepspeed:
            _as_deepspeed(checkpoint)
        return Made(path, lambda file: _inferred(model, file), checkpoint)

    return make


def _as_deepspeed(checkpoint: Path) -> None:
    """Pack the weights as DeepSpeed's engine saves them: under `module`, beside counters."""
    import torch

    read = torch.load(checkpoint, weights_only=True)
    counters = {"ds_config": {"fp16": {"enabled": False}}, "ds_version": "0.17.0", "global_steps": 3}
    torch.save({"module": read["state_dict"], **counters, "meta": read["meta"]}, checkpoint)


def _inferred(model: Any, file: Path) -> np.ndarray:
    from mmseg.apis import inference_model

    mask: np.ndarray = inference_model(model, str(file)).pred_sem_seg.data[0].numpy()
    return mask


def _spread(config: Path, image: np.ndarray, folder: Path, checkpoint: Path, prefix: str) -> Any:
    """mmseg's model with seeded weights, whose logits have mean 0 and deviation 2 on the picture; also saved."""
    import_mmseg()
    import torch
    from mmseg.apis import inference_model, init_model

    from segc.frontend.quiet import quiet

    torch.manual_seed(0)
    with quiet():
        model = init_model(str(config), None, device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    head = model.decode_head.conv_seg
    file = write(image, folder / "spread")

    with torch.no_grad():
        logits = inference_model(model, str(file)).seg_logits.data
        logits = logits.logit() if len(logits) == 1 else logits  # mmseg gives probabilities for one channel
        scale = 2 / logits.std((1, 2)).clamp_min(1e-3)
        head.bias.copy_((head.bias - logits.mean((1, 2))) * scale)
        head.weight.mul_(scale[:, None, None, None])
    palette = [[0, 0, 0], [9, 9, 9], [99, 99, 99], [200, 9, 9]]
    known = model.decode_head.num_classes
    meta = {"dataset_meta": {"classes": tuple("abcd"[:known]), "palette": palette[:known]}}
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in model.state_dict().items()}, "meta": meta}, checkpoint)
    return model


def write(image: np.ndarray, stem: Path) -> Path:
    """The file, in a format that keeps the picture as it is: PNG, or TIFF for other numbers of channels."""
    if image.ndim == 2 or image.shape[2] in (3, 4):
        cv2.imwrite(str(path := stem.with_suffix(".png")), image)
    else:
        import tifffile

        path = stem.with_suffix(".tif")
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
    return path


_NET = """<ir_version: {ir}, opset_import: ["" : {opset}]> g ({x}) => ({y})
    {{ {head} a = Conv<pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x0, w) b = Relu(a)
       s = Conv<kernel_shape = [1, 1]>(b, v, c) {tail} }}"""
_BYTES = "uint8[N,H,W,3] x"
_IN, _OUT = "float[N,3,H,W] x", "float[N,{c},H,W] y"
MEAN, STD = (120.0, 115.0, 100.0), (58.0, 57.0, 56.0)


def _onnx(
    tail: str = "y = Identity(s)", decide: str = "argmax", classes: int = 4, x: str = _IN, y: str = _OUT,
    opset: int = 17, ir: int = 8, half: bool = False, output_name: str | None = None,
) -> Callable[[Path], Made]:  # fmt: skip
    """An ONNX file of two convolutions. decide: how its user reads the output."""

    def make(folder: Path) -> Made:
        head = "x0 = Transpose<perm = [0, 3, 1, 2]>(x)" if "H,W,3" in x else "x0 = Identity(x)"
        if x == _BYTES:
            head = "q = Cast<to = 1>(x) r = Sub(q, m) u = Div(r, d) x0 = Transpose<perm = [0, 3, 1, 2]>(u)"
        text = _NET.format(ir=ir, opset=opset, x=x, y=y.format(c=classes), head=head, tail=tail)
        model = onnx.parser.parse_model(text.replace("float[", "float16[") if half else text)
        weights = {**_weights(classes), "i": np.array([1])}
        if x == _BYTES:
            weights |= {"m": np.array(MEAN, np.float32), "d": np.array(STD, np.float32)}
        for name, values in weights.items():
            kind = np.int64 if name == "i" else np.float16 if half else np.float32
            if f", {name}" not in text:
                continue
            model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(kind), name))
            if ir < 4:  # where initializers are inputs too
                model.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, values.shape))
        path = folder / "net.onnx"
        onnx.save(model, path)
        taken = np.float16 if half else np.uint8 if x == _BYTES else np.float32
        own = lambda file: _by_hand(path, file, decide, taken, "H,W,3" in x)  # noqa: E731
        given = Given(output_name=output_name) if x == _BYTES else Given(mean=MEAN, std=STD, output_name=output_name)
        return Made(path, own, given=given)

    return make


def _weights(classes: int) -> dict[str, np.ndarray]:
    """Seeded weights, with logits of mean 0 on a picture, so that every class occurs."""
    rng = np.random.default_rng(5)
    w = (rng.standard_normal((8, 3, 3, 3)) * 0.3).astype(np.float32)
    v = (rng.standard_normal((classes, 8, 1, 1)) * 0.8).astype(np.float32)
    x = ((picture((40, 50), 3, np.uint8, 99) - np.array(MEAN)) / STD).astype(np.float64)
    views = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))  # (38, 48, 3, 3, 3)
    hidden = np.maximum(np.einsum("hwcij,ocij->hwo", views, w), 0)
    return {"w": w, "v": v, "c": -np.einsum("hwo,co->hwc", hidden, v[..., 0, 0]).mean((0, 1))}


def _by_hand(model: Path, file: Path, decide: str, taken: type[np.generic], channels_last: bool) -> np.ndarray:
    """What the user of an ONNX file writes: read, normalise unless it takes bytes, run, decide."""
    x: np.ndarray = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)[None]
    if taken is not np.uint8:
        x = ((x - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).astype(taken)
    x = x if channels_last else x.transpose(0, 3, 1, 2)
    y = outputs_of(model, {"x": np.ascontiguousarray(x)})["y"][0]
    if decide == "classes":
        mask: np.ndarray = y.squeeze(0) if y.ndim == 3 else y
    elif decide == "above":
        mask = (y[0] if y.ndim == 3 else y) > 0.5
    else:
        mask = y.argmax(2 if decide == "argmax last" else 0)
    return mask.astype(np.int64)


def _onnx_of_bfloat16(folder: Path) -> Made:
    """The file's weights in bfloat16, which it casts to float32."""
    made = _onnx()(folder)
    model = onnx.load(made.path)
    narrow = onnx.TensorProto.BFLOAT16
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.helper.make_tensor(f"{tensor.name}16", narrow, values.shape, values.ravel()))
        name = tensor.name.removesuffix("16")
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    onnx.save(model, made.path)
    return made


_PREDICT = """
import torch
import cv2

torch.manual_seed(0)
conv = torch.nn.Conv2d(CHANNELS, 8, 3, padding=1)
head = torch.nn.Conv2d(8, 4, 1)
torch.nn.init.normal_(head.weight)
model = torch.nn.Sequential(conv, torch.nn.ReLU(), head)


def predict(path):
    image = cv2.imread(path, FLAG)
    small = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    small = small[..., None] if small.ndim == 2 else small[..., ::-1]
    x = torch.from_numpy(small.transpose(2, 0, 1).copy())[None].float()
    y = model(x / 50 - 2)
    y = torch.nn.functional.interpolate(y, size=image.shape[:2], mode="bilinear", align_corners=False)
    return y.argmax(1)[0].numpy().astype("uint8")


meta = dict(shape=(64, 96), resize_scale=(96, 64), keep_ratio=False, predict=predict, mean=[100] * CHANNELS,
            std=[50] * CHANNELS)
"""


def _python(channels: int, flag: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        path = python_source(folder, _PREDICT.replace("CHANNELS", str(channels)).replace("FLAG", flag))
        space: dict[str, Any] = {}
        exec(path.read_text(), space)  # the source itself, as its owner runs it
        return Made(path, lambda file: np.asarray(space["predict"](str(file)), np.int64), dynamic=False)

    return make


_RAW = "color_type='unchanged', to_float32=True"


def _plain(channels: int, mean: float, std: float) -> str:
    return f"type='SegDataPreProcessor', mean=[{mean}] * {channels}, std=[{std}] * {channels}"


MMSEG: Sequence[Kind] = (
    Kind("mmseg: Resize, keeps the ratio", _mmseg()),
    Kind("mmseg: Resize to a size", _mmseg(STEPS="dict(type='Resize', scale=(96, 64), keep_ratio=False),")),
    Kind("mmseg: ResizeToMultiple", _mmseg(STEPS="dict(type='ResizeToMultiple', size_divisor=32),")),
    Kind("mmseg: padded to multiples of 32", _mmseg(PREPROCESSOR=f"{_COLOUR}, test_cfg=dict(size_divisor=32)")),
    Kind("mmseg: slide", _mmseg(STEPS="", MODE="mode='slide', crop_size=(48, 64), stride=(32, 40)")),
    Kind("mmseg: aligned corners", _mmseg(HEAD="align_corners=True,")),
    Kind("mmseg: Python-style config", _mmseg(text=_LAZY)),
    Kind(
        "mmseg: own data preprocessor",
        _mmseg(
            IMPORTS="['equality_own']",
            PREPROCESSOR="type='OfUnitRange', mean=[0.5] * 3, std=[0.25] * 3, bgr_to_rgb=True",
        ),
    ),
    Kind(
        "mmseg: 16 bits",
        _mmseg(dtype=np.uint16, LOADER=_RAW, PREPROCESSOR=_plain(3, 30000, 15000)),
        dtype=np.uint16,
    ),
    Kind("mmseg: grey", _mmseg(1, LOADER="color_type='grayscale'", PREPROCESSOR=_plain(1, 110, 55)), channels=1),
    Kind(
        "mmseg: one channel and a threshold",
        _mmseg(NUMBER="2", SIGMOID="True", HEAD="out_channels=1, threshold=0.4,"),
    ),
    Kind("mmseg: checkpoint of torch.compile", _mmseg(prefix="_orig_mod.")),
    Kind("mmseg: checkpoint of DeepSpeed", _mmseg(deepspeed=True)),
    Kind(
        "mmseg: 16 bits, grey, unchanged",
        _mmseg(1, dtype=np.uint16, LOADER=_RAW, PREPROCESSOR=_plain(1, 30000, 15000)),
        channels=1,
        dtype=np.uint16,
    ),
    Kind(
        "mmseg: six bands of 16 bits",
        _mmseg(6, dtype=np.uint16, LOADER="imdecode_backend='tifffile'", PREPROCESSOR=_plain(6, 30000, 15000)),
        channels=6,
        dtype=np.uint16,
    ),
    Kind("mmseg: four channels", _mmseg(4, LOADER="color_type='unchanged'", PREPROCESSOR=_plain(4, 110, 55)), 4),
)
ONNX: Sequence[Kind] = (
    Kind("ONNX: logits", _onnx()),
    Kind("ONNX: Softmax", _onnx("y = Softmax<axis = 1>(s)")),
    Kind("ONNX: one channel after a Sigmoid", _onnx("y = Sigmoid(s)", "above", 1)),
    Kind("ONNX: class map", _onnx("y = ArgMax<axis = 1, keepdims = 0>(s)", "classes", y="int64[N,H,W] y")),
    Kind("ONNX: class map with a channel", _onnx("y = ArgMax<axis = 1>(s)", "classes", y="int64[N,1,H,W] y")),
    Kind(
        "ONNX: channels last, in and out",
        _onnx("y = Transpose<perm = [0, 2, 3, 1]>(s)", "argmax last", x="float[N,H,W,3] x", y="float[N,H,W,{c}] y"),
    ),
    Kind("ONNX: takes bytes, channels last", _onnx(x=_BYTES)),
    Kind(
        "ONNX: foreground without channels", _onnx("e = Squeeze(s, i) y = Sigmoid(e)", "above", 1, y="float[N,H,W] y")
    ),
    Kind("ONNX: float16", _onnx(half=True)),
    Kind("ONNX: weights in bfloat16", _onnx_of_bfloat16),
    Kind("ONNX: opset 7, IR 3", _onnx(opset=7, ir=3)),
    Kind(
        "ONNX: side output first",
        _onnx("z = Sigmoid(s) y = Identity(s)", y="float[N,{c},H,W] z, float[N,{c},H,W] y", output_name="y"),
    ),
)
PYTHON: Sequence[Kind] = (
    Kind("Python: predict of colour images", _python(3, "1")),
    Kind("Python: predict of grey images", _python(1, "0"), channels=1),
)
KINDS = (*MMSEG, *ONNX, *PYTHON)
