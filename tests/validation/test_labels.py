"""Label files: what their pixels mean, as mmseg reads them, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segc.errors import Code, FileError, UsageError
from segc.validation.labels import Rules, parse_label_map, read_label
from segc.validation.pairs import match


def saved(path: Path, numbers: np.ndarray, palette: bool = False) -> Path:
    image = Image.fromarray(numbers)
    if palette:
        image.putpalette([value for at in range(256) for value in (255 - at, at, 7)])
    image.save(path)
    return path


NUMBERS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("label_map", [{}, {0: 3, 3: 255, 7: 0}])
def test_labels_are_read_as_mmseg_reads_them(
    palette: bool, reduce: bool, label_map: dict[int, int], tmp_path: Path
) -> None:
    pytest.importorskip("mmseg")
    from segc.frontend.mmseg_env import import_mmseg

    import_mmseg()
    from mmseg.datasets.transforms import LoadAnnotations

    path = saved(tmp_path / "a.png", NUMBERS, palette)
    asked = {"seg_map_path": str(path), "reduce_zero_label": reduce, "label_map": label_map or None, "seg_fields": []}
    wanted = LoadAnnotations()(asked)["gt_seg_map"]
    np.testing.assert_array_equal(read_label(path, Rules(255, reduce, label_map)), wanted)


def test_labels_of_16_bits_keep_their_numbers(tmp_path: Path) -> None:
    numbers = np.array([[0, 300], [65535, 1]], np.uint16)
    path = saved(tmp_path / "a.png", numbers)
    np.testing.assert_array_equal(read_label(path, Rules(65535)), numbers)
    reduced = read_label(path, Rules(65535, reduce_zero_label=True))
    np.testing.assert_array_equal(reduced, [[65535, 299], [65535, 0]])


def test_labels_of_one_bit_are_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", Rules()), np.eye(9))


def test_files_without_class_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colours.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "lossy.jpg")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "large.tif")
    whole = saved(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-400])
    (tmp_path / "text.png").write_text("no image")
    for name, why in [
        ("colours.png", "colours"), ("lossy.jpg", "JPEG"), ("large.tif", "70000"),
        ("cut.png", "truncated|broken"), ("text.png", "cannot identify"),
        ("gone.png", "No such file"),
    ]:  # fmt: skip
        with pytest.raises(FileError, match=why) as raised:
            read_label(tmp_path / name, Rules())
        assert raised.value.code == Code.LABEL_UNUSABLE and name in raised.value.what


def test_label_maps_are_read_from_text() -> None:
    assert parse_label_map("7=0, 8=1,9=ignore", 11) == {7: 0, 8: 1, 9: 11}
    for wrong in ("7", "7=", "a=1", "7=-1", "7=b"):
        with pytest.raises(UsageError, match="is not OLD=NEW"):
            parse_label_map(wrong, 255)


def folders(tmp_path: Path, images: str, labels: str) -> tuple[Path, Path]:
    made = []
    for name, files in (("images", images), ("labels", labels)):
        folder = tmp_path / name
        folder.mkdir()
        for file in files.split():
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / file)
        made.append(folder)
    return made[0], made[1]


def test_images_and_labels_of_one_name_belong_together(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, "a.jpg b.png c.bmp a.b.png", "a.png b.tif d.png a.b.png")
    (labels / "notes.txt").write_text("")
    found = match(images, labels)
    assert [(pair.image.name, pair.label.name) for pair in found.pairs] == [
        ("a.b.png", "a.b.png"), ("a.jpg", "a.png"), ("b.png", "b.tif"),
    ]  # fmt: skip
    ((missing, error),) = found.unlabelled
    assert missing.name == "c.bmp" and error.code == Code.NO_LABEL and "labels/c.png" in str(error)
    assert [path.name for path in found.unused] == ["d.png"]


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, "a.png", "b.png")
    with pytest.raises(FileError, match=r"no image .* has a label") as raised:
        match(images, labels)
    assert raised.value.code == Code.NO_LABEL
    for name in ("a.png", "a.tif"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(labels / name)
    with pytest.raises(FileError, match="two labels of one name"):
        match(images, labels)
    with pytest.raises(FileError, match="cannot read the folder") as raised:
        match(images, tmp_path / "gone")
    assert raised.value.code == Code.UNREADABLE


def test_a_pair_has_another_key_when_a_file_changes(tmp_path: Path) -> None:
    images, labels = folders(tmp_path, "a.png", "a.png")
    before = match(images, labels).pairs[0].key
    assert match(images, labels).pairs[0].key == before
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(labels / "a.png")
    assert match(images, labels).pairs[0].key != before
