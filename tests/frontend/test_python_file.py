"""Python files as sources: `model` or `build_model()`, and what `meta` may say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from segc.errors import SourceError
from segc.frontend.source import open_source
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import NET, changed, source

META = """
meta = dict(
    classes=["a", "b", "c", "d", "e"], palette=[(i, 0, 9) for i in range(5)], mean=(1, 2, 3), std=(4, 5, 6),
    channel_order="bgr", shape=(20, 30), resize_scale=(64, 32), keep_ratio=False, align_corners=True,
)
"""


def test_meta_becomes_the_description_of_the_model(tmp_path: Path) -> None:
    info = open_source(source(tmp_path, NET + META)).info
    assert info.classes == ("a", "b", "c", "d", "e")
    assert info.palette == tuple((i, 0, 9) for i in range(5))
    assert (info.mean, info.std, info.channel_order) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "BGR")
    assert (info.shape, info.resize_scale, info.keep_ratio, info.align_corners) == ((20, 30), (64, 32), False, True)
    assert info.weights == "source"


def test_build_model_is_called_and_the_model_is_in_eval_mode(tmp_path: Path) -> None:
    text = changed("model = Net()", "def build_model():\n    return nn.Sequential(Net(), nn.Dropout(0.9)).train()")
    module = open_source(source(tmp_path, text)).module
    assert module is not None
    x = torch.ones(1, 3, 8, 8)
    assert torch.equal(module(x), module(x))


def test_random_weights_are_the_same_in_every_run(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        torch.rand(7)  # whatever happened before does not matter
        module = open_source(source(tmp_path)).module
        assert module is not None
        states.append(module.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_a_file_may_import_its_neighbours_and_leaves_the_path_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_net.py").write_text(NET)
    before = list(sys.path)
    assert open_source(source(tmp_path, "from neighbour_of_net import Net\nmodel = Net()\n")).module is not None
    assert sys.path == before


@pytest.mark.parametrize("returned", ['{"out": y, "aux": x}', '{"logits": y}', "(y, x)", "[y]"])
def test_logits_are_found_in_what_models_return(tmp_path: Path, returned: str) -> None:
    text = changed("return F.interpolate(y,", "y = F.interpolate(y,").replace(
        "\n\n\nmodel", f"\n        return {returned}\n\n\nmodel"
    )
    module = open_source(source(tmp_path, text)).module
    plain = open_source(source(tmp_path, name="plain.py")).module
    assert module is not None and plain is not None
    x = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(module(x), plain(x))


REFUSED = {
    "raises": ("x = 1\nraise ValueError('boom')\n", ["raised while it was imported", "ValueError: boom", "net.py:2"]),
    "raises deeper": ("def f():\n    return 1 / 0\nf()\n", ["ZeroDivisionError", "net.py:2 f"]),
    "exits": ("import sys\nsys.exit(0)\n", ["SystemExit: 0", "net.py:2"]),
    "imports what is missing": ("import nothing_like_this\n", ["ModuleNotFoundError", "nothing_like_this"]),
    "is empty": ("", ["defines no model", "it defines nothing", "build_model()"]),
    "defines other things": ("a, b = 1, 2\n", ["defines no model", "it defines a, b", "build_model()"]),
    "defines a model that is none": ("model = 3\n", ["defines no model", "'model' is a int"]),
    "builds nothing": ("def build_model():\n    pass\n", ["defines no model"]),
    "build_model raises": ("def build_model():\n    raise OSError('gone')\n", ["build_model()", "gone", "net.py:2"]),
    "build_model exits": ("def build_model():\n    raise SystemExit(0)\n", ["build_model()", "SystemExit", "net.py:2"]),
    "meta is no dict": (NET + "meta = 3\n", ["`meta`", "it is a int", "known keys"]),
    "meta has unknown keys": (NET + "meta = dict(colour=1)\n", ["unknown keys colour", "known keys", "palette"]),
    "meta has a wrong type": (NET + "meta = dict(classes=5)\n", ["`meta`", "known keys"]),
    "mean of two": (NET + "meta = dict(mean=(1, 2))\n", ["mean has 2 numbers, the input 3 channels"]),
    "std of zero": (NET + "meta = dict(std=(1, 0, 1))\n", ["std has a zero"]),
    "channel order": (NET + "meta = dict(channel_order='GRB')\n", ["channel_order is 'GRB'", "'RGB' or 'BGR'"]),
    "shape of zero": (NET + "meta = dict(shape=(0, 5))\n", ["at least 1 pixel"]),
    "threshold": (NET + "meta = dict(threshold=1.5)\n", ["threshold is 1.5", "between 0 and 1"]),
}


@pytest.mark.parametrize("text, said", REFUSED.values(), ids=REFUSED.keys())
def test_a_file_without_a_usable_model_is_refused(tmp_path: Path, text: str, said: list[str]) -> None:
    path = source(tmp_path, text)
    refused(segc("compile", path, "-o", tmp_path / "b"), SourceError.exit_code, "net.py", *said)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("returned", ["7", "x.sum()", "(1, 2)", "{}"])
def test_a_model_that_returns_no_logits_is_refused(tmp_path: Path, returned: str) -> None:
    text = changed("        return F.interpolate(", f"        return {returned}\n        F.interpolate(")
    result = segc("compile", source(tmp_path, text), "--shape", "16x16", "-o", tmp_path / "b")
    refused(result, SourceError.exit_code, "no logits", "(N, classes, H, W)")
