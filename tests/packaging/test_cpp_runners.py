"""The C++ program with what this machine may lack: ncnn, TensorRT, PPLNN, OpenCV and stb_image.

Stand-ins have the declarations of the real headers and an engine that gives its input out, so that everything of the
program runs but the runtime. Where the real ones are, they take their place: TENSORRT_INCLUDE names a folder with
NvInfer.h, CUDA_INCLUDE one with cuda_runtime_api.h, PPLNN_CMAKE_DIR that of pplnn-config.cmake, STB_IMAGE the file.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

import segc
from segc import targets
from segc.bundle.store import write_bundle
from segc.packaging.program import FOLDER, SHARED
from segc.targets.pplnn.emit import engine_settings
from segc.targets.protocol import Settings
from tests.helpers import cpp, tiny_bundles, tiny_models

pytestmark = cpp.needs_compiler

STAND_INS = cpp.HERE / "stand_ins"
PLACES = os.environ.get("STB_IMAGE", ""), "/usr/include/stb/stb_image.h", "/usr/include/stb_image.h"
STB = next((path for path in PLACES if Path(path).is_file()), None)


def bundle_of(target: str, folder: Path, files: dict[str, bytes], **options: Any) -> Path:
    """A bundle of `target` with these engine files, for the network that gives its input out."""
    with write_bundle(folder) as staging:
        for name, content in files.items():
            (staging.directory / name).write_bytes(content)
        made_for = {"name": target, "runtime": "1", "options": options, "settings": {}}
        staging.manifest = tiny_bundles.manifest(target=made_for)
        staging.report = tiny_bundles.REPORT
    return folder


def program(target: str, folder: Path, *flags: str) -> Path:
    """The program of a target, compiled with the stand-in for its runtime."""
    runner = targets.get(target).program
    assert runner is not None
    includes = f"-I{runner}", "-isystem", str(STAND_INS / target)
    return cpp.compiled(SHARED / "main.cpp", folder / "segment", "-O0", *includes, *flags)


def segmented(program: Path, bundle: Path, image: np.ndarray) -> tuple[int, str, np.ndarray | None]:
    """The exit code, what is said, and the mask."""
    path, out = bundle.parent / "image.png", bundle.parent / "mask.png"
    cv2.imwrite(str(path), image)
    done = subprocess.run([program, bundle, path, out], capture_output=True, text=True)
    return done.returncode, done.stderr, cv2.imread(str(out), cv2.IMREAD_UNCHANGED) if out.is_file() else None


def colours(mask: np.ndarray | None, image: np.ndarray) -> None:
    """The mask, read as the colours of its palette, is the brightest channel of each pixel."""
    assert mask is not None
    want = image[..., ::-1].argmax(axis=2)
    np.testing.assert_array_equal(mask[..., ::-1].argmax(axis=2), want)


def test_the_tensorrt_program_runs_with_a_stand_in(tmp_path: Path) -> None:
    made, image = program("tensorrt", tmp_path), tiny_bundles.photograph(20, 31)
    bundle = bundle_of("tensorrt", tmp_path / "b", {"model.engine": b"plan"}, flavor="rtx", version="1")
    code, said, mask = segmented(made, bundle, image)
    assert (code, said) == (0, "")
    colours(mask, image)
    refused = bundle_of("tensorrt", tmp_path / "other", {"model.engine": b"x"}, flavor="rtx", version="1")
    code, said, _ = segmented(made, refused, image)
    assert code == 9 and "of another version" in said and "TensorRT does not load the engine" in said
    deferred = bundle_of("tensorrt", tmp_path / "deferred", {"model.onnx": b"x"}, deferred=True, onnx="model.onnx")
    code, said, _ = segmented(made, deferred, image)
    assert code == 6 and "segc build" in said
    code, said, _ = segmented(made, bundle, tiny_bundles.photograph(4, 1200))
    assert code == 9 and "takes no input of this size" in said


@pytest.mark.skipif(
    not {"TENSORRT_INCLUDE", "CUDA_INCLUDE"} <= set(os.environ), reason="no headers of TensorRT and CUDA are named"
)
def test_the_tensorrt_program_compiles_with_the_real_headers(tmp_path: Path) -> None:
    runner = targets.get("tensorrt").program
    real = [word for name in ("TENSORRT_INCLUDE", "CUDA_INCLUDE") for word in ("-isystem", os.environ[name])]
    cpp.compiled(SHARED / "main.cpp", tmp_path / "main.o", "-c", "-O0", f"-I{runner}", *real)


def test_the_ncnn_program_runs_with_a_stand_in(tmp_path: Path) -> None:
    made, image = program("ncnn", tmp_path), tiny_bundles.photograph(21, 31)
    options = {"input": "x", "output": "y", "rank": 3, "dtype": "float32", "use_fp16_packed": False}
    bundle = bundle_of("ncnn", tmp_path / "b", {"model.param": b"7767517", "model.bin": b""}, **options)
    code, said, mask = segmented(made, bundle, image)
    assert (code, said) == (0, "")
    colours(mask, image)
    damaged = bundle_of("ncnn", tmp_path / "damaged", {"model.param": b"1", "model.bin": b""}, **options)
    assert segmented(made, damaged, image)[:2] == (9, "segment: ncnn cannot load the engine\n")
    other = {**options, "output": "z"}
    wrong = bundle_of("ncnn", tmp_path / "wrong", {"model.param": b"7767517", "model.bin": b""}, **other)
    assert segmented(made, wrong, image)[:2] == (9, "segment: the ncnn engine fails\n")


def pplnn_files() -> dict[str, bytes]:
    settings = engine_settings(Settings(options={"device": "x86"}))
    return {"model.onnx": b"model", "pplnn.json": json.dumps(settings).encode()}


def test_the_pplnn_program_runs_with_a_stand_in(tmp_path: Path) -> None:
    made, image = program("pplnn", tmp_path), tiny_bundles.photograph(20, 31)
    bundle = bundle_of("pplnn", tmp_path / "b", pplnn_files(), time_limit=600)
    code, said, mask = segmented(made, bundle, image)
    assert (code, said) == (0, "")
    colours(mask, image)
    cuda = {**pplnn_files(), "pplnn.json": pplnn_files()["pplnn.json"].replace(b'"device": "x86"', b'"device": "cuda"')}
    code, said, _ = segmented(made, bundle_of("pplnn", tmp_path / "cuda", cuda, time_limit=600), image)
    assert code == 4 and "the device cuda" in said
    none = {"pplnn.json": pplnn_files()["pplnn.json"]}
    code, said, _ = segmented(made, bundle_of("pplnn", tmp_path / "none", none, time_limit=600), image)
    assert code == 9 and "LoadModel: not found" in said


@pytest.mark.skipif("PPLNN_CMAKE_DIR" not in os.environ, reason="PPLNN_CMAKE_DIR names no build of ppl.nn")
def test_masks_of_pplnn_are_those_of_its_model_in_onnx_runtime(tmp_path: Path) -> None:
    """The bundle's ONNX file runs in both; the program is built as the page says."""
    source = tiny_models.onnx_file(tmp_path)
    bundle = segc.compile(source, target="pplnn", out=tmp_path / "b").path
    build = tmp_path / "build"
    where = f"-Dpplnn_DIR={os.environ['PPLNN_CMAKE_DIR']}"
    configure = ["cmake", "-S", bundle / FOLDER, "-B", build, where, "-DSEGC_OPENCV=OFF"]
    for command in (configure, ["cmake", "--build", build]):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    image = tiny_bundles.photograph(20, 31)
    code, said, mask = segmented(build / "segment", bundle, image)
    assert (code, said) == (0, "") and mask is not None
    same = segc.compile(source, out=tmp_path / "ort").path
    want = segc.load(same).segment(image)
    palette = np.array(want.palette, np.uint8)[:, ::-1]
    assert (mask == palette[want.mask]).all(axis=2).mean() > 0.999


