"""`segc run`: what it writes, prints and refuses."""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segc.cli import run
from segc.errors import BundleError, FileError, UsageError
from tests.helpers.tiny_bundles import bundle, content, photograph


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return bundle(tmp_path / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(["b.png", "a.png", "a.jpg"]):
        cv2.imwrite(str(folder / name), photograph(20 + seed, 30, seed))
    return folder


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    run.add_parser(parser.add_subparsers(dest="command"))
    return run.main(parser.parse_args(["run", *map(str, words)]))


def test_masks_and_overlays_of_files_and_folders_are_written(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tiny, photos, photos / "b.png", "-o", tmp_path / "new" / "out") == 0
    out = tmp_path / "new" / "out"
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(f"{stem}_{kind}.png" for stem in ("a_jpg", "a_png", "b") for kind in ("mask", "overlay"))
    image = cv2.imread(str(photos / "b.png"))
    shown = cv2.imread(str(out / "b_mask.png"))
    np.testing.assert_array_equal(shown[..., ::-1], 255 * np.eye(3, dtype=int)[image[..., ::-1].argmax(2)])
    np.testing.assert_array_equal(cv2.imread(str(out / "b_overlay.png")), cv2.addWeighted(image, 0.5, shown, 0.5, 0))
    printed = capsys.readouterr().out
    assert "[3/3]" in printed and str(out.resolve()) in printed and "b_mask.png" in printed


def test_a_bad_image_does_not_stop_the_others(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "c.png").write_bytes(b"no image")
    (photos / "d.png").write_bytes(b"no image either")
    assert call(tiny, tmp_path / "gone.png", photos, "-o", tmp_path / "out", "--no-overlay") == 8
    assert len(list((tmp_path / "out").iterdir())) == 3
    error = capsys.readouterr().err
    assert "2 images were not segmented" in error and "1 image was not segmented: No such file" in error
    assert str(photos / "c.png") in error and "convert it to PNG" in error


def test_images_the_engine_does_not_take_are_collected_too(photos: Path, tmp_path: Path) -> None:
    small = content()["input"]["dynamic"] | {"height": [1, 21]}
    assert call(bundle(tmp_path / "b", input__dynamic=small), photos, "-o", tmp_path / "out") == 8
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_png_mask.png", "a_png_overlay.png", "b_mask.png", "b_overlay.png",
    ]  # fmt: skip


def test_json_holds_paths_shares_and_errors(
    tiny: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = np.zeros((10, 10, 3), np.uint8)
    half[:3, :, 1] = 9
    cv2.imwrite(str(photos / "half.png"), half)
    assert call(tiny, photos / "half.png", photos / "gone.png", "-o", tmp_path / "out", "--json", "--no-overlay") == 8
    printed = json.loads(capsys.readouterr().out)
    assert printed["images"] == [
        {
            "image": str(photos / "half.png"),
            "mask": str(tmp_path / "out" / "half_mask.png"),
            "overlay": None,
            "size": [10, 10],
            "classes": {"red": 0.7, "green": 0.3},
        }
    ]
    assert printed["errors"][0]["code"] == "SEGC-F105" and printed["errors"][0]["image"].endswith("gone.png")


def test_the_opacity_is_that_of_the_colours(tiny: Path, photos: Path, tmp_path: Path) -> None:
    call(tiny, photos / "b.png", "-o", tmp_path / "out", "--opacity", "0")
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "out" / "b_overlay.png")), cv2.imread(str(photos / "b.png"))
    )


def test_wrong_requests_are_refused_before_anything_is_written(tiny: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for words, kind in [
        ([tiny, photos, "-o", out, "--opacity", 2], UsageError),
        ([tiny, photos, "-o", out, "--threads", -1], UsageError),
        ([tiny, photos, "-o", photos], UsageError),  # the next run would segment the masks
        ([tiny, tmp_path / "empty", "-o", out], FileError),
        ([photos, photos, "-o", out], BundleError),
        ([tmp_path / "gone", photos, "-o", out], BundleError),
        ([tiny, photos, "-o", photos / "b.png"], FileError),
    ]:
        with pytest.raises(kind):
            call(*words)
    assert not out.exists() and len(list(photos.iterdir())) == 3


def test_an_image_is_never_replaced_by_a_mask(tiny: Path, photos: Path) -> None:
    (photos / "b_mask.png").write_bytes((photos / "b.png").read_bytes())
    before = (photos / "b_mask.png").read_bytes()
    with pytest.raises(UsageError, match="would replace"):
        call(tiny, photos / "b.png", photos / "b_mask.png", "-o", photos)
    assert (photos / "b_mask.png").read_bytes() == before


def test_on_a_terminal_a_bar_is_drawn(tiny: Path, photos: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    code = "import sys; from segc.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "run", str(tiny), str(photos), "-o", str(tmp_path / "out"), "--threads", "1"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    drawn = b""
    try:
        while block := os.read(leader, 4096):
            drawn += block
    except OSError:  # the other end was closed
        pass
    os.close(leader)
    assert process.wait() == 0, drawn.decode()
    assert b"segmenting" in drawn and b"3/3" in drawn and b"b_mask.png" in drawn
