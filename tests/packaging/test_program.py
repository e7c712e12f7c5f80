"""The C++ program of bundles: built for each runtime that is here, its masks are Python's; the others are compiled."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

import segc
from segc import targets
from segc.bundle.store import read_bundle
from segc.packaging.program import FOLDER, SHARED
from tests.helpers import cpp, target_bundles, tiny_bundles, tiny_models
from tests.helpers.tiny_bundles import photograph

CMAKE = shutil.which("cmake")
NCNN = "NCNN_CMAKE_DIR"
pytestmark = [cpp.needs_compiler, pytest.mark.skipif(CMAKE is None, reason="there is no CMake")]

Segment = Callable[..., subprocess.CompletedProcess[str]]


def package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parent


def where(target: str) -> list[str]:
    """How CMake finds the runtime of a target."""
    if target == "onnxruntime":
        return [f"-DONNXRUNTIME={package('onnxruntime') / 'capi'}"]
    if target == "openvino":
        return [f"-DOpenVINO_DIR={package('openvino') / 'cmake'}"]
    if NCNN not in os.environ:
        pytest.skip(f"{NCNN} names no build of ncnn")
    return [f"-Dncnn_DIR={os.environ[NCNN]}"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds the program of a target, once."""

    @cache
    def built(target: str) -> Path:
        folder = tmp_path_factory.mktemp(f"program-{target}")
        bundle = target_bundles.bundle(target, "whole", folder)
        build = folder / "build"
        options = [*where(target), "-DSEGC_NATIVE=OFF", "-DSEGC_OPENCV=OFF", "-DCMAKE_CXX_FLAGS=-Wall -Wextra"]
        for command in (
            ["cmake", "-S", bundle / FOLDER, "-B", build, "-DCMAKE_BUILD_TYPE=None", *options],
            ["cmake", "--build", build],
        ):
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            assert "warning:" not in done.stderr
        return build / "segment"

    return built


@pytest.fixture
def segment(program: Callable[[str], Path], tmp_path: Path) -> Segment:
    """Runs the program of a target with these arguments."""

    def run(target: str, *words: object) -> subprocess.CompletedProcess[str]:
        command = [str(program(target)), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return run


def pictures(folder: Path) -> list[Path]:
    """Ten: of odd sizes, grey, with a palette, of 16 bits, turned, and of other formats than PNG."""
    sizes = [(48, 64), (37, 53), (61, 29), (24, 40), (91, 17), (33, 33), (70, 45), (52, 66), (40, 41), (29, 77)]
    photos = [photograph(*size, seed=number) for number, size in enumerate(sizes)]
    exif = Pillow.Exif()
    exif[0x112] = 6
    saves: list[Callable[[Path, np.ndarray], object]] = [
        lambda path, photo: cv2.imwrite(f"{path}.png", photo), lambda path, photo: cv2.imwrite(f"{path}.bmp", photo),
        lambda path, photo: cv2.imwrite(f"{path}.ppm", photo),
        lambda path, photo: cv2.imwrite(f"{path}.pgm", photo[..., 0]),
        lambda path, photo: Pillow.fromarray(photo).convert("P").save(f"{path}.png"),
        lambda path, photo: cv2.imwrite(f"{path}.png", photo[..., 1]),
        lambda path, photo: cv2.imwrite(f"{path}.png", photo.astype(np.uint16) * 256),
        lambda path, photo: Pillow.fromarray(photo).save(f"{path}.png", exif=exif),
        lambda path, photo: cv2.imwrite(f"{path}.png", np.dstack([photo, photo[..., 0]])),
        lambda path, photo: Pillow.fromarray(photo).save(f"{path}.png", optimize=True),
    ]  # fmt: skip
    for number, (save, photo) in enumerate(zip(saves, photos, strict=True)):
        save(folder / f"picture-{number}", photo)
    return sorted(folder.glob("picture-*"))


def few_variants(target: str, folder: Path) -> dict[str, Path]:
    """Bundles for whole images, sliding windows, and masks from small logits."""
    return {kind: target_bundles.bundle(target, kind, folder) for kind in ("whole", "slide", "host-mask")}


def variants(target: str, folder: Path) -> dict[str, Path]:
    """Bundles of every way from an image to a mask."""
    made = few_variants(target, folder)
    whole = read_bundle(made["whole"])
    how = tiny_bundles.manifest(
        preprocessing__resize={"scale": [50, 44], "keep_ratio": True},
        preprocessing__pad={"size": None, "divisor": 16, "value": 1.5},
        preprocessing__mean=[120.0, 110.0, 100.0], preprocessing__std=[60.0, 50.0, 40.0],
    ).preprocessing  # fmt: skip
    host = dataclasses.replace(read_bundle(made["host-mask"]), preprocessing=how)
    made["resized"] = target_bundles.rewritten(
        made["whole"], folder / "resized", dataclasses.replace(whole, preprocessing=how)
    )
    made["host-mask resized"] = target_bundles.rewritten(made["host-mask"], folder / "host-resized", host)
    direct = dataclasses.replace(whole.inference, direct=True)
    made["direct"] = target_bundles.rewritten(
        made["resized"], folder / "direct", dataclasses.replace(whole, preprocessing=how, inference=direct)
    )
    source = tiny_models.source(folder)
    made["mask"] = segc.compile(source, target=target, output="mask", out=folder / "mask").path
    made["one class"] = segc.compile(
        tiny_models.source(folder, name="one.py", channels=1), target=target, output="logits", out=folder / "one"
    ).path
    made["small logits"] = segc.compile(source, target=target, output="mask", decode="host", out=folder / "small").path
    if target != "ncnn":
        made["images"] = segc.compile(source, target=target, input="uint8", output="mask", out=folder / "images").path
    return made


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "ncnn"])
def test_masks_are_those_of_python_byte_for_byte(segment: Segment, target: str, tmp_path: Path) -> None:
    where(target)
    require_equal_masks(segment, target, few_variants(target, tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "ncnn"])
