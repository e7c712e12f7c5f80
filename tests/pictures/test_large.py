"""TIFF files segmented by windows: equal to the mask of the whole, bit for bit, and with its place on Earth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import segc
from segc.errors import Code, FileError, UsageError
from segc.pictures import tiff
from segc.runtime import windows
from segc.runtime.images import as_bgr
from tests.helpers.calls import segc as command
from tests.helpers.large_pictures import SLIDES, geotiff, windowed_bundle
from tests.helpers.tiny_bundles import MASK, REPORT, bundle, manifest, photograph

rasterio = pytest.importorskip("rasterio")


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return windowed_bundle(tmp_path / "slides")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few windows, so that small pictures have many."""
    monkeypatch.setattr(windows, "_SUMS_BYTES", 4 * 3 * 32 * 120)
    monkeypatch.setattr(windows, "_BAND_BYTES", 4 * 3 * 120 * 5)
    monkeypatch.setattr(windows, "_GRID_ROWS", 2)


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (32, 40), (33, 41), (131, 257), (200, 50), (37, 333)])
def test_the_mask_of_a_tiff_equals_the_mask_of_the_whole(slides: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    result = segc.run(slides, geotiff(tmp_path / "a.tif", image), out=tmp_path / "out", tile="model")
    (done,) = result.images
    whole = segc.load(slides).segment(image)
    with rasterio.open(done.mask) as mask:
        np.testing.assert_array_equal(mask.read(1), whole.mask)
        assert mask.crs == "EPSG:32633" and mask.transform.c == 400000.0 and mask.transform.a == 0.5
        assert mask.nodata is None
        assert [mask.colormap(1)[at][:3] for at in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert done.overlay is not None
    with rasterio.open(done.overlay) as shown:
        np.testing.assert_array_equal(np.moveaxis(shown.read(), 0, 2)[..., ::-1], whole.overlay(image))
        assert shown.crs == "EPSG:32633"
    assert done.size == size and sum(done.shares.values()) == pytest.approx(1, abs=1e-5)
    assert result.windows == "windows of 32x40 pixels every 21x27 pixels, at the picture's own resolution"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_mask.tif", "a_overlay.tif"]


@pytest.mark.parametrize("pad", [{"size": None, "divisor": 64}, {"size": [150, 300], "divisor": None}])
def test_padding_is_the_models(tmp_path: Path, pad: dict[str, Any]) -> None:
    made = windowed_bundle(tmp_path / "b", preprocessing__pad={**pad, "value": 7.0})
    image = photograph(131, 257)
    result = segc.run(made, geotiff(tmp_path / "a.tif", image), out=tmp_path / "out", tile="model")
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(made).segment(image).mask)


def test_a_picture_above_the_limit_is_segmented_so_without_being_asked(slides: Path, tmp_path: Path) -> None:
    image = photograph(70, 90)
    path = geotiff(tmp_path / "a.tif", image, BIGTIFF="YES", tiled=False, blockxsize=None, blockysize=3)
    small = segc.run(slides, path, out=tmp_path / "small")
    assert small.images[0].mask.suffix == ".png" and small.windows is None
    (done,) = segc.run(slides, path, out=tmp_path / "large", max_pixels=70 * 90 - 1).images
    with rasterio.open(done.mask) as mask:
        np.testing.assert_array_equal(mask.read(1), np.asarray(Image.open(small.images[0].mask)))


def test_windows_of_a_bundle_for_whole_images_are_asked_for(tmp_path: Path) -> None:
    whole = windowed_bundle(
        tmp_path / "whole", inference={"mode": "whole", "crop": None, "stride": None, "align_corners": False},
        preprocessing__resize={"scale": [64, 64], "keep_ratio": False},
    )  # fmt: skip
    slides, image = windowed_bundle(tmp_path / "slides"), photograph(75, 111)
    path = geotiff(tmp_path / "a.tif", image)
    result = segc.run(whole, path, out=tmp_path / "out", tile=(32, 40), stride=(21, 27))
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(slides).segment(image).mask)
    assert result.windows is not None and result.windows.endswith("without the model's 'resize'")
    (error,) = segc.run(whole, path, out=tmp_path / "other", max_pixels=75).errors
    assert error[1].code == Code.IMAGE_TOO_LARGE and "--tile" in str(error[1])
    default = segc.run(whole, path, out=tmp_path / "third", tile=(30, 60))
    assert default.windows is not None and "30x60 pixels every 20x40" in default.windows
    cv2.imwrite(str(tmp_path / "b.png"), image)
    png = segc.run(whole, tmp_path / "b.png", out=tmp_path / "out", tile=(32, 40), stride=(21, 27))
    np.testing.assert_array_equal(np.asarray(Image.open(png.images[0].mask)), segc.load(slides).segment(image).mask)


