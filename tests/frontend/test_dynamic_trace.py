"""Dynamic traces: remainders that the given size has not, and batches that cannot be symbols."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import segc
from segc.errors import CompileError, ShapeError
from segc.frontend.trace import ONE_BY_ONE, trace
from segc.graph import ir
from tests.helpers.run_graph import run


class Padding(nn.Module):
    """Pads to multiples of eight only where there is a remainder, as patch embeddings do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        bottom, right = -height % 8, -width % 8
        if bottom > 0 or right > 0:
            x = F.pad(x, (0, right, 0, bottom))
        return F.avg_pool2d(x, 8)


class PerImage(nn.Module):
    """Convolves every image with a filter of its own, as DMNet does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        kernels = F.adaptive_avg_pool2d(x, 3).reshape(batch * channels, 1, 3, 3)
        y = F.conv2d(x.reshape(1, batch * channels, height, width), kernels, padding=1, groups=batch * channels)
        return y.reshape(batch, channels, height, width)


class Choosy(Padding):
    """Takes multiples of four only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError("sides divide by four")
        return super().forward(x)


@pytest.mark.parametrize(("model", "sizes"), [(Padding(), [(64, 64), (65, 80), (71, 93)]), (Choosy(), [(32, 36)])])
def test_a_branch_for_remainders_is_traced_at_a_size_without_one(
    model: nn.Module, sizes: list[tuple[int, int]]
) -> None:
    graph = ir.from_model(trace(model, (1, 3, 64, 64), opset=20, dynamic=True).model)
    for size in sizes:
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(torch.from_numpy(run(graph, {"input": x.numpy()})[0]), model(x))


def test_a_batch_that_cannot_be_a_symbol_stays_one_and_a_note_says_so() -> None:
    traced = trace(PerImage(), (1, 4, 16, 16), opset=20, dynamic=True)
    assert traced.notes == (ONE_BY_ONE,)
    graph = ir.from_model(traced.model)
    assert list(graph.inputs[0].shape) == [1, 4, "H", "W"]
    assert [n.attrs["group"] for n in graph.nodes if n.op == "Conv"] == [4]
    x = torch.randn(1, 4, 9, 22)
    torch.testing.assert_close(torch.from_numpy(run(graph, {"input": x.numpy()})[0]), PerImage()(x))


def test_what_no_batch_lets_trace_is_reported_as_before() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CompileError, match="with dynamic batch and size"):
        trace(Stubborn(), (1, 3, 8, 8), opset=20, dynamic=True)


def test_a_bundle_of_one_image_runs_any_batch(tmp_path: Path) -> None:
    source = tmp_path / "per_image.py"
    source.write_text(
        "import torch, torch.nn.functional as F\nfrom torch import nn\n\n\n"
        "class PerImage(nn.Module):\n"
        "    def forward(self, x):\n"
        "        n, c, h, w = x.shape\n"
        "        kernels = F.adaptive_avg_pool2d(x, 3).reshape(n * c, 1, 3, 3)\n"
        "        y = F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n * c)\n"
        "        return y.reshape(n, c, h, w)\n\n\nmodel = PerImage()\n"
    )
    bundle = segc.compile(source, dynamic=True, trace_shape=(32, 32), out=tmp_path / "bundle")
    assert ONE_BY_ONE in bundle.report["notes"]
    assert bundle.manifest.input.shape == (1, 3, None, None)
    x = torch.randn(3, 3, 41, 27)
    y = segc.load(bundle.path).run(x.numpy())["logits"]
    torch.testing.assert_close(torch.from_numpy(y), PerImage()(x))


@pytest.mark.parametrize(
    ("traced", "unseen"), [((64, 96), {(81, 121), (121, 81)}), ((256, 64), {(161, 81), (81, 161)})]
)
def test_a_dynamic_bundle_is_verified_at_sizes_it_was_not_traced_at(
    tmp_path: Path, traced: tuple[int, int], unseen: set[tuple[int, int]]
) -> None:
    source = tmp_path / "conv.py"
    source.write_text("from torch import nn\n\nmodel = nn.Conv2d(3, 2, 3, padding=1)\n")
    bundle = segc.compile(source, dynamic=True, trace_shape=traced, out=tmp_path / "bundle")
    shapes = {tuple(case["shape"]) for case in bundle.report["parity"]["cases"]}
    assert {shape[2:] for shape in shapes} == {traced, *unseen}
    assert {shape[0] for shape in shapes} == {1, 2}


def test_a_size_below_the_declared_range_is_refused_with_the_range(tmp_path: Path) -> None:
    source = tmp_path / "conv.py"
    source.write_text("from torch import nn\n\nmodel = nn.Conv2d(3, 2, 3, padding=1)\n")
    bundle = segc.compile(source, dynamic=True, trace_shape=(64, 64), verify=False, out=tmp_path / "bundle")
    least = bundle.manifest.input.limits(2)[0]
    with pytest.raises(ShapeError, match=f"it takes {least} and more pixels"):
        segc.load(bundle.path).run(torch.zeros(1, 3, least - 1, 64).numpy())


class Squares(nn.Module):
    """Takes the root of the number of places for both sides, as transformers' DPT does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.avg_pool2d(x, 8).flatten(2)
        side = int(y.shape[2] ** 0.5)
        return y.reshape(*y.shape[:2], side, side)


def test_a_model_of_squares_is_refused_where_sizes_change() -> None:
    with pytest.raises(ShapeError, match=r"(?s)takes squares only.*at 64x128"):
        trace(Squares(), (1, 3, 64, 64), opset=17, dynamic=True)
    trace(Squares(), (1, 3, 64, 64), opset=17)