def test_masks_of_every_kind_of_bundle_are_those_of_python(segment: Segment, target: str, tmp_path: Path) -> None:
    where(target)
    require_equal_masks(segment, target, variants(target, tmp_path), tmp_path)


def require_equal_masks(segment: Segment, target: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    files = pictures(tmp_path)
    assert len(files) == 10
    for name, bundle in bundles.items():
        masks = [tmp_path / f"{path.stem}-{name}-mask.png" for path in files]
        words = [word for pair in zip(files, masks, strict=True) for word in pair]
        done = segment(target, "--threads", 2, bundle, *words)
        assert (done.returncode, done.stderr) == (0, ""), name
        engine = segc.load(bundle, threads=2)
        for path, mask in zip(files, masks, strict=True):
            want = engine.segment(engine.read(path))
            found = Pillow.open(mask)
            assert found.mode == "P"
            np.testing.assert_array_equal(np.asarray(found), want.mask, err_msg=f"{name}, {path.name}")
            colours = np.array(found.getpalette()).reshape(-1, 3)
            np.testing.assert_array_equal(colours[: len(want.palette)], want.palette)


def test_more_than_256_classes_are_written_with_16_bits(segment: Segment, tmp_path: Path) -> None:
    source = tiny_models.source(tmp_path, channels=300)
    bundle = segc.compile(source, output="mask", decode="host", out=tmp_path / "b").path
    cv2.imwrite(str(tmp_path / "i.png"), photograph(50, 61))
    assert segment("onnxruntime", bundle, "i.png", "m.png").returncode == 0
    found = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, segc.load(bundle).segment(cv2.imread(str(tmp_path / "i.png"))).mask)


def test_every_target_has_a_program_and_its_bundles_carry_it(program: Callable[[str], Path]) -> None:
    for name in targets.names():
        folder = targets.get(name).program
        assert folder is not None and {p.name for p in folder.iterdir()} == {"runner.hpp", "link.cmake"}, name
    bundle = program("onnxruntime").parents[1] / "onnxruntime-whole"
    assert {f"{FOLDER}/{name}" for name in ("segc.hpp", "main.cpp", "runner.hpp", "CMakeLists.txt")} <= set(
        read_bundle(bundle).files
    )
    assert (bundle / FOLDER / "segc.hpp").read_bytes() == (SHARED / "segc.hpp").read_bytes()


def test_what_cannot_be_done_ends_with_the_exit_code_of_its_kind(segment: Segment, tmp_path: Path) -> None:
    bundle = target_bundles.bundle("onnxruntime", "whole", tmp_path)
    cv2.imwrite(str(tmp_path / "i.png"), photograph(20, 30))
    (tmp_path / "i.gif").write_bytes(b"GIF89a")
    manifest = read_bundle(bundle)
    own = dataclasses.replace(manifest.preprocessing, steps=(segc.bundle.preprocessing.Clahe(limit=2.0, grid=(8, 8)),))
    clahe = target_bundles.rewritten(bundle, tmp_path / "clahe", dataclasses.replace(manifest, preprocessing=own))
    other = dataclasses.replace(manifest, target=dataclasses.replace(manifest.target, name="openvino"))
    others = target_bundles.rewritten(bundle, tmp_path / "others", other)
    fixed = segc.compile(tiny_models.onnx_file(tmp_path), out=tmp_path / "fixed").path
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"not a model" * 20)
    cases: list[tuple[list[object], int, str]] = [
        ([], 2, "usage:"),
        (["--threads", "many", bundle, "i.png", "m.png"], 2, "usage:"),
        ([bundle, "i.png"], 2, "usage:"),
        ([tmp_path / "nowhere", "i.png", "m.png"], 6, "cannot read"),
        ([damaged, "i.png", "m.png"], 6, "model.onnx is damaged"),
        ([clahe, "i.png", "m.png"], 4, "the step 'clahe'"),
        ([others, "i.png", "m.png"], 2, "the bundle is for openvino"),
        ([bundle, "i.gif", "m.png"], 4, "i.gif: the image is of a format"),
        ([bundle, "nothing.png", "m.png"], 8, "cannot read nothing.png"),
        ([bundle, "i.png", "no/m.png"], 8, "cannot write no/m.png"),
        ([fixed, "i.png", "m.png"], 0, ""),
    ]
    for words, code, said in cases:
        done = segment("onnxruntime", *words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    both = segment("onnxruntime", bundle, "i.gif", "a.png", "i.png", "b.png")
    assert both.returncode == 4 and (tmp_path / "b.png").is_file()  # one that fails does not stop the others