@pytest.mark.parametrize(
    "kind", ["grey", "palette", "alpha", "four bands", "16 bits", "grey, 16 bits", "white is 0", "grey and alpha"]
)
def test_pixels_are_those_that_opencv_reads(slides: Path, tmp_path: Path, kind: str) -> None:
    image, path = photograph(50, 70), tmp_path / "a.tif"
    grey = image[..., 1]
    striped = {"tiled": False, "blockxsize": None, "blockysize": 16}  # OpenCV reads grey tiles that overhang wrongly
    if kind == "grey":
        geotiff(path, grey)
    elif kind == "palette":
        with rasterio.open(geotiff(path, grey // 64, photometric="palette"), "r+") as dataset:
            dataset.write_colormap(1, {at: (at * 60, 255 - at * 30, at * 7, 255) for at in range(4)})
    elif kind in ("alpha", "four bands"):
        four = np.dstack([image, np.where(grey > 9, 255, 77).astype(np.uint8)])[..., [3, 0, 1, 2]]
        geotiff(path, four, alpha="YES" if kind == "alpha" else "NO", photometric="rgb")
    elif kind == "16 bits":
        deep = image.astype(np.uint16) * 256 + np.random.default_rng(0).integers(0, 256, image.shape, np.uint16)
        geotiff(path, deep, photometric="rgb", **striped)
    elif kind == "grey, 16 bits":
        geotiff(path, image[..., 0].astype(np.uint16) * 255, **striped)
    elif kind == "white is 0":
        geotiff(path, grey, photometric="miniswhite")
    else:
        geotiff(path, np.dstack([grey, grey])[..., ::-1], count=2, alpha="YES", photometric="minisblack", **striped)
    engine = segc.load(slides)
    read = engine.read(path)
    (done,) = segc.run(slides, path, out=tmp_path / "out", tile="model").images
    with rasterio.open(done.mask) as mask:
        found, nodata = mask.read(1), mask.nodata
    want = engine.segment(read).mask
    with tiff.reading(path) as dataset:
        picture = tiff.TiffPicture(dataset, path, None, 3)
        np.testing.assert_array_equal(as_bgr(picture.read(slice(0, 50), slice(0, 70))), read)
    assert (found == want)[found != 255].all() and (nodata == 255) == ("alpha" in kind)


def test_pixels_without_data_have_none_in_the_mask(slides: Path, tmp_path: Path) -> None:
    image = photograph(90, 130)
    image[10:60, 20:70] = 0
    image[:5] = (0, 0, 1)
    (done,) = segc.run(slides, geotiff(tmp_path / "a.tif", image, nodata=0), out=tmp_path / "out", tile="model").images
    whole = segc.load(slides).segment(image)
    missing = (image == 0).all(axis=2)
    with rasterio.open(done.mask) as mask:
        found = mask.read(1)
        assert mask.nodata == 255 and (found[missing] == 255).all()
        np.testing.assert_array_equal(found[~missing], whole.mask[~missing])
        assert mask.colormap(1)[1][:3] == (0, 255, 0)
    counts = np.bincount(whole.mask[~missing], minlength=3) / (~missing).sum()
    assert done.shares == {
        name: round(float(share), 6) for name, share in sorted(zip(("red", "green", "blue"), counts, strict=True),
                                                               key=lambda item: -item[1]) if share
    }  # fmt: skip
    assert done.overlay is not None
    with rasterio.open(done.overlay) as shown:
        overlay = np.moveaxis(shown.read(), 0, 2)[..., ::-1]
        np.testing.assert_array_equal(overlay[missing], image[missing])


def test_models_of_many_bands_get_them_as_they_are(tmp_path: Path) -> None:
    import onnx
    import onnx.parser

    from segc.bundle.store import write_bundle

    pixels = np.random.default_rng(0).normal(size=(60, 80, 6)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(3, 6)).ravel().tolist()
    net = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20]>
        tiny (float[N, 6, H, W] x) => (float[N, 3, H, W] y)
        <float[3, 6, 1, 1] w = {{{", ".join(map(str, weights))}}}> {{ y = Conv (x, w) }}""")
    six = {"input__shape": [None, 6, None, None], "preprocessing__mean": [0.0] * 6, "preprocessing__std": [1.0] * 6}
    with write_bundle(tmp_path / "six", force=False) as staging:
        onnx.save(net, staging.directory / "model.onnx")
        staging.manifest = manifest(**{"inference": SLIDES["inference"], **six})
        staging.report = REPORT
    path = geotiff(tmp_path / "a.tif", pixels[..., ::-1])
    result = segc.run(tmp_path / "six", path, out=tmp_path / "out", tile="model", overlay=False)
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(tmp_path / "six").segment(pixels).mask)
    (error,) = segc.run(tmp_path / "six", path, out=tmp_path / "out", tile="model").errors
    assert error[1].code == Code.WINDOWS and "--no-overlay" in str(error[1])


def test_control_points_stay(slides: Path, tmp_path: Path) -> None:
    points = [rasterio.control.GroundControlPoint(row, column, 10.0 + column, 50.0 - row)
              for row, column in [(0, 0), (0, 60), (40, 0), (40, 60)]]  # fmt: skip
    path = tmp_path / "a.tif"
    geotiff(path, photograph(40, 60), crs=None, transform=rasterio.Affine.identity())
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    (done,) = segc.run(slides, path, out=tmp_path / "out", tile="model").images
    with rasterio.open(done.mask) as mask:
        assert len(mask.gcps[0]) == 4 and mask.gcps[1] == "EPSG:4326" and mask.gcps[0][1].x == 70.0


KILLED = """
import os, sys
from segc.cli import main
from segc.pictures import large
from segc.runtime import windows
from segc.runtime.images import as_bgr

windows._SUMS_BYTES, windows._GRID_ROWS, left = 4 * 3 * 32 * 120, 2, [int(sys.argv[1])]
plain = getattr(large, sys.argv[2])

def counted(*given, **how):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return plain(*given, **how)

setattr(large, sys.argv[2], counted)
main(["run", "slides", "a.tif", "-o", "out", "--tile", "model"])
"""


@pytest.mark.parametrize(("step", "after"), [("write_whole", 0), ("write_whole", 5), ("Segmentation", 0)])
def test_a_killed_run_goes_on(slides: Path, tmp_path: Path, step: str, after: int) -> None:
    image = photograph(131, 257)
    path = geotiff(tmp_path / "a.tif", image)
    (tmp_path / "killed.py").write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "killed.py", str(after), step], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "out" / "a_mask.tif.parts"
    kept = {part.name: part.stat().st_mtime_ns for part in folder.glob("*.zlib")}
    assert not (tmp_path / "out" / "a_mask.tif").exists() and len(kept) == (
        15 if step == "Segmentation" else max(after - 1, 0)
    )
    steps: list[int] = []
    result = segc.run(
        slides, path, out=tmp_path / "out", tile="model", within=lambda _, number, total: steps.append(number)
    )
    assert steps[0] == len(kept) and steps[-1] == 15
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(slides).segment(image).mask)
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["a_mask.tif", "a_overlay.tif"]


FULL = """
import resource, signal
from segc.cli import main
from segc.pictures import large

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
plain = large.LargePicture.finish

def limited(*given):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
    return plain(*given)

large.LargePicture.finish = limited
raise SystemExit(main(["run", "slides", "a.tif", "-o", "out", "--tile", "model"]))
"""


def test_a_full_disk_leaves_the_parts_and_no_mask(slides: Path, tmp_path: Path) -> None:
    geotiff(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))
    (tmp_path / "full.py").write_text(FULL)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "full.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == FileError.exit_code and Code.UNWRITABLE in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_mask.tif.parts"]


def test_parts_of_another_picture_or_bundle_are_not_used(slides: Path, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", photograph(131, 257))

    def stop(_: Path, number: int, total: int | None) -> None:
        if number == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segc.run(slides, path, out=tmp_path / "out", tile="model", within=stop)
    assert len(list((tmp_path / "out" / "a_mask.tif.parts").glob("*.zlib"))) == 4
    image = photograph(131, 257, seed=1)
    geotiff(path, image)
    steps: list[int] = []
    result = segc.run(slides, path, out=tmp_path / "out", tile="model", within=lambda *of: steps.append(of[1]))
    assert steps[0] == 0
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(slides).segment(image).mask)


def test_a_foreign_folder_of_the_name_is_not_deleted(slides: Path, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", photograph(40, 50))
    (tmp_path / "out" / "a_mask.tif.parts").mkdir(parents=True)
    mine = tmp_path / "out" / "a_mask.tif.parts" / "mine.txt"
    mine.write_text("mine")
    assert segc.run(slides, path, out=tmp_path / "out", tile="model").errors[0][1].code == Code.DESTINATION_TAKEN
    assert mine.read_text() == "mine"


def test_the_state_file_remembers_large_pictures(slides: Path, tmp_path: Path) -> None:
    path, state = geotiff(tmp_path / "a.tif", photograph(40, 50)), tmp_path / "state"
    first = segc.run(slides, path, out=tmp_path / "out", tile="model", state=state)
    stamp = first.images[0].mask.stat().st_mtime_ns
    again = segc.run(slides, path, out=tmp_path / "out", tile="model", state=state)
    assert again.images == first.images and again.images[0].mask.stat().st_mtime_ns == stamp
    with pytest.raises(FileError, match="belongs to another run"):
        segc.run(slides, path, out=tmp_path / "out", tile=(20, 20), state=state)


def test_workers_of_a_cluster_share_a_picture(slides: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    image = photograph(131, 257)
    path = geotiff(tmp_path / "a.tif", image)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        result = segc.run(slides, path, out=tmp_path / "out", tile="model", scheduler=cluster.scheduler_address)
    with rasterio.open(result.images[0].mask) as mask:
        np.testing.assert_array_equal(mask.read(1), segc.load(slides).segment(image).mask)


@pytest.mark.parametrize(
    ("changes", "tile", "stride", "words"),
    [
        ({}, None, (8, 8), "--stride needs --tile"),
        ({}, (32, 32), (40, 8), "leave gaps"),
        ({"inference": {"mode": "whole", "crop": None, "stride": None, "align_corners": False}}, "model", None,
         "names no size"),
        ({"preprocessing__steps": [{"step": "clahe", "limit": 4.0, "grid": [8, 8]}]}, "model", None, "'clahe'"),
        ({"input__dynamic": {"batch": [1, None], "height": [32, 64], "width": [32, 64], "divisor": 32}}, (48, 64),
         None, "multiples of 32"),
        ({"input__dynamic": {"batch": [1, None], "height": [32, 64], "width": [32, 64], "divisor": 32}}, (64, 96),
         None, "along width it takes 32 to 64"),
    ],
)  # fmt: skip
def test_windows_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], tile: Any, stride: Any, words: str
) -> None:
    made = windowed_bundle(tmp_path / "b", **changes)
    with pytest.raises(UsageError, match=words) as raised:
        segc.run(made, geotiff(tmp_path / "a.tif", photograph(40, 50)), tile=tile, stride=stride, out=tmp_path / "out")
    assert raised.value.code in (Code.WINDOWS, Code.CONFLICTING_OPTIONS)


def test_bundles_without_logits_are_refused(tmp_path: Path) -> None:
    made = bundle(tmp_path / "m", MASK, output__kind="mask", output__dtype="uint8")
    path = geotiff(tmp_path / "a.tif", photograph(40, 50))
    with pytest.raises(UsageError, match="gives masks"):
        segc.run(made, path, tile=(20, 20), out=tmp_path / "out")
    with pytest.raises(UsageError, match="exclude each other"):
        segc.run(made, path, tile=(20, 20), direct=True, out=tmp_path / "out")


@pytest.mark.parametrize("kind", ["cut off", "damaged", "float", "five bands", "two values", "huge blocks"])
def test_pictures_that_cannot_be_used_are_named(
    slides: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, path = photograph(131, 257), tmp_path / "a.tif"
    if kind == "float":
        geotiff(path, image.astype(np.float32))
    elif kind == "five bands":
        geotiff(path, np.dstack([image, image[..., :2]]))
    elif kind == "two values":
        geotiff(path, (image[..., 0] > 99).astype(np.uint8), nbits=1)
    else:
        geotiff(path, image)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-3000])
    if kind == "damaged":
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
        path.write_bytes(content)
    if kind == "huge blocks":
        monkeypatch.setattr(tiff, "_BLOCK_BYTES", 64)
    (error,) = segc.run(slides, path, out=tmp_path / "out", tile="model").errors
    code = {"float": Code.INPUT_TYPE, "two values": Code.INPUT_TYPE, "five bands": Code.INPUT_SHAPE}
    assert error[1].code == code.get(kind, Code.IMAGE_UNREADABLE)
    assert not (tmp_path / "out" / "a_mask.tif").exists()


def test_the_command_says_what_was_done(slides: Path, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", photograph(40, 50))
    ran = command("run", slides, path, "-o", tmp_path / "out", "--tile", "32x40", "--stride", "16x20", "--no-overlay")
    assert ran.code == 0 and "windows of 32x40 pixels every 16x20 pixels" in ran.out
    shown = json.loads(command("run", slides, path, "-o", tmp_path / "out", "--tile", "model", "--json").out)
    assert shown["windows"].startswith("windows of 32x40") and shown["images"][0]["mask"].endswith("a_mask.tif")
    assert command("run", slides, path, "--tile", "32").code == 2


def test_without_rasterio_it_says_what_to_install(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = geotiff(tmp_path / "a.tif", photograph(40, 50))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    (error,) = segc.run(slides, path, out=tmp_path / "out", tile="model").errors
    assert error[1].code == Code.OPTIONAL_PACKAGE and "segc[geo]" in str(error[1])
