"""Every transform that `segment` repeats equals mmcv's and mmseg's own, on files of odd sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segc.bundle import preprocessing as steps
from segc.bundle.preprocessing import Pad, Preprocessing
from segc.bundle.typed import decode, encode
from segc.errors import Code, MissingPackageError, SegcError, SourceError, UsageError
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.mmseg_pipeline import FilePipeline, read_pipeline
from segc.frontend.model import Notes
from segc.runtime.images import read_image
from segc.runtime.own_transforms import load_own
from segc.runtime.preprocessing import preprocess
from segc.runtime.transforms import apply
from tests.helpers.tiny_bundles import photograph

pytest.importorskip("mmseg")
import_mmseg()

LOAD = {"type": "LoadImageFromFile"}
PACK = {"type": "PackSegInputs"}
STEPS: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "ratio kept": [{"type": "Resize", "scale": (96, 64), "keep_ratio": True}],
    "ratio lost": [{"type": "Resize", "scale": (95, 63)}],
    "one number": [{"type": "Resize", "scale": 77, "keep_ratio": True}],
    "factor": [{"type": "Resize", "scale_factor": 0.731, "keep_ratio": True}],
    "two factors": [{"type": "Resize", "scale_factor": (1.3, 0.6)}],
    "a list, as JSON has it": [{"type": "Resize", "scale": [96, 64], "keep_ratio": True}],
    **{
        f"{kind}": [{"type": "Resize", "scale": (61, 97), "interpolation": kind}]
        for kind in ("nearest", "bicubic", "area", "lanczos")
    },
    "to multiple": [{"type": "ResizeToMultiple", "size_divisor": 32}],
    "to multiple, nearest": [{"type": "ResizeToMultiple", "size_divisor": 7, "interpolation": "nearest"}],
    "shortest edge": [{"type": "ResizeShortestEdge", "scale": 71, "max_size": 200}],
    "longest edge": [{"type": "ResizeShortestEdge", "scale": (80, 71), "max_size": 90}],
    "pad to size": [{"type": "Pad", "size": (150, 101)}],
    "pad to less": [{"type": "Pad", "size": (50, 101), "pad_val": 9}],
    "pad to divisor": [{"type": "Pad", "size_divisor": 32, "pad_val": {"img": 255}}],
    "pad to a square": [{"type": "Pad", "pad_to_square": True, "size_divisor": 16}],
    **{
        f"pad {mode}": [{"type": "Pad", "size": (140, 120), "padding_mode": mode}]
        for mode in ("edge", "reflect", "symmetric")
    },
    "crop": [{"type": "CenterCrop", "crop_size": (50, 40)}],
    "crop of less": [{"type": "CenterCrop", "crop_size": (500, 41)}],
    "crop of a padded": [{"type": "CenterCrop", "crop_size": 111, "auto_pad": True}],
    "gamma": [{"type": "AdjustGamma", "gamma": 1.7}],
    "rerange": [{"type": "Rerange", "min_value": -1, "max_value": 1}],
    "all of many": [
        {"type": "AdjustGamma", "gamma": 0.8},
        {"type": "Resize", "scale": (96, 64), "keep_ratio": True},
        {"type": "Rerange"},
        {"type": "ResizeToMultiple", "size_divisor": 8},
        {"type": "RandomFlip", "prob": 0.0},
    ],
}
OF_COLOUR: dict[str, list[dict[str, Any]]] = {
    "pad with colours": [{"type": "Pad", "size": (150, 101), "pad_val": {"img": (1, 2, 3)}}],
    "pad with a float": [{"type": "Pad", "size": (150, 101), "pad_val": {"img": 7.0}}],
    "normalize": [{"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}],
    "normalize bgr": [{"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": False}],
    "to grey": [{"type": "RGB2Gray"}],
    "to one channel": [{"type": "RGB2Gray", "out_channels": 1, "weights": (0.5, 0.25, 0.25)}],
    "clahe": [{"type": "CLAHE", "clip_limit": 2.0, "tile_grid_size": (4, 3)}],
    "pillow": [{"type": "Resize", "scale": (61, 97), "backend": "pillow"}],
    "in a compose": [{"type": "Compose", "transforms": [{"type": "Resize", "scale": (31, 47)}]}],
}
DEPTHS = {"8": (np.uint8, ".png"), "16": (np.uint16, ".png"), "float": (np.float32, ".tif")}


def pipeline(*given: Mapping[str, Any], skipped: Sequence[str] = (), notes: Notes | None = None) -> FilePipeline:
    return read_pipeline({"test_pipeline": list(given)}, skipped, notes or Notes())


def theirs(path: Path, given: Sequence[Mapping[str, Any]]) -> np.ndarray:
    from mmengine.dataset import Compose

    steps_ = [{key: tuple(v) if isinstance(v, list) and key == "scale" else v for key, v in s.items()} for s in given]
    made: np.ndarray = Compose(steps_)({"img_path": str(path)})["inputs"].float().numpy()
    return made


def ours(path: Path, made: FilePipeline, channels: int) -> np.ndarray:
    through = decode(tuple[steps.Step, ...], plain(encode(made.steps)))  # as it is read from a manifest
    how = Preprocessing(
        channel_order="BGR", mean=(0.0,) * channels, std=(1.0,) * channels, resize=None, pad=Pad(),
        loader=made.loader, steps=through,
    )  # fmt: skip
    return preprocess(read_image(path, loader=made.loader), how)[0][0]


def plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))


def file(folder: Path, depth: str, channels: int = 3) -> Path:
    kind, suffix = DEPTHS[depth]
    image = photograph(67, 89).astype(np.float32)
    image = image[..., 0] if channels == 1 else np.dstack([image, image[..., :1] // 2]) if channels == 4 else image
    scaled = image * {"8": 1, "16": 257, "float": 1 / 255}[depth]
    path = folder / f"picture{suffix}"
    cv2.imwrite(str(path), scaled.astype(kind))
    return path


# mmseg's own AdjustGamma fails on values above 255
DEEP = [(name, depth) for name in STEPS for depth in DEPTHS if depth == "8" or "Gamma" not in str(STEPS[name])]


@pytest.mark.parametrize(("name", "depth"), DEEP)
def test_steps_are_mmsegs_bit_for_bit_on_any_depth(tmp_path: Path, name: str, depth: str) -> None:
    load = {**LOAD, "color_type": "unchanged", "to_float32": depth == "16" and "lanczos" not in name}
    given = [load, *STEPS[name], PACK]
    path = file(tmp_path, depth)
    np.testing.assert_array_equal(ours(path, pipeline(*given), 3), theirs(path, given))


@pytest.mark.parametrize("name", OF_COLOUR)
def test_steps_of_colour_are_mmsegs_bit_for_bit(tmp_path: Path, name: str) -> None:
    path, given = file(tmp_path, "8"), [LOAD, *OF_COLOUR[name], PACK]
    expected = theirs(path, given)
    np.testing.assert_array_equal(ours(path, pipeline(*given), len(expected)), expected)


@pytest.mark.parametrize("colour", ["color", "grayscale", "unchanged", "color_ignore_orientation"])
@pytest.mark.parametrize("backend", ["cv2", "pillow"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_loaders_are_mmcvs(tmp_path: Path, colour: str, backend: str, channels: int) -> None:
    given = [{**LOAD, "color_type": colour, "imdecode_backend": backend}, PACK]
    path = file(tmp_path, "8", channels)
    expected = theirs(path, given)
    np.testing.assert_array_equal(ours(path, pipeline(*given), len(expected)), expected)


def test_bands_beyond_four_come_by_tifffile(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    bands = np.random.default_rng(0).integers(0, 65535, (67, 89, 7)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "bands.tif", bands, photometric="minisblack", planarconfig="contig")
    given = [{**LOAD, "imdecode_backend": "tifffile"}, {"type": "Resize", "scale": (41, 55)}, PACK]
    expected = theirs(tmp_path / "bands.tif", given)
    np.testing.assert_array_equal(ours(tmp_path / "bands.tif", pipeline(*given), 7), expected)


def test_annotations_are_not_loaded_and_classes_are_as_good_as_names(tmp_path: Path) -> None:
    from mmcv.transforms import LoadImageFromFile, Resize
    from mmseg.datasets import LoadAnnotations, PackSegInputs

    kinds = ({"type": LoadImageFromFile}, {"type": Resize, "scale": (96, 64), "keep_ratio": True})
    made = pipeline(*kinds, {"type": LoadAnnotations}, {"type": PackSegInputs})
    assert made.steps == (steps.ResizeStep(scale=(96, 64), keep_ratio=True),)
    assert len(made.parts) == 3
    dotted = pipeline({"type": "mmcv.transforms.processing.Resize", "scale": (96, 64), "keep_ratio": True})
    assert dotted.steps == made.steps


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"type": "NoSuchTransform"}, "cannot be built"),
    "several pictures": ({"type": "TestTimeAug", "transforms": [[]]}, "several pictures"),
    "random": ({"type": "RandomCrop", "crop_size": (8, 8)}, "random"),
    "a flip": ({"type": "RandomFlip", "prob": 0.5}, "random"),
    "without a step": ({"type": "ConcatCDInput"}, "no step"),
    "of Pillow alone": ({"type": "Resize", "scale": (8, 8), "backend": "pillow", "interpolation": "box"}, "box"),
    "another decoder": ({**LOAD, "imdecode_backend": "turbojpeg"}, "turbojpeg"),
    "sizes beyond any": ({"type": "Resize", "scale": (1 << 30, 8)}, "number from"),
    "volumes": ({"type": "LoadBiomedicalImageFromFile"}, "no step"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_segment_cannot_repeat_is_refused_by_name(name: str) -> None:
    step, said = REFUSED[name]
    given = [step, PACK] if "Load" in step["type"] else [LOAD, step, PACK]
    with pytest.raises(SourceError) as caught:
        pipeline(*given)
    assert caught.value.code == Code.TEST_PIPELINE
    assert step["type"] in str(caught.value) and said in str(caught.value)


def test_a_second_loader_is_refused() -> None:
    with pytest.raises(SourceError, match="not the first step"):
        pipeline(LOAD, LOAD, PACK)


class Blurred:
    """A transform of one's own that is found by name."""

    def __init__(self, side: int = 3) -> None:
        self.side = side

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, "img": cv2.blur(results["img"], (self.side, self.side))}


