"""What benchmarks/training/camvid.py learns from and goes on with."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks" / "training"))
import camvid


def test_the_rate_rises_and_falls_by_steps_or_seconds() -> None:
    schedule = camvid.Schedule(peak=1.0, steps=100, seconds=50.0)
    assert schedule.done(20, 0.0) == 0.2 and schedule.done(0, 40.0) == 0.8 and schedule.done(500, 0.0) == 1.0
    rates = [schedule.rate(done) for done in (0.0, 0.1, 0.15, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0 > rates[3] > rates[4] > 0


def test_labels_move_with_the_image() -> None:
    """A picture whose blue value says its label: wherever both are inside, they still agree."""
    label = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 40, axis=0), 40, axis=1)
    image = np.stack([label * 60, label * 0, label * 0], axis=-1).astype(np.uint8)
    rng = np.random.default_rng(3)
    for _ in range(8):
        moved, classes = camvid.augmented(rng, image, label, (64, 64))
        assert moved.shape == (64, 64, 3) and set(np.unique(classes)) <= {0, 1, 2, 3, camvid.IGNORED}
        means = [moved[..., 0][classes == one].mean() for one in range(4) if (classes == one).sum() > 50]
        assert means == sorted(means)


def test_rare_classes_weigh_more() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[:1] = 1
    weights = camvid.class_weights([label])
    assert weights[1] > 2 * weights[0] and float(weights.max()) <= 3


def test_labels_that_are_no_class_are_ignored(tmp_path: Path) -> None:
    for folder, name, value in (("images", "a.jpg", 200), ("labels", "a.png", 11)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / name), np.full((8, 8), value, np.uint8))
    images, labels = camvid.read_split(tmp_path)
    assert images[0].shape == (8, 8, 3) and (labels[0] == camvid.IGNORED).all()
    (tmp_path / "labels" / "a.png").unlink()
    with pytest.raises(SystemExit, match="cannot be read"):
        camvid.read_split(tmp_path)


def test_weights_of_another_net_are_taken_where_they_fit(tmp_path: Path) -> None:
    """By the ends of names: backbone.layer1 of one net becomes body.layer1 of another; what is ambiguous stays."""
    torch.save({"state_dict": {"backbone.layer1.weight": torch.ones(3, 2), "backbone.bias": torch.ones(3),
                               "head.layer1.weight": torch.zeros(3, 2)}}, tmp_path / "given.pth")  # fmt: skip
    body = nn.Module()
    body.layer1, body.layer2 = nn.Linear(2, 3), nn.Linear(3, 3)
    model = nn.Module()
    model.body = body
    before = body.layer1.bias.detach().clone()
    assert camvid.start_from(model, tmp_path / "given.pth", "backbone.") == 1
    assert (body.layer1.weight == 1).all() and torch.equal(body.layer1.bias, before)


class Net(nn.Module):
    """The parts of an mmseg model that training uses; a second head gives edges, which teach nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor: Any = SimpleNamespace(
            mean=torch.full((3, 1, 1), 127.0), std=torch.full((3, 1, 1), 60.0)
        )
        self.body, self.decode_head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, len(camvid.CLASSES), 1)
        self.auxiliary_head = nn.ModuleList([nn.Conv2d(8, 1, 1)])

    def extract_feat(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).relu()


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camvid, "config_of", lambda _: SimpleNamespace(pretty_text="model = {}\n"))
    monkeypatch.setattr(camvid, "build_model", lambda _: Net())
    image, label = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    first = camvid.Training("any", tmp_path, camvid.Schedule(1e-3, 2, 1e6), "cpu")
    assert not first.resume()
    first.run([image], [label], 2, (32, 32), 10)
    again = camvid.Training("any", tmp_path, camvid.Schedule(1e-3, 3, 1e6), "cpu")
    assert again.resume() and again.step == 2
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    again.run([image], [label], 2, (32, 32), 10)
    kept = torch.load(tmp_path / "any_camvid.pth", weights_only=True)
    assert kept["meta"]["steps"] == 3 and (tmp_path / "any_camvid.py").read_text() == "model = {}\n"
    assert not list(tmp_path.glob(".*"))
