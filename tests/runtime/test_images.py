"""Reading images, finding them, writing files."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from segc.errors import FileError, SegcError, ShapeError, UsageError
from segc.files.whole import write_whole
from segc.runtime.images import as_bgr, find_images, read_image
from tests.helpers.tiny_bundles import photograph


@pytest.mark.parametrize("name", ["a.png", "ä 图.png", "b.bmp", "c.tiff", "d.webp", "e.jpg", "no_extension"])
def test_images_read_as_opencv_reads_them(tmp_path: Path, name: str) -> None:
    encoded = cv2.imencode(Path(name).suffix or ".png", photograph(21, 34))[1]
    (tmp_path / name).write_bytes(encoded.tobytes())
    got = read_image(tmp_path / name)
    assert got.shape == (21, 34, 3) and got.dtype == np.uint8
    np.testing.assert_array_equal(got, cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def test_grey_alpha_and_16_bit_files_become_bgr(tmp_path: Path) -> None:
    colour = photograph(9, 12)
    deep = colour.astype(np.uint16) * 256 + 77
    for image in (colour[..., :1], np.dstack([colour, colour[..., :1]]), deep, deep[..., 0]):
        cv2.imwrite(str(tmp_path / "a.png"), image)
        got = read_image(tmp_path / "a.png")
        assert got.shape == (9, 12, 3) and got.dtype == np.uint8
        np.testing.assert_array_equal(got, as_bgr(image))


def test_the_camera_orientation_is_applied(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    exif = pillow.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pillow.fromarray(photograph(20, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("how", ["missing", "folder", "empty", "text", "truncated", "below a file"])
def test_files_that_are_no_images_are_refused_with_the_reason(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.png"
    if how == "folder":
        path.mkdir()
    elif how == "below a file":
        path.write_bytes(b"1")
        path = path / "b.png"
    elif how != "missing":
        whole = cv2.imencode(".png", photograph(50, 50))[1].tobytes()
        path.write_bytes({"empty": b"", "text": b"no image", "truncated": whole[: len(whole) // 2]}[how])
    with pytest.raises(FileError) as caught:
        read_image(path)
    assert str(path) in caught.value.what and caught.value.details["because"] and caught.value.exit_code == 8


def test_an_image_opencv_finds_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def imdecode(*_args: object) -> None:
        error = cv2.error("imdecode")
        error.err = "pixels <= CV_IO_MAX_IMAGE_PIXELS"
        raise error

    (tmp_path / "a.png").write_bytes(b"1")
    monkeypatch.setattr(cv2, "imdecode", imdecode)
    with pytest.raises(FileError, match=r"cannot read") as caught:
        read_image(tmp_path / "a.png")
    assert "MAX_IMAGE_PIXELS" in str(caught.value)


def test_arrays_of_all_usual_kinds_become_bgr() -> None:
    colour = photograph(5, 6)
    grey = colour[..., 0]
    for image in (grey, grey[..., None]):
        np.testing.assert_array_equal(as_bgr(image), np.dstack([grey] * 3))
    np.testing.assert_array_equal(as_bgr(np.dstack([colour, grey])), colour)
    np.testing.assert_array_equal(as_bgr(colour.astype(np.uint16) * 257), colour)
    assert as_bgr(colour[::2, ::-1]).flags.c_contiguous
    assert as_bgr(colour[:1, :1]).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("image", "kind", "advice"),
    [
        (np.zeros((4, 4, 3), np.float32), UsageError, "255"),
        (np.zeros((4, 4, 3), np.int64), UsageError, "uint8"),
        (np.zeros((4, 4), np.bool_), UsageError, "uint8"),
        (np.zeros((3, 40, 40), np.uint8), ShapeError, "transpose"),
        (np.zeros((4, 4, 2), np.uint8), ShapeError, "(H, W, 3)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ShapeError, "(H, W, 3)"),
        (np.zeros(7, np.uint8), ShapeError, "(H, W, 3)"),
        (np.zeros((0, 4, 3), np.uint8), ShapeError, "(H, W, 3)"),
    ],
)
def test_other_arrays_are_refused_with_advice(image: np.ndarray, kind: type[SegcError], advice: str) -> None:
    with pytest.raises(kind) as caught:
        as_bgr(image)
    assert advice in str(caught.value)


def test_folders_are_expanded_sorted_and_files_kept_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "c.webp"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "below.png").mkdir()
    (tmp_path / "below.png" / "d.png").write_bytes(b"1")
    found = find_images([tmp_path / "notes.txt", tmp_path, tmp_path / "a.png", tmp_path / "gone.png"])
    assert [f.path.name for f in found] == ["notes.txt", "a.png", "b.JPG", "c.webp", "gone.png"]


def test_images_of_one_stem_get_names_of_their_own(tmp_path: Path) -> None:
    names = ["x/a.png", "x/a.jpg", "x/A.png", "y/a.png", "y/b.png", "y/a_png.png", "y/noext", "z/noext"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    stems = [f.stem for f in find_images(tmp_path / name for name in names)]
    assert stems == ["a_png-2", "a_jpg", "A_png-3", "a_png-4", "b", "a_png", "noext", "noext-2"]
    assert len({stem.casefold() for stem in stems}) == len(names)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"1")
    with pytest.raises(FileError, match="no image"):
        find_images([tmp_path])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_whole(path, b"old")

    def replace(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(FileError, match="cannot be written"):
        write_whole(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"old")]
    with pytest.raises(FileError, match="cannot be written"):
        write_whole(tmp_path / "none" / "a.png", b"new")