def test_a_transform_of_ones_own_is_a_step_that_python_runs(tmp_path: Path) -> None:
    notes, given = Notes(), [LOAD, {"type": Blurred, "side": 5}, {"type": "Resize", "scale": (96, 64)}, PACK]
    made = pipeline(*given, notes=notes)
    assert made.steps[0] == steps.OwnStep(module=__name__, name="Blurred", settings={"side": 5})
    assert any("--python" in note and "Blurred" in note for note in notes)
    path = file(tmp_path, "8")
    functions = load_own(made.steps, allowed=True, where="here")
    image = apply(read_image(path), made.steps, functions)
    np.testing.assert_array_equal(image.transpose(2, 0, 1), theirs(path, given))
    with pytest.raises(UsageError) as caught:
        load_own(made.steps, allowed=False, where="here")
    assert caught.value.code == Code.NEEDS_PYTHON and f"{__name__}.Blurred" in str(caught.value)
    with pytest.raises(UsageError, match="needs Python code"):
        apply(read_image(path), made.steps)


@pytest.mark.parametrize(("name", "kind", "said"), [
    ("NoSuch", MissingPackageError, "AttributeError"), ("Empty", UsageError, "gives no image"),
    ("Broken", MissingPackageError, "out of order"),
])  # fmt: skip
def test_a_class_that_cannot_be_used_is_named(name: str, kind: type[SegcError], said: str) -> None:
    step = steps.OwnStep(module=__name__, name=name, settings={})
    with pytest.raises(kind) as caught:
        apply(photograph(5, 7), [step], load_own([step], allowed=True, where="here"))
    assert said in str(caught.value) and f"{__name__}.{name}" in str(caught.value)


