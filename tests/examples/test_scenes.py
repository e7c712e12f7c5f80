"""The street scenes of the demo: the generator's promises, and the score of the checkpoint that ships with them."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "examples" / "street_scenes"


sys.path.insert(0, str(FOLDER))  # the examples are scripts, not a package
scenes, parts, cars, grounds, people, skies = (
    importlib.import_module(name)
    for name in ("scenes", "drawing.canvas", "drawing.cars", "drawing.ground", "drawing.people", "drawing.sky")
)


@pytest.fixture(scope="module")
def train() -> ModuleType:
    for package in ("torch", "mmengine", "mmcv", "mmseg"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return importlib.import_module("train")


def test_same_seed_gives_the_same_bytes() -> None:
    first, again, other = scenes.render(11), scenes.render(11), scenes.render(12)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_a_scene_does_not_depend_on_those_before_it() -> None:
    fresh = scenes.render(5).image
    scenes.render(6, 64, 96)
    np.random.seed(3)  # the global generator must not matter
    assert np.array_equal(scenes.render(5).image, fresh)


@given(
    seed=st.integers(0, 2_100_000),
    size=st.sampled_from([(97, 129), (16, 16), (33, 250), (250, 33), (128, 256)]),
)
@settings(max_examples=25, deadline=None)
def test_shape_dtype_and_range(seed: int, size: tuple[int, int]) -> None:
    scene = scenes.render(seed, *size)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.mask.shape == size and scene.mask.dtype == np.uint8
    assert scene.mask.max() < len(scenes.CLASSES)
    assert scene.image.std() > 2  # neither black nor burnt out


def test_a_size_below_the_minimum_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        scenes.render(0, 8, 512)


def test_every_class_appears_and_none_dominates() -> None:
    masks = np.stack([scenes.render(seed).mask for seed in range(40)])
    share = np.bincount(masks.ravel(), minlength=len(scenes.CLASSES)) / masks.size
    assert len(scenes.CLASSES) >= 8
    assert share.min() > 0.003, dict(zip(scenes.CLASSES, share, strict=True))
    assert share.max() < 0.5, dict(zip(scenes.CLASSES, share, strict=True))


def test_seed_ranges_do_not_overlap() -> None:
    ranges = (scenes.TRAIN_SEEDS, scenes.VALIDATION_SEEDS, scenes.DEMO_SEEDS)
    for one, other in itertools.combinations(ranges, 2):
        assert one.stop <= other.start or other.stop <= one.start


def test_projection_and_ground_agree() -> None:
    """The road's edge, projected as an object would be, falls where the ground's mask changes class."""
    camera = parts.Camera(height=200, width=400, focal=300.0, horizon=80.0, centre=200.0, eye=1.5)
    layout = grounds.Layout(False, 0.0, 3.0, (2.0, 2.0), 0.0, (0.0, 0.0), (False, False), 0.0)
    light = skies.daylight(np.random.default_rng(0))
    canvas = skies.sky(camera, light, np.random.default_rng(0))
    grounds.ground(canvas, camera, layout, np.random.default_rng(0))
    column, row = camera.project([(3.0, 0.0, 6.0)])[0]
    assert canvas.mask[int(row), int(column) - 2] == parts.ROAD
    assert canvas.mask[int(row), int(column) + 2] == parts.SIDEWALK


def test_a_nearer_thing_hides_a_farther_one() -> None:
    camera = parts.Camera(height=200, width=400, focal=300.0, horizon=80.0, centre=200.0, eye=1.5)
    light = skies.daylight(np.random.default_rng(0))
    canvas = skies.sky(camera, light, np.random.default_rng(0))
    items = [cars.car_item(camera, light, np.random.default_rng(1), 0.0, 12.0),
             people.person(camera, light, np.random.default_rng(2), 0.0, 6.0)]  # fmt: skip
    scenes.paint(canvas, items)
    column, row = camera.project([(0.0, 1.0, 6.0)])[0].astype(int)
    assert canvas.mask[row, column] == parts.PERSON
    assert canvas.depth[row, column] == 6.0
    assert (canvas.mask == parts.CAR).any()


def test_palette_tells_the_classes_apart() -> None:
    assert len(set(scenes.PALETTE)) == len(scenes.CLASSES)
    mask = np.arange(len(scenes.CLASSES), dtype=np.uint8)[None]
    assert [tuple(pixel[::-1]) for pixel in scenes.colourise(mask)[0].tolist()] == list(scenes.PALETTE)


def test_augmentation_moves_image_and_mask_together(train: ModuleType) -> None:
    """A scene whose image is a function of its mask stays one, but for interpolated borders."""
    mask = np.zeros((64, 128), np.uint8)
    mask[20:50, 30:90] = 5
    image = np.repeat(np.where(mask == 5, 200, 40).astype(np.uint8)[..., None], 3, axis=2)
    for seed in range(20):
        moved = train.augment(np.random.default_rng(seed), scenes.Scene(image, mask))
        inside, outside = moved.image[moved.mask == 5], moved.image[moved.mask == 0]
        middle = (moved.image.max((0, 1)).astype(int) + moved.image.min((0, 1))) / 2
        assert (inside > middle).mean() > 0.95
        assert outside.size == 0 or (outside > middle).mean() < 0.05


def test_iou_of_a_known_confusion(train: ModuleType) -> None:
    """2 of 4 true pixels found and 1 false alarm: 2 / 5; an absent class counts for nothing."""
    scores = train.class_iou(np.array([[5, 1, 0], [2, 2, 0], [0, 0, 0]]))
    assert scores[:2] == pytest.approx([5 / 8, 2 / 5])
    assert np.isnan(scores[2])


def test_config_names_the_same_classes_and_palette(train: ModuleType) -> None:
    from mmengine.config import Config

    config = Config.fromfile(str(train.CONFIG))
    for loader in (config.val_dataloader, config.test_dataloader):
        assert tuple(loader.dataset.metainfo.classes) == scenes.CLASSES
        assert [tuple(colour) for colour in loader.dataset.metainfo.palette] == list(scenes.PALETTE)
    heads = [config.model.decode_head, *config.model.auxiliary_head]
    assert {head.num_classes for head in heads} == {len(scenes.CLASSES)}


def test_checkpoint_is_small_and_complete(train: ModuleType) -> None:
    import torch

    path = FOLDER / "fast_scnn_street.pth"
    assert path.stat().st_size <= 4_000_000
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    assert set(checkpoint["state_dict"]) == set(train.build_model().state_dict())
    assert tuple(checkpoint["meta"]["dataset_meta"]["classes"]) == scenes.CLASSES
    assert {value.dtype for value in checkpoint["state_dict"].values()} == {torch.float16, torch.int64}


def test_checkpoint_segments_unseen_scenes(train: ModuleType) -> None:
    model = train.load_model(FOLDER / "fast_scnn_street.pth")
    counts = train.confusion(model, scenes.VALIDATION_SEEDS[:40])  # the mean of 8 scenes still moves by 0.03
    assert np.nanmean(train.class_iou(counts)) >= 0.75
