"""What Python sources return: the bundle's masks are those that the model's own output means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import segc
from segc.errors import SourceError
from segc.frontend.logits_model import PlainLogits
from segc.frontend.source import open_source
from segc.parity.metrics import mask_of
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command

TEXT = """\
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.g, self.h = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 1, 1)

    def forward(self, x):
        y = self.f(x - x.mean((2, 3), keepdim=True))
        z = self.h(x)
        return RETURNED


model = Net().eval()
meta = {"shape": (16, 24), META}
"""
Mask = Callable[[torch.Tensor], torch.Tensor]


def most(y: torch.Tensor) -> torch.Tensor:
    return y.argmax(1)


def classes(y: torch.Tensor) -> torch.Tensor:
    return y.reshape(1, 16, 24).long()


def over(level: float) -> Mask:
    return lambda y: (y.reshape(1, 16, 24) > level).long()


FORMS: dict[str, tuple[str, Mask, str]] = {
    "channels last": ("y.permute(0, 2, 3, 1)", lambda y: y.argmax(3), "channels last"),
    "aux first": ('{"aux": self.g(x), "pred": y}', lambda y: y["pred"].argmax(1), "'pred' is taken, without aux"),
    "a tuple with a small map first": (
        "(F.avg_pool2d(self.g(x), 4), y)", lambda y: y[1].argmax(1), "'1' is taken, without 0"
    ),
    "a list in a dict": ('{"side": self.g(x), "preds": [y, self.g(x)]}', lambda y: y["preds"][0].argmax(1), "'preds'"),
    "class map": ("y.argmax(1, keepdim=True)", classes, "by an argmax"),
    "class map, rank 3": ("torch.argmax(y, dim=1)", classes, "by an argmax"),
    "class map of a softmax": ("F.softmax(y, dim=1).argmax(1).to(torch.uint8)", classes, "by an argmax"),
    "class map of max": ("y.max(1)[1]", classes, "by an argmax"),
    "class map of channels last": ("y.permute(0, 2, 3, 1).argmax(-1)", classes, "by an argmax"),
    "largest scores": ("(y - y.max(1, keepdim=True)[0])", most, ""),
    "softmax": ("y.softmax(1)", most, "by a Softmax"),
    "sigmoid": ("torch.sigmoid(z)", over(0.5), "by a Sigmoid"),
    "sigmoid, rank 3": ("z.sigmoid().squeeze(1)", over(0.5), "by a Sigmoid"),
    "sigmoid as a picture": ("(F.sigmoid(z) * 255).round().byte()", over(127), "by a Sigmoid"),
    "sigmoid, resized": (
        "F.interpolate(F.avg_pool2d(z, 2).sigmoid(), scale_factor=2, mode='bilinear')", over(0.5), "less 0.5",
    ),
    "clipped": ("z.clamp(0, 1)", over(0.5), "less 0.5"),
    "foreground": ("z.sigmoid() > 0.3", classes, "by a comparison"),
    "foreground of logits": ("(z > 0.1).float()", classes, "by a comparison"),
}  # fmt: skip


def written(folder: Path, returned: str, meta: str = "", change: str = "") -> Path:
    path = folder / "net.py"
    path.write_text(TEXT.replace("RETURNED", returned).replace("META", meta) + change)
    return path


def image() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((1, 3, 16, 24)).astype(np.float32)


def opened(path: Path) -> PlainLogits:
    module = open_source(path).module
    assert isinstance(module, PlainLogits)
    return module


@pytest.mark.parametrize("returned, meaning, said", FORMS.values(), ids=FORMS.keys())
def test_the_logits_mean_what_the_output_means(tmp_path: Path, returned: str, meaning: Mask, said: str) -> None:
    module = opened(written(tmp_path, returned))
    with torch.no_grad():
        want, logits = meaning(module.module(torch.from_numpy(image()))), module(torch.from_numpy(image()))
    np.testing.assert_array_equal(mask_of(logits.numpy(), module.found.threshold), want.numpy())
    assert not said or any(said in note for note in module.found.notes)


def test_a_bundle_of_probabilities_without_a_channel_axis(tmp_path: Path) -> None:
    path = written(tmp_path, '{"aux": self.g(x), "out": (z.sigmoid() > 0.3).squeeze(1).byte()}')
    bundle = segc.compile(path, out=tmp_path / "b")
    engine, module = segc.load(bundle.path), opened(path)
    with torch.no_grad():
        want = module.module(torch.from_numpy(image()))["out"].numpy()
    np.testing.assert_array_equal(mask_of(engine.run(image())["logits"], engine.manifest.output.threshold), want)
    assert engine.manifest.output.threshold == pytest.approx(0.3)
    assert any("by a comparison" in note for note in bundle.report["notes"])
    assert "Sigmoid" not in bundle.report["ops"]["before"]


def test_a_key_may_be_named_and_verify_finds_it_again(tmp_path: Path) -> None:
    path = written(tmp_path, '{"pred": y, "other": self.g(x)}')
    bundle = segc.compile(path, out=tmp_path / "b", output_name="other")
    assert (bundle.manifest.output.channels, bundle.manifest.source.output) == (2, "other")
    assert segc.verify(bundle.path, source=path).cases[0].agreement == 1


def test_outputs_with_as_many_channels_as_classes_are_preferred(tmp_path: Path) -> None:
    path = written(tmp_path, "(self.g(x), y)", '"classes": tuple("abcde")')
    assert segc.compile(path, out=tmp_path / "b").manifest.output.channels == 5


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_a_narrow_model_is_computed_in_float32(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, f"self.f(x.{kind}()).float()", change=f"\nmodel.{kind}()\n")
    bundle = segc.compile(path, out=tmp_path / "b")
    assert any("compute the same in float32" in note for note in bundle.report["notes"])
    wide = opened(written(tmp_path, "self.f(x)", change=f"\nmodel.{kind}().float()\n"))
    with torch.no_grad():
        want = wide(torch.from_numpy(image())).numpy()
    np.testing.assert_allclose(segc.load(bundle.path).run(image())["logits"], want, atol=1e-5)


def test_a_dynamic_engine_of_channels_last(tmp_path: Path) -> None:
    bundle = segc.compile(written(tmp_path, "y.permute(0, 2, 3, 1)"), out=tmp_path / "b", dynamic=True)
    assert bundle.manifest.output.channels == 5


REFUSED = {
    "classes without a number": ("(y.argmax(1) * 1.0 + 0.0 * x.mean()).long()", "", "how many there are is not known"),
    "several foregrounds": ("(y > 0).long() * 7", '"classes": tuple("abcde")', "integers of shape"),
    "names that do not fit": ("y", '"classes": ("a", "b")', "`meta` has 2 names, the model 5 classes"),
}


@pytest.mark.parametrize("returned, meta, said", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_map_and_names_that_do_not_fit_are_refused(
    tmp_path: Path, returned: str, meta: str, said: str
) -> None:  # fmt: skip
    refused(command("compile", written(tmp_path, returned, meta), "-o", tmp_path / "b"), SourceError.exit_code, said)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, '{"pred": y}')
    result = command("compile", path, "--output-name", "mask", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "no 'mask', but pred")