class Empty:
    """It drops the results, as mmcv's transforms may."""

    def __call__(self, _: dict[str, Any]) -> None:
        return None


class Broken:
    """It cannot be made."""

    def __init__(self) -> None:
        raise ValueError("out of order")


def test_a_transform_that_cannot_be_found_is_refused_also_under_a_stock_name_and_left_out_on_request() -> None:
    from mmcv.transforms import Resize

    class Resized(Resize):  # type: ignore[misc]
        def transform(self, results: dict[str, Any]) -> Any:
            return super().transform(results)

    class Named(Resize):  # type: ignore[misc]
        """Other defaults only."""

        def __init__(self, scale: tuple[int, int] = (31, 17)) -> None:
            super().__init__(scale)

    with pytest.raises(SourceError, match="cannot be imported by name"):
        pipeline(LOAD, {"type": Resized, "scale": (8, 8)}, PACK)
    with pytest.raises(SourceError, match="loads files by code of its own"):
        pipeline({"type": Blurred}, PACK)
    with pytest.raises(SourceError, match="no plain values"):
        pipeline(LOAD, {"type": Blurred, "side": {1, 2}}, PACK)
    assert pipeline(LOAD, {"type": Named}, PACK).steps == (steps.ResizeStep(scale=(31, 17)),)
    notes = Notes()
    assert pipeline(LOAD, {"type": Resized, "scale": (8, 8)}, PACK, skipped=["Resized"], notes=notes).steps == ()
    assert any("'Resized'" in note for note in notes)


def test_an_image_that_a_step_cannot_take_is_refused(tmp_path: Path) -> None:
    made = pipeline(LOAD, {"type": "RGB2Gray", "weights": (0.5, 0.5)}, PACK)
    with pytest.raises(SegcError, match="mixes 2 channels"):
        ours(file(tmp_path, "8"), made, 2)
    made = pipeline(LOAD, {"type": "Rerange"}, PACK)
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((5, 7, 3), 9, np.uint8))
    with pytest.raises(SegcError, match="one value"):
        ours(tmp_path / "flat.png", made, 3)
