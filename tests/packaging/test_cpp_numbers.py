"""segc.hpp makes the numbers that Python makes: decoded images, the network's input, masks; and refuses the rest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image as Pillow

from segc.bundle import preprocessing as steps
from segc.bundle.canonical_json import canonical, sha256_of
from segc.bundle.typed import encode
from segc.runtime.images import decode_image
from segc.runtime.masks import dispatch
from segc.runtime.preprocessing import preprocess
from tests.helpers import cpp, image_kinds, tiny_bundles
from tests.helpers.preprocessing_cases import CHANGES, PLAIN
from tests.helpers.tiny_bundles import photograph

pytestmark = cpp.needs_compiler

PHOTOS = [photograph(height, width, seed=height) for height, width in [(37, 53), (61, 29), (1, 40), (64, 64)]]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cpp.Probe]:
    out = tmp_path_factory.mktemp("probe") / "probe.so"
    yield cpp.Probe(cpp.compiled(cpp.HERE / "probe.cpp", out, "-O0", "-fPIC", "-shared"))


def text_of(**changes: Any) -> bytes:
    """A manifest as it lies in a bundle; `a__b=1` changes it."""
    return canonical(tiny_bundles.manifest(**changes).to_json())


def signed(value: dict[str, Any]) -> bytes:
    """Any content with the digest that belongs to it."""
    content = {key: part for key, part in value.items() if key != "sha256"}
    return canonical({**content, "sha256": sha256_of(canonical(content))})


@pytest.mark.parametrize("how", range(len(CHANGES)))
def test_the_input_of_the_network_is_that_of_python(probe: cpp.Probe, how: int) -> None:
    if "pillow" in str(CHANGES[how]).lower() and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older releases of Pillow resize in another order")
    made = steps.Preprocessing(**{**vars(PLAIN), **CHANGES[how]})
    text = text_of(preprocessing=encode(made))
    for photo in PHOTOS:
        want, (bottom, right) = preprocess(photo, made)
        found, kept = probe.preprocess(text, photo)
        assert kept == [want.shape[2] - bottom, want.shape[3] - right]
        np.testing.assert_array_equal(found, want[0])


RESIZES = [
    *(steps.ResizeStep(scale=(1, 1), interpolation=kind) for kind in ("nearest", "bilinear")),
    *(steps.PillowResize(scale=(1, 1), interpolation=kind) for kind in ("nearest", "bilinear", "bicubic", "lanczos")),
]


@pytest.mark.parametrize("step", RESIZES, ids=lambda step: f"{step.step} {step.interpolation}")
def test_resizes_are_those_of_opencv_and_pillow(probe: cpp.Probe, step: steps.ResizeStep | steps.PillowResize) -> None:
    if step.step == "pillow resize" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older releases of Pillow resize in another order")
    rng = np.random.default_rng(0)
    for number in range(60):
        height, width, high, wide = (int(side) for side in rng.integers(1, 130, 4))
        if number % 10 == 0:
            high, wide = (max(1, side // 2) for side in (height, width))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        sized = type(step)(scale=(wide, high), interpolation=step.interpolation)  # type: ignore[arg-type]
        how = steps.Preprocessing(**{**vars(PLAIN), "steps": (sized,)})
        found, _ = probe.preprocess(text_of(preprocessing=encode(how)), image)
        np.testing.assert_array_equal(found, preprocess(image, how)[0][0], err_msg=f"{image.shape} to {high}x{wide}")


def test_grey_images_go_into_all_channels(probe: cpp.Probe) -> None:
    grey = PHOTOS[0][..., 0]
    found, _ = probe.preprocess(text_of(preprocessing=encode(PLAIN)), grey)
    np.testing.assert_array_equal(found, preprocess(grey, PLAIN)[0][0])


def logits_cases(count: int) -> Iterator[tuple[np.ndarray, tuple[int, int], bool, Any, int]]:
    """Smooth and noisy logits of many sizes, some of them not finite, some by way of a size between."""
    rng = np.random.default_rng(1)
    for number in range(count):
        channels = int(rng.integers(1, 40)) if number % 10 else 300
        height, width, high, wide = (int(side) for side in (*rng.integers(1, 30, 2), *rng.integers(1, 120, 2)))
        logits = rng.standard_normal((channels, height, width), np.float32)
        if number % 2:
            logits = np.stack([cv2.blur(plane, (5, 5)) for plane in logits])
        if number % 7 == 0:
            at = tuple(int(rng.integers(side)) for side in logits.shape)
            logits[at] = (np.nan, np.inf, -np.inf)[number % 3]
        via = None
        if number % 4 == 0:
            middle = int(rng.integers(5, 90)), int(rng.integers(5, 90))
            via = middle, (int(rng.integers(3, middle[0] + 1)), int(rng.integers(3, middle[1] + 1)))
        elif number % 5 == 0:
            high = height
        yield logits, (high, wide), number % 3 == 0, via, number % 3 + 1


def test_masks_are_those_of_python(probe: cpp.Probe) -> None:
    for logits, size, align, via, threads in logits_cases(150):
        threshold = 0.3 if len(logits) == 1 else None
        found = probe.mask(logits, size, align, via, threshold, threads)
        if threshold is None:
            want = dispatch.resize_argmax(logits, size, align, via=via)
        else:
            want = dispatch.resize_threshold(logits, size, align, threshold, via=via)
        assert found.dtype == want.dtype
        np.testing.assert_array_equal(found, want, err_msg=f"{logits.shape} to {size}, {align}, {via}")


@pytest.mark.parametrize("threshold", [0.0, 1e-7, 0.5, 0.9, 1.0])
def test_thresholds_are_those_of_python(probe: cpp.Probe, threshold: float) -> None:
    logits = np.random.default_rng(2).standard_normal((1, 9, 11), np.float32) * 6
    want = dispatch.resize_threshold(logits, (40, 31), False, threshold)
    np.testing.assert_array_equal(probe.mask(logits, (40, 31), threshold=threshold), want)


FILES = image_kinds.files(PHOTOS[0])


@pytest.mark.parametrize("name", FILES)
def test_images_are_decoded_as_by_opencv(probe: cpp.Probe, name: str) -> None:
    np.testing.assert_array_equal(probe.decode(text_of(), FILES[name]), decode_image(FILES[name], name))


@pytest.mark.parametrize("name", ["grey", "16 bits of grey", "pgm", "bits"])
def test_grey_images_are_decoded_for_grey_models(probe: cpp.Probe, name: str) -> None:
    loader = {"color": "grayscale", "decoder": "cv2", "float32": False}
    want = decode_image(FILES[name], name, loader=steps.Loader(color="grayscale"))
    np.testing.assert_array_equal(probe.decode(text_of(preprocessing__loader=loader), FILES[name])[..., 0], want)


@pytest.mark.parametrize("name", ["rgb", "palette", "alpha", "turned 6", "grey"])
def test_images_are_decoded_as_by_pillow(probe: cpp.Probe, name: str) -> None:
    loader = {"color": "color", "decoder": "pillow", "float32": False}
    want = decode_image(FILES[name], name, loader=steps.Loader(decoder="pillow"))
    np.testing.assert_array_equal(probe.decode(text_of(preprocessing__loader=loader), FILES[name]), want)


def test_orientation_is_left_alone_where_the_loader_does(probe: cpp.Probe) -> None:
    loader = {"color": "color_ignore_orientation", "decoder": "cv2", "float32": False}
    found = probe.decode(text_of(preprocessing__loader=loader), FILES["turned 6"])
    np.testing.assert_array_equal(found, PHOTOS[0][..., ::-1])


def altered(content: bytes, at: int, by: int = 1) -> bytes:
    return content[:at] + bytes([(content[at] + by) % 256]) + content[at + 1 :]


PILLOW = {"color": "color", "decoder": "pillow", "float32": False}
GREY = {"color": "grayscale", "decoder": "cv2", "float32": False}


@pytest.mark.parametrize(
    ("content", "loader", "code", "said"),
    [
        (b"", None, 4, "of a format that this program does not read"),
        (b"GIF89a", None, 4, "of a format that this program does not read"),
        (b"\xff\xd8\xff\xe0", None, 4, "build this program with stb_image.h or OpenCV"),
        (FILES["rgb"][:-30], None, 8, "cut off"),
        (altered(FILES["rgb"], 60), None, 8, "a checksum is wrong"),
        (FILES["bmp"][:-9], None, 8, "cut off"),
        (FILES["ppm"][:-1], None, 8, "cut off"),
        (b"P6\n70000000 1\n255\n", None, 8, "too large"),
        (b"P6\n1000000 1000000\n255\n", None, 8, "too large"),
        (b"P6\n0 5\n255\n", None, 8, "no pixels"),
        (b"P6\nx 5\n255\n", None, 8, "its header"),
        (b"P6\n2 5\n65535\n", None, 4, "other than 8 bits"),
        (altered(FILES["bmp"], 28, 232), None, 4, "a BMP of a kind"),
        (FILES["16 bits"], PILLOW, 4, "read by Pillow"),
        (FILES["grey and alpha"], PILLOW, 4, "read by Pillow"),
        (FILES["rgb"], GREY, 4, "takes grey images"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_decoded_so_are_refused(
    probe: cpp.Probe, content: bytes, loader: dict[str, Any] | None, code: int, said: str
) -> None:
    text = text_of() if loader is None else text_of(preprocessing__loader=loader)
    with pytest.raises(cpp.Refused, match=said) as refused:
        probe.decode(text, content)
    assert refused.value.code == code


def test_an_animation_is_refused(probe: cpp.Probe) -> None:
    content = io.BytesIO()
    frames = [Pillow.fromarray(photo) for photo in (PHOTOS[0], PHOTOS[0] // 2)]
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(cpp.Refused, match="an animation"):
        probe.decode(text_of(), content.getvalue())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocessing__steps": [{"step": "clahe", "limit": 4.0, "grid": [8, 8]}]}, "the step 'clahe'"),
        ({"preprocessing__steps": [{"step": "own", "module": "a.b", "name": "C", "settings": {}}]}, "the step 'own'"),
        ({"preprocessing__steps": [encode(steps.ResizeStep(scale=(9, 9), interpolation="area"))]}, "OpenCV.* 'area'"),
        ({"preprocessing__loader": {"color": "unchanged", "decoder": "cv2", "float32": False}}, "not as 8 bits"),
        ({"preprocessing__loader": {"color": "color", "decoder": "tifffile", "float32": False}}, "read by tifffile"),
        ({"preprocessing__loader": {"color": "color", "decoder": "cv2", "float32": True}}, "float32"),
        ({"input__shape": [None, 4, None, None], "preprocessing__mean": [0.0] * 4, "preprocessing__std": [1.0] * 4},
         "4 channels"),
    ],
)  # fmt: skip
def test_what_the_program_cannot_do_is_refused_by_name(probe: cpp.Probe, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(cpp.Refused, match=said) as refused:
        probe.preprocess(text_of(**changes), PHOTOS[0])
    assert refused.value.code == 4


@pytest.mark.parametrize("later", [steps.ResizeStep(scale=(9, 9)), steps.Gamma(gamma=2.0)])
def test_steps_of_8_bits_after_normalization_are_refused(probe: cpp.Probe, later: Any) -> None:
    chain = [encode(steps.Normalize(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0), swap=False)), encode(later)]
    with pytest.raises(cpp.Refused, match="not of 8 bits"):
        probe.preprocess(text_of(preprocessing__steps=chain), PHOTOS[0])


def changed(*path: str | int, to: Any) -> bytes:
    """A manifest with a value that Python refuses, under the right digest."""
    value = json.loads(text_of())
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return signed(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "the file, needed: an object"),
        (b'{"a": 1, "a": 2}', "there twice"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 01}', "not JSON"),
        (b"[" * 100 + b"]" * 100, "nested too deeply"),
        (b"[" + b"null," * 1_000_001 + b"0]", "too many values"),
        (text_of() + b"x", "more follows"),
        (text_of().replace(b"tiny", b"tinY"), "damaged"),
        (changed("format", to=2), "format 1"),
        (changed("input", "shape", to=[1, 3]), "input.shape"),
        (changed("input", "shape", to=[1, 3, 0, 5]), r"input.shape\[2\]"),
        (changed("input", "shape", to=[1, 3, 1e9, 5]), r"input.shape\[2\]"),
        (changed("output", "kind", to="boxes"), "output.kind, needed: logits or mask"),
        (changed("output", "channels", to=1), "output.threshold"),
        (changed("preprocessing", "mean", to=[1, "2", 3]), r"preprocessing.mean\[1\]"),
        (changed("preprocessing", "std", to=[1, 0, 3]), "preprocessing.std"),
        (changed("preprocessing", "table", to=[[0]] * 3), r"preprocessing.table\[0\]"),
        (changed("inference", "mode", to="slide"), "inference.crop"),
        (changed("palette", to=[[0, 0, 0]]), "palette"),
    ],
)  # fmt: skip
def test_damaged_manifests_are_refused_by_the_name_of_the_field(probe: cpp.Probe, content: bytes, said: str) -> None:
    with pytest.raises(cpp.Refused, match=said) as refused:
        probe.preprocess(content, PHOTOS[0])
    assert refused.value.code == 6
