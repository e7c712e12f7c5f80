"""`segc val --dataset --source` against mmseg's own evaluation of the same model on the same dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc
from segc.errors import Code, SourceError, UsageError
from segc.validation.scores import percent
from tests.helpers import tiny_configs
from tests.helpers.labelled_images import labelled
from tests.helpers.tiny_bundles import bundle, photograph

pytest.importorskip("mmseg")
torch = pytest.importorskip("torch")

# A dataset whose labels begin at 1, of which one class is not evaluated.
DATASET = """
dataset_type = 'ADE20KDataset'
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(
    dataset=dict(
        type=dataset_type, data_root={root!r}, reduce_zero_label=True,
        metainfo=dict(classes=('building', 'wall', 'tree')),
        data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=test_pipeline))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice', 'mFscore'])
"""


def dataset(folder: Path, text: str = DATASET, count: int = 3) -> Path:
    """Images and labels of ADE20K's numbers, and the config that describes them."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for at in range(count):
        rng = np.random.default_rng(at)
        cv2.imwrite(str(folder / "images" / f"{at}.jpg"), photograph(50 + at, 70, at))
        label = np.repeat(np.repeat(rng.integers(0, 6, (5, 7)), 11, 0), 10, 1)[: 50 + at].astype(np.uint8)
        cv2.imwrite(str(folder / "labels" / f"{at}.png"), label)
    path = folder / "dataset.py"
    path.write_text(text.format(root=str(folder)))
    return path


def theirs(config: Path, model_config: Path) -> dict[str, Any]:
    """mmseg's dataset, model and metric, in the loop of its tools/test.py."""
    from segc.frontend.mmseg_config import open_config

    opened = open_config(model_config, checkpoint=None, allow_mismatch=False, mode=None).module
    model: Any = getattr(opened, "segmentor")  # noqa: B009
    from mmengine import Config
    from mmengine.dataset import pseudo_collate
    from mmseg.registry import DATASETS, METRICS

    read = Config.fromfile(str(config))
    images = DATASETS.build(read.test_dataloader.dataset)
    metric = METRICS.build(read.test_evaluator)
    metric.dataset_meta = images.metainfo
    for at in range(len(images)):
        with torch.no_grad():
            found = model.test_step(pseudo_collate([images[at]]))
        metric.process({}, [one.to_dict() for one in found])
    return dict(metric.compute_metrics(metric.results))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dynamic bundle of a tiny mmseg model with three classes, and its config."""
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_configs.config(folder, CLASSES="3")
    segc.compile(config, target="onnxruntime", trace_shape=(64, 96), dynamic=True, out=folder / "bundle")
    return folder / "bundle", config


def test_an_evaluation_is_mmsegs_own(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    made, model = compiled
    config = dataset(tmp_path)
    result = segc.val(made, dataset=config, source=model)
    ours, pytorch = (one.overall for one in result.columns)
    wanted = theirs(config, model)
    found = {
        "aAcc": pytorch.a_acc, "mIoU": pytorch.m_iou, "mAcc": pytorch.m_acc, "mDice": pytorch.m_dice,
        "mFscore": pytorch.m_fscore, "mPrecision": pytorch.m_precision, "mRecall": pytorch.m_recall,
    }  # fmt: skip
    assert {key: percent(share) for key, share in found.items()} == wanted
    assert abs(percent(ours.m_iou) - wanted["mIoU"]) < 0.05 and result.images == 3
    assert [one.name for one in pytorch.classes] == list(segc.load(made).manifest.classes)
    assert len({one.iou for one in pytorch.classes}) == 3  # a model that tells classes apart


def test_a_dataset_without_a_label_says_which(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    config = dataset(tmp_path)
    (tmp_path / "labels" / "1.png").unlink()
    result = segc.val(compiled[0], dataset=config)
    ((path, error),) = result.errors
    assert path.name == "1.jpg" and error.code == Code.NO_LABEL and result.images == 2


def test_steps_that_are_not_reproduced_are_said(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    text = DATASET.replace("dict(type='LoadAnnotations')", "dict(type='LoadAnnotations'), dict(type='CLAHE')")
    assert segc.val(compiled[0], dataset=dataset(tmp_path, text)).notes == (
        "step 'CLAHE' of the dataset's pipeline is not reproduced",
    )


def test_datasets_that_do_not_open_or_fit_are_refused(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    config = dataset(tmp_path)
    good = config.read_text()
    for old, new, kind, code, says in [
        ("test_dataloader", "loader", SourceError, Code.DATASET, "names no dataset"),
        ("'ADE20KDataset'", "'NoDataset'", SourceError, Code.DATASET, "cannot be opened"),
        ("'images'", "'gone'", SourceError, Code.DATASET, "gone"),
        ("('building', 'wall', 'tree')", "('building', 'wall')", UsageError, Code.CLASSES_DIFFER, "2 classes"),
        ("dataset_type =", "dataset_type", SourceError, Code.DATASET, "cannot be opened"),
    ]:
        assert old in good
        config.write_text(good.replace(old, new))
        with pytest.raises(kind, match=says) as raised:
            segc.val(compiled[0], dataset=config)
        assert raised.value.code == code


def test_the_source_of_an_onnx_bundle_is_evaluated_too(tmp_path: Path) -> None:
    import onnx

    from tests.helpers.tiny_bundles import model

    images, labels = labelled(tmp_path, count=2)
    onnx.save(model(), tmp_path / "model.onnx")
    made = bundle(tmp_path / "tiny")
    one, reference = segc.val(made, images=images, labels=labels, source=tmp_path / "model.onnx").columns
    assert reference.name == "PyTorch"
    assert one.overall == reference.overall
