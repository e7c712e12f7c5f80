"""Graphs that segc's front end has not made, through `segc opt`: the same numbers, never more nodes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from segc import targets
from segc.commands import optimize
from segc.passes.support import evaluate
from segc.pipeline import first_difference

DEEP = 2e-4  # relative error of outputs after BatchNorm is folded into dozens of layers


def agree(source: Path, folder: Path, *sizes: tuple[int, int], **options: Any) -> optimize.Optimized:
    """Optimize, and compare file with file on random inputs of these sizes (as large as rounding alone, at least)."""
    out = folder / "out.onnx"
    outcome = optimize.optimize(source, out=out, force=True, **options)
    before, after = optimize.read(source), optimize.read(out)
    onnx.checker.check_model(str(out), full_check=True)
    assert len(after.nodes) <= len(before.nodes)
    for height, width in sizes:
        feeds = {t.name: evaluate.random_array(t.name, t.dtype, sized(t.shape, height, width)) for t in before.inputs}
        want, got = evaluate.outputs(before, feeds), evaluate.outputs(after, feeds)
        limit = max(DEEP, 20 * first_difference.rounding(first_difference.Snapshot.of(before), feeds, want))
        assert evaluate.relative_error(want, got) <= limit
    return outcome


def sized(shape: Any, height: int, width: int) -> list[int]:
    known = (1, 3, height, width)
    return [s if isinstance(s, int) else known[at] for at, s in enumerate(shape)]


def every_target(source: Path, folder: Path, size: tuple[int, int]) -> None:
    for name in targets.names():
        if not targets.get(name).legalize:  # a legalization may need more nodes
            agree(source, folder, size, target=name, shape=size)


# --- nets in plain torch, by the plain exporter -----------------------------------------------------------------------


def mobile_net(torch: Any) -> Any:
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, cin: int, cout: int, stride: int) -> None:
            super().__init__()
            wide = cin * 3
            self.body = nn.Sequential(
                nn.Conv2d(cin, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
                nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            )  # fmt: skip
            self.gate = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.ReLU(), nn.Conv2d(4, wide, 1), nn.Hardsigmoid()
            )
            self.out = nn.Sequential(nn.Conv2d(wide, cout, 1, bias=False), nn.BatchNorm2d(cout))
            self.same = cin == cout and stride == 1

        def forward(self, x: Any) -> Any:
            y = self.body(x)
            y = self.out(y * self.gate(y))
            return x + y if self.same else y

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU(), Block(8, 8, 1), Block(8, 12, 2),
        Block(12, 12, 1), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10), nn.Softmax(-1),
    )  # fmt: skip


def u_net(torch: Any) -> Any:
    nn = torch.nn

    def double(cin: int, cout: int) -> Any:
        one = [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1)]
        return nn.Sequential(*one, nn.Conv2d(cout, cout, 3, padding=1), nn.GroupNorm(2, cout), nn.ELU())

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([double(3, 8), double(8, 16), double(16, 16)])
            self.up = nn.ModuleList([nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
            self.norm = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(8)])
            self.join = nn.ModuleList([double(32, 16), double(16, 8)])
            self.head = nn.Conv2d(8, 2, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for at, stage in enumerate(self.down):
                x = stage(torch.nn.functional.max_pool2d(x, 2) if at else x)
                kept.append(x)
            for at, (up, norm, join) in enumerate(zip(self.up, self.norm, self.join, strict=True)):
                x, skip = norm(up(x)), kept[1 - at]
                short = [skip.shape[i] - x.shape[i] for i in (2, 3)]
                x = torch.nn.functional.pad(x, [0, short[1], 0, short[0]])
                x = join(torch.cat([skip, x], 1))
            return self.head(x), torch.sigmoid(kept[-1])

    return UNet()


def vit(torch: Any) -> Any:
    nn = torch.nn

    class ViT(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 24, 4, 4)
            self.place = nn.Parameter(torch.randn(1, 24, 4, 4))
            options = {"activation": "gelu", "batch_first": True, "norm_first": True}
            self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(24, 3, 48, **options) for _ in range(2)])
            self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 5)

        def forward(self, x: Any) -> Any:
            x = self.patch(x)
            size = x.shape[-2:]
            x = x + torch.nn.functional.interpolate(self.place, size, mode="bicubic")
            x = x.flatten(2).transpose(1, 2)
            for block in self.blocks:
                x = block(x)
            x = self.head(self.norm(x)).transpose(1, 2).unflatten(2, size)
            return torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear")

    return ViT()


def aspp(torch: Any) -> Any:
    nn = torch.nn

    class Aspp(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 12, 3, 2), nn.BatchNorm2d(12), nn.PReLU(12))
            self.arms = nn.ModuleList(
                [nn.Sequential(nn.Conv2d(12, 6, 3, padding=d, dilation=d, bias=False), nn.BatchNorm2d(6), nn.ReLU())
                 for d in (1, 2, 3)]
            )  # fmt: skip
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU())
            self.head = nn.Sequential(nn.Conv2d(24, 8, 1), nn.Dropout2d(), nn.Conv2d(8, 4, 1))

        def forward(self, x: Any) -> Any:
            size = x.shape[-2:]
            x = self.stem(x)
            pooled = torch.nn.functional.interpolate(self.pool(x), x.shape[-2:], mode="bilinear")
            x = self.head(torch.cat([*(arm(x) for arm in self.arms), pooled], 1))
            return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=True).softmax(1)

    return Aspp()


@pytest.mark.parametrize("build", [mobile_net, u_net, vit, aspp], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_nets_in_plain_torch(build: Any, dynamic: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = build(torch).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    size, other = (32, 48), (64, 32)
    shapes = None
    if dynamic:
        step = 4 if build is vit else 1
        side = [torch.export.Dim(name, min=2, max=64) for name in ("h", "w")]
        shapes = (
            ({2: step * side[0], 3: step * side[1]},)
            if step > 1
            else ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
        )
    path = tmp_path / "net.onnx"
    x = torch.zeros(1, 3, *size)
    torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, external_data=False)
    agree(path, tmp_path, size, *([other] if dynamic else []), check=True, shape=size)
    every_target(path, tmp_path, size)


# --- files that packages ship -----------------------------------------------------------------------------------------


def shipped(name: str) -> Path:
    """A file of the rapidocr-onnxruntime wheel, without importing that package."""
    found = importlib.util.find_spec("rapidocr_onnxruntime")
    if found is None or found.origin is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    return Path(found.origin).parent / "models" / name


def test_a_text_detector_of_paddle(tmp_path: Path) -> None:
    """330 nodes of opset 12 or so by paddle2onnx, sizes of -1, outputs far below 1 behind a Sigmoid."""
    source = shipped("ch_PP-OCRv4_det_infer.onnx")
    outcome = agree(source, tmp_path, (64, 96), (160, 128), check=True)
    assert len(outcome.graph.nodes) < 0.85 * outcome.nodes_before
    every_target(source, tmp_path, (96, 64))


def test_a_text_recogniser_of_paddle(tmp_path: Path) -> None:
    source = shipped("ch_PP-OCRv4_rec_infer.onnx")
    outcome = agree(source, tmp_path, (48, 64), (48, 100), check=True, shape=(48, 64))
    assert len(outcome.graph.nodes) < 0.85 * outcome.nodes_before


def test_a_classifier_of_paddle(tmp_path: Path) -> None:
    agree(shipped("ch_ppocr_mobile_v2.0_cls_infer.onnx"), tmp_path, (48, 192), check=True, shape=(48, 192))


def test_the_numbers_are_those_of_the_file_itself_too(tmp_path: Path) -> None:
    """Not only those of segc's import: ONNX Runtime on both files, with its own optimisations."""
    import onnxruntime

    source, out = shipped("ch_PP-OCRv4_det_infer.onnx"), tmp_path / "out.onnx"
    optimize.optimize(source, out=out)
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    values = []
    for path in (source, out):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        values.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    assert evaluate.relative_error({"y": values[0]}, {"y": values[1]}) < DEEP
