"""Models that draw random numbers at inference: refused with the advice, or compiled with numbers drawn once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import segc
from segc.compilation import randomness
from segc.errors import Code, SourceError, UsageError
from segc.frontend import onnx_random, random_numbers
from segc.frontend.model import ModelInfo, Source
from tests.helpers.tiny_models import changed, onnx_file, parsed, source

BASES = """bases = torch.rand((x.shape[0], 8, 4))
        y = torch.relu(self.conv(x))
        y = y + torch.einsum("ndr->nd", torch.nn.functional.normalize(bases, dim=1))[:, :, None, None]
        y = self.head(y)"""
HAMBURGER = changed("y = self.head(torch.relu(self.conv(x)))", BASES)
PER_PIXEL = changed("torch.relu(self.conv(x))", "torch.relu(self.conv(x + torch.rand_like(x)))")
SHUFFLED = changed("torch.relu(self.conv(x))", "torch.relu(self.conv(x[:, torch.randperm(3)]))")
NOISY_FILE = """g (float[N,3,H,W] x) => (float[N,2,H,W] y)
    <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}> {
        a = RandomNormalLike <scale = 0.5> (x)  b = Add(x, a)  r = RandomUniform <shape = [1, 3, 1, 1]> ()
        c = Mul(b, r)  y = Conv(c, w) }"""


def segmented(bundle: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(next(iter(segc.load(bundle).run(x).values())))


@pytest.mark.parametrize("text", [HAMBURGER, PER_PIXEL], ids=["a few", "one a pixel"])
def test_random_numbers_are_refused_with_the_advice(text: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="random numbers") as caught:
        segc.compile(source(tmp_path, text), shape=(24, 40), out=tmp_path / "bundle")
    assert caught.value.code is Code.RANDOM_NUMBERS
    assert "--freeze-random SEED" in str(caught.value) and not (tmp_path / "bundle").exists()


def test_a_file_with_random_ops_is_refused_with_the_advice(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="RandomNormalLike 'a'; RandomUniform 'r'") as caught:
        segc.compile(onnx_file(tmp_path, NOISY_FILE), shape=(8, 12), out=tmp_path / "bundle")
    assert "--freeze-random SEED" in str(caught.value)


def test_numbers_drawn_once_are_reproducible_and_said(tmp_path: Path) -> None:
    path, x = source(tmp_path, HAMBURGER), np.random.default_rng(0).standard_normal((1, 3, 24, 40)).astype(np.float32)
    made = [
        segc.compile(path, shape=(24, 40), freeze_random=seed, out=tmp_path / str(n))
        for n, seed in enumerate((7, 7, 8))
    ]
    first, again, other = (segmented(bundle.path, x) for bundle in made)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert [bundle.manifest.source.random_seed for bundle in made] == [7, 7, 8]
    (note,) = (n for n in made[0].report["notes"] if "--freeze-random" in n)
    assert "1 random number tensor is drawn once" in note and "net.py:" in note and "(uniform, 1x8x4)" in note
    assert max(case["relative_error"] for case in made[0].report["parity"]["cases"]) < 1e-5  # with the same draw
    segc.verify(made[2].path, source=path)


def test_a_dynamic_engine_uses_the_same_numbers_for_every_image(tmp_path: Path) -> None:
    path = source(tmp_path, HAMBURGER)
    bundle = segc.compile(path, dynamic=True, freeze_random=3, out=tmp_path / "bundle")
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 48)).astype(np.float32)
    both = segmented(bundle.path, x)
    np.testing.assert_allclose(both[1:], segmented(bundle.path, x[1:]), atol=1e-5)


def test_numbers_for_each_pixel_need_a_fixed_size(tmp_path: Path) -> None:
    path = source(tmp_path, PER_PIXEL)
    segc.compile(path, shape=(24, 40), freeze_random=0, out=tmp_path / "static")
    with pytest.raises(SourceError, match="depends on the size of the image"):
        segc.compile(path, dynamic=True, freeze_random=0, out=tmp_path / "dynamic")


def test_what_cannot_be_drawn_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="calls randperm"):
        segc.compile(source(tmp_path, SHUFFLED), shape=(24, 40), freeze_random=0, out=tmp_path / "bundle")


def test_a_model_without_random_numbers_stays_as_it_is(tmp_path: Path) -> None:
    bundle = segc.compile(source(tmp_path), shape=(24, 40), freeze_random=5, out=tmp_path / "bundle")
    assert bundle.manifest.source.random_seed is None
    assert "--freeze-random 5: the model draws no random numbers" in bundle.report["notes"]


def test_a_seed_is_a_whole_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--freeze-random"):
        segc.compile(source(tmp_path), shape=(24, 40), freeze_random=-1, out=tmp_path / "bundle")


def test_a_file_with_random_ops_compiles_with_numbers_drawn_once(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, NOISY_FILE)
    bundle = segc.compile(path, shape=(8, 12), freeze_random=1, out=tmp_path / "bundle")
    assert bundle.manifest.source.random_seed == 1
    assert max(case["relative_error"] for case in bundle.report["parity"]["cases"]) < 1e-5
    segc.verify(bundle.path, source=path)
    with pytest.raises(SourceError, match="depends on the size of the image"):
        segc.compile(path, dynamic=True, freeze_random=1, out=tmp_path / "dynamic")


def drawn(body: str, x: np.ndarray, constants: str = "") -> np.ndarray:
    """What the frozen form of an ONNX text computes; equal in two runs of two sessions."""
    sizes = ",".join(map(str, x.shape))
    model = parsed(f"g (float[{sizes}] x) => (float[{sizes}] y) {constants} {{ {body} }}")
    del model.opset_import[1]
    frozen, said = onnx_random.frozen(model, 4, x.shape)
    assert said and not onnx_random.random_nodes(frozen.graph)
    runs = [
        onnxruntime.InferenceSession(frozen.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*(run[0] for run in runs))
    return np.asarray(runs[0][0])


def test_each_random_op_keeps_its_distribution() -> None:
    x = np.full((1, 2, 64, 64), 0.25, np.float32)
    uniform = drawn("y = RandomUniformLike <low = 2.0, high = 4.0> (x)", x)
    assert uniform.min() >= 2 and uniform.max() < 4 and abs(uniform.mean() - 3) < 0.05
    normal = drawn("y = RandomNormal <shape = [1, 2, 64, 64], mean = 1.0, scale = 3.0> ()", x)
    assert abs(normal.mean() - 1) < 0.2 and abs(normal.std() - 3) < 0.2
    heads = drawn("y = Bernoulli(x)", x)
    assert set(np.unique(heads)) == {0, 1} and abs(heads.mean() - 0.25) < 0.03


def test_a_multinomial_draws_by_probability() -> None:
    x = np.log(np.array([[0.7, 0.2, 0.1]] * 3, np.float32))
    text = "g (float[3,3] x) => (float[3,2000] y) { a = Multinomial <sample_size = 2000> (x)  y = Cast <to = 1> (a) }"
    model = parsed(text)
    del model.opset_import[1]
    frozen, _ = onnx_random.frozen(model, 0, (3, 3))
    session = onnxruntime.InferenceSession(frozen.SerializeToString(), providers=["CPUExecutionProvider"])
    shares = [float((session.run(None, {"x": x})[0] == label).mean()) for label in range(3)]
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)


def test_random_ops_that_nothing_reads_do_not_count() -> None:
    model = parsed("g (float[1,2] x) => (float[1,2] y) { a = RandomNormalLike(x)  y = Relu(x) }")
    assert onnx_random.random_nodes(model.graph) == []
    randomness.require_none(model, None)


def test_a_random_op_in_a_branch_is_refused() -> None:
    text = """g (float[1,2] x, bool c) => (float[1,2] y) {
        y = If (c) <then_branch = t () => (float[1,2] a) { a = RandomNormalLike(x) },
                    else_branch = e () => (float[1,2] b) { b = Relu(x) }> }"""
    model = parsed(text)
    del model.opset_import[1]
    with pytest.raises(SourceError, match="a branch or a loop"):
        onnx_random.frozen(model, 0, (1, 2))


class Draws(torch.nn.Module):
    """Every form that is answered, one after another."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.randn(1, 3, 1, 1) + torch.rand(size=(1, 3, 1, 1)) + torch.randn_like(x) * 0
        y = y + torch.empty(1, 3, 1, 1).uniform_(1, 2) + torch.empty(1, 3, 1, 1).normal_(0, 0.1)
        y = y + torch.bernoulli(torch.full((1, 3, 1, 1), 0.5)) + torch.empty(1, 3, 1, 1).bernoulli_(0.5)
        return x + y + torch.nn.functional.dropout(torch.ones(1, 3, 1, 1), 0.5, training=True)


def test_every_form_of_pytorch_is_drawn_once() -> None:
    info = ModelInfo(kind="python", name="draws", sha256="0" * 64)
    module = Draws()
    frozen, draws = random_numbers.frozen(Source(info, module=module), 1, (8, 8), dynamic=False)
    assert [draw.kind for draw in draws].count("normal") == 3 and len(draws) == 8
    x = torch.zeros(1, 3, 8, 8)
    assert frozen.module is not None
    torch.testing.assert_close(frozen.module(x), frozen.module(x), rtol=0, atol=0)
    assert not torch.equal(module(x), module(x))  # the source's own module is as it was
