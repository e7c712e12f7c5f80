"""Tracing with torch.export: what the graph keeps, what is undone afterwards, and whose line is named on failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import segc as package
from segc.errors import CompileError, ShapeError
from segc.frontend.rewrites import table
from segc.frontend.trace import accepts, dynamic_limits, trace
from segc.graph import dialect, ir, source_info
from tests.helpers.calls import refused, segc
from tests.helpers.run_graph import run
from tests.helpers.tiny_models import NET, changed, source


class Pooled(nn.Module):
    """Both ways to the pool, one with a side kept."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(self.pool(x), size=x.shape[2:], mode="nearest")
        return x + y + F.adaptive_avg_pool2d(x, (1, None))


class Stubborn(nn.Module):
    """Eager runs it, torch.export cannot: the flow depends on values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if F.adaptive_avg_pool2d(x, 1).sum() > 0:
            return x
        return -x


class Halving(nn.Module):
    """Takes sizes that divide by four."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(F.max_pool2d(F.max_pool2d(x, 2), 2), scale_factor=4.0)
        return x + y


@pytest.mark.parametrize("dynamic", [False, True])
def test_adaptive_pools_stay_whole_and_compute_what_torch_computes(dynamic: bool) -> None:
    traced = trace(Pooled(), (1, 3, 11, 13), opset=20, dynamic=dynamic)
    pools = [n for n in traced.model.graph.node if (n.domain, n.op_type) == ("segc", "AdaptiveAvgPool2d")]
    assert [list(n.attribute[0].ints) for n in pools] == [[3, 2], [1, -1 if dynamic else 13]]
    assert traced.rewrites == ("adaptive-avg-pool",)
    graph = ir.from_model(traced.model)
    for shape in [(2, 3, 7, 19), (1, 3, 11, 13)] if dynamic else [(1, 3, 11, 13)]:
        x = torch.randn(shape)
        torch.testing.assert_close(torch.from_numpy(run(graph, {"input": x.numpy()})[0]), Pooled()(x))


def test_a_static_graph_has_numbers_and_a_dynamic_one_n_h_w() -> None:
    def dims(dynamic: bool) -> list[int | str]:
        graph = ir.from_model(trace(nn.Conv2d(3, 2, 1), (1, 3, 8, 9), opset=20, dynamic=dynamic).model)
        assert [graph.inputs[0].name, graph.outputs[0].name] == ["input", "logits"]
        return list(graph.inputs[0].shape)

    assert dims(dynamic=False) == [1, 3, 8, 9]
    assert dims(dynamic=True) == ["N", 3, "H", "W"]


def test_a_dynamic_graph_is_not_bound_to_the_size_it_was_traced_at(tmp_path: Path) -> None:
    graph = ir.from_model(trace(Pooled(), (1, 3, 16, 16), opset=20, dynamic=True).model)
    for shape in [(1, 3, 5, 31), (3, 3, 40, 2)]:
        x = torch.randn(shape)
        torch.testing.assert_close(torch.from_numpy(run(graph, {"input": x.numpy()})[0]), Pooled()(x))


@pytest.mark.parametrize("model", [Pooled(), Stubborn()], ids=["traces", "fails"])
def test_rewrites_are_undone_whether_tracing_succeeds_or_fails(model: nn.Module) -> None:
    before = [dict(vars(r.place() or object)).get(r.attribute) for r in table.REWRITES]
    try:
        trace(model, (1, 3, 8, 8), opset=20)
    except CompileError:
        assert isinstance(model, Stubborn)
    assert [dict(vars(r.place() or object)).get(r.attribute) for r in table.REWRITES] == before


def test_nodes_know_the_line_and_the_module_they_come_from() -> None:
    graph = ir.from_model(trace(nn.Sequential(Pooled()), (1, 3, 8, 8), opset=20).model)
    pool = next(n for n in graph.nodes if n.domain == dialect.DOMAIN)
    assert re.search(r"test_trace\.py:\d+ forward", source_info.of(pool).source)


def test_the_users_line_is_named_when_tracing_fails() -> None:
    with pytest.raises(CompileError) as caught:
        trace(Stubborn(), (1, 3, 8, 8), opset=20)
    text = str(caught.value)
    assert re.search(r"from +\S*test_trace\.py:\d+ forward", text)
    assert "data-dependent" in text and "eager PyTorch runs the model at this shape" in text
    with pytest.raises(CompileError, match="a fixed --shape instead of --dynamic"):
        trace(Stubborn(), (1, 3, 8, 8), opset=20, dynamic=True)


def test_a_model_that_cannot_be_traced_is_reported_through_the_command_line(tmp_path: Path) -> None:
    text = changed("y = self.head(", "x = x if x.sum() > 0 else -x\n        y = self.head(")
    result = segc("compile", source(tmp_path, text), "--shape", "16x16", "-o", tmp_path / "b")
    refused(result, CompileError.exit_code, "torch.export failed at 16x16", "net.py:15 forward", "traceable")
    assert "GraphModule" not in result.err


def test_a_shape_the_model_rejects_is_answered_with_those_it_takes(tmp_path: Path) -> None:
    with pytest.raises(ShapeError) as caught:
        trace(Halving(), (1, 3, 9, 10), opset=20)
    assert "does not run at 9x10" in str(caught.value)
    assert "it accepts 8x8 and 12x12" in str(caught.value)


def test_a_shape_that_is_too_small_says_so(tmp_path: Path) -> None:
    text = changed("self.conv(x)", "self.conv(F.max_pool2d(x, 8))")
    result = segc("compile", source(tmp_path, text), "--shape", "4x4", "-o", tmp_path / "b")
    refused(result, ShapeError.exit_code, "does not run at 4x4", "too small", "net.py:15 forward", "it accepts 8x8")
    assert not (tmp_path / "b").exists()


def test_dynamic_limits_are_those_of_the_eager_model() -> None:
    assert dynamic_limits(nn.Conv2d(3, 2, 1), 3) == (1, (16, 16))
    assert dynamic_limits(Halving(), 3) == (4, (16, 16))
    assert accepts(Halving(), (1, 3, 8, 12)) is None
    assert "RuntimeError" in str(accepts(Halving(), (1, 3, 9, 12)))


def test_torchscript_is_used_nowhere() -> None:
    for path in Path(str(package.__file__)).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "watch.py":  # it watches whether a source's own code loads such a file
            text = text.replace('("torch.jit", "load")', "")
        assert "torch.jit" not in text and "dynamo=False" not in text, path


def test_nothing_is_printed_while_tracing(capfd: pytest.CaptureFixture[str]) -> None:
    trace(Pooled(), (1, 3, 8, 8), opset=20)
    with pytest.raises(CompileError):
        trace(Stubborn(), (1, 3, 8, 8), opset=20)
    assert "too small" in str(accepts(nn.MaxPool2d(2), (1, 3, 1, 1)))  # torch logs this one with its traceback
    assert capfd.readouterr() == ("", "")


def test_the_text_of_the_tiny_model_has_the_line_the_tests_name() -> None:
    assert NET.splitlines()[14].strip().startswith("y = self.head(")