def manifest_file(folder: Path) -> Path:
    return bundle_of("tensorrt", folder, {"model.engine": b"plan"}, flavor="rtx", version="1")


@pytest.mark.slow
def test_opencv_decodes_where_it_is_linked(tmp_path: Path) -> None:
    flags = "-DSEGC_OPENCV", "-isystem", str(STAND_INS / "opencv")
    made, bundle = program("tensorrt", tmp_path, *flags), manifest_file(tmp_path / "b")
    (tmp_path / "image.tiff").write_bytes(b"colour")
    done = subprocess.run([made, bundle, tmp_path / "image.tiff", tmp_path / "m.png"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (cv2.imread(str(tmp_path / "m.png")) == (255, 0, 0)).all()  # blue
    (tmp_path / "other.tiff").write_bytes(b"other")
    done = subprocess.run([made, bundle, tmp_path / "other.tiff", tmp_path / "n.png"], capture_output=True, text=True)
    assert done.returncode == 8 and "OpenCV finds no image" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(STB is None, reason="there is no stb_image.h")
def test_jpeg_is_decoded_by_stb_image_to_almost_the_same_pixels(tmp_path: Path) -> None:
    """A few steps off those of OpenCV, turned as EXIF says, and refused where the end is missing."""
    flags = f'-DSEGC_STB_IMAGE="{STB}"', "-fPIC", "-shared", "-O1"
    probe = cpp.Probe(cpp.compiled(cpp.HERE / "probe.cpp", tmp_path / "probe.so", *flags))
    text = (tiny_bundles.bundle(tmp_path / "b") / "segc.json").read_bytes()
    exif = Pillow.Exif()
    exif[0x112] = 6
    photo = cv2.GaussianBlur(tiny_bundles.photograph(61, 83), (0, 0), 2)
    for name, options in (("plain", {}), ("turned", {"exif": exif}), ("progressive", {"progressive": True})):
        path = tmp_path / f"{name}.jpg"
        Pillow.fromarray(photo).save(path, quality=92, subsampling=0, **options)  # type: ignore[arg-type]
        want = cv2.imread(str(path)).astype(int)
        found = probe.decode(text, path.read_bytes()).astype(int)
        assert found.shape == want.shape
        assert np.abs(found - want).max() <= 4 and np.abs(found - want).mean() < 0.5
    with pytest.raises(cpp.Refused, match="its end marker is missing"):
        probe.decode(text, path.read_bytes()[:-2])
    with pytest.raises(cpp.Refused, match="stb_image finds no JPEG"):
        probe.decode(text, b"\xff\xd8\xff\xe0" + bytes(40))
