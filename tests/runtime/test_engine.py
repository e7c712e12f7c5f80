"""`run` and `segment`: shapes, batches, padding, refusals, and the modes of inference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc
from segc import targets
from segc.errors import BundleError, CompileError, MissingPackageError, SegcError, ShapeError, UsageError
from segc.runtime.engine import Engine, load
from segc.runtime.resize import resize, resize_argmax
from segc.runtime.sessions import Pool
from segc.targets import registry
from segc.targets.protocol import Package, Runtime
from tests.helpers.tiny_bundles import LOGITS, MASK, Recorder, bundle, content, manifest, model, photograph

STATIC = {"input__shape": [1, 3, 24, 32], "input__dynamic": None}
MASKS = {"output": {"name": "y", "kind": "mask", "dtype": "uint8", "channels": 3, "threshold": None, "decode": None}}
SLIDE = {"mode": "slide", "crop": [24, 32], "stride": [16, 20], "align_corners": False}


def brightest(image: np.ndarray) -> np.ndarray:
    """The tiny model's answer: 0 red, 1 green, 2 blue."""
    return image[..., ::-1].argmax(axis=2)


def tensor(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def engine(session: Recorder | None = None, **changes: Any) -> tuple[Engine, Recorder]:
    session = session or Recorder()
    return Engine(manifest(**changes), session), session


# --- loading


def test_a_bundle_loads_and_runs(tmp_path: Path) -> None:
    loaded = segc.load(bundle(tmp_path / "b"), threads=1)
    x = tensor(2, 3, 5, 7)
    np.testing.assert_allclose(loaded.run(x)["logits"], x, rtol=1e-6)
    assert "tiny" in repr(loaded) and loaded.manifest.target.name == "onnxruntime"


def test_a_mask_bundle_gives_masks(tmp_path: Path) -> None:
    loaded = segc.load(bundle(tmp_path / "b", MASK, **MASKS))
    x = tensor(2, 3, 5, 7)
    mask = loaded.run(x)["mask"]
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, x.argmax(1))


def test_loading_needs_neither_torch_nor_mmseg(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b")
    code = f"""
import sys
import segc
assert not {{"numpy", "cv2", "onnx", "onnxruntime", "torch"}} & set(sys.modules), "import segc is heavy"
import numpy as np
segc.load({str(path)!r}, threads=1).segment(np.zeros((4, 4, 3), np.uint8)).counts()
assert not {{"torch", "mmseg", "mmcv", "openvino", "PIL", "rich", "onnxsim"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_damaged_bundle_is_not_loaded(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b")
    (path / "model.onnx").write_bytes((path / "model.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        load(path)


def test_an_engine_the_runtime_refuses_is_a_segc_error(tmp_path: Path) -> None:
    from segc.bundle.store import write_bundle

    with write_bundle(tmp_path / "b") as staging:
        (staging.directory / "model.onnx").write_bytes(b"no model")
        staging.manifest = manifest()
    with pytest.raises(CompileError):
        load(tmp_path / "b")


def private_target(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    runtime = Runtime(**{"load": lambda *_: Recorder(), "package": Package("numpy", "numpy"), **changes})
    monkeypatch.setattr(targets, "runtime_names", lambda: ["private"])
    monkeypatch.setattr(targets, "runtime", {"private": runtime}.__getitem__)


def test_the_target_gets_directory_options_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    private_target(monkeypatch, load=lambda *given: got.extend(given) or Recorder())
    path = bundle(
        tmp_path / "b", target={"name": "private", "runtime": "1", "options": {"hint": "f32"}, "settings": {}}
    )
    load(path, threads=3)
    assert got == [path, {"hint": "f32"}, 3]


def test_a_missing_runtime_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle(tmp_path / "b", target={"name": "private", "runtime": "1", "options": {}, "settings": {}})
    for module in ("no_such_module", "no_such.module"):
        private_target(monkeypatch, package=Package(module, "dist", extra="private"))
        with pytest.raises(MissingPackageError) as caught:
            load(path)
        assert "dist is not installed" in str(caught.value) and "pip install 'segc[private]'" in str(caught.value)
        assert caught.value.exit_code == 7


def test_a_runtime_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Recorder:
        raise ImportError("libfoo.so.3: cannot open shared object file")

    path = bundle(tmp_path / "b", target={"name": "private", "runtime": "1", "options": {}, "settings": {}})
    private_target(monkeypatch, load=fail)
    with pytest.raises(MissingPackageError, match="cannot be imported") as caught:
        load(path)
    assert "libfoo.so.3" in str(caught.value)


def test_an_exception_of_the_runtime_is_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Recorder:
        raise RuntimeError("unsupported opset")

    path = bundle(tmp_path / "b", target={"name": "private", "runtime": "1", "options": {}, "settings": {}})
    private_target(monkeypatch, load=fail)
    with pytest.raises(CompileError, match="cannot load") as caught:
        load(path)
    assert "unsupported opset" in str(caught.value)


def test_an_unknown_target_is_explained(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b", target={"name": "quantum", "runtime": "1", "options": {}, "settings": {}})
    assert "quantum" not in registry.names()
    with pytest.raises(MissingPackageError, match="target 'quantum'"):
        load(path)


def test_a_negative_number_of_threads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threads"):
        load(bundle(tmp_path / "b"), threads=-1)


# --- run


@pytest.mark.parametrize(
    ("x", "kind", "words"),
    [
        (tensor(3, 24, 32), ShapeError, "(1, 3, 24, 32)"),
        (tensor(0, 3, 24, 32), ShapeError, "empty"),
        (tensor(1, 4, 24, 32), ShapeError, "4 channels"),
        (tensor(1, 24, 32, 3), ShapeError, "x.transpose(0, 3, 1, 2)"),
        (tensor(1, 3, 23, 32), ShapeError, "height 23"),
        (tensor(1, 3, 24, 64), ShapeError, "takes 32 pixels"),
        (tensor(1, 3, 24, 32).astype(np.float64), UsageError, "x.astype('float32')"),
        (np.zeros((1, 3, 24, 32), np.uint8), UsageError, "uint8"),
        ([[1.0]], UsageError, "numpy.asarray"),
    ],
)
def test_what_run_cannot_take_is_refused_with_advice(x: Any, kind: type[SegcError], words: str) -> None:
    static, session = engine(**STATIC)
    with pytest.raises(kind) as caught:
        static.run(x)
    assert words in str(caught.value)
    assert not session.shapes


def test_a_torch_tensor_is_told_how_to_become_an_array() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="Tensor") as caught:
        engine()[0].run(torch.zeros(1, 3, 8, 8))
    assert ".numpy()" in str(caught.value)


def test_sizes_outside_of_a_dynamic_range_name_the_range() -> None:
    ranged, _ = engine(input__dynamic={"batch": [1, None], "height": [16, 64], "width": [16, None], "divisor": 16})
    for shape, words in [
        ((1, 3, 15, 32), "16 to 64 pixels, multiples of 16"),
        ((1, 3, 65, 32), "16 to 64"),
        ((1, 3, 32, 8), "16 and more"),
    ]:
        with pytest.raises(ShapeError) as caught:
            ranged.run(tensor(*shape))
        assert words in str(caught.value)


def test_sides_are_padded_with_zeros_to_the_divisor_and_cropped() -> None:
    padded, session = engine(
        input__dynamic={"batch": [1, None], "height": [1, None], "width": [1, None], "divisor": 32}
    )
    x = tensor(2, 3, 33, 64)
    np.testing.assert_array_equal(padded.run(x)["logits"], x)
    assert session.shapes == [(2, 3, 64, 64)]

    def outside(y: np.ndarray) -> np.ndarray:
        assert not y[:, :, 33:].any()
        return y

    engine(Recorder(outside), input__dynamic=content()["input"]["dynamic"] | {"divisor": 32})[0].run(x)


def test_without_a_divisor_nothing_is_padded() -> None:
    plain, session = engine()
    plain.run(tensor(1, 3, 33, 65))
    assert session.shapes == [(1, 3, 33, 65)]


@pytest.mark.parametrize(
    ("batch", "dynamic", "expected"),
    [
        (1, None, [1, 1, 1, 1, 1]),
        (2, None, [2, 2, 2]),
        (8, None, [8]),
        (None, [1, None], [5]),
        (None, [1, 3], [3, 2]),
        (None, [4, 4], [4, 4]),
    ],
)
def test_any_batch_runs_in_parts_the_engine_takes(
    batch: int | None, dynamic: list[Any] | None, expected: list[int]
) -> None:
    ranges = None if dynamic is None else {"batch": dynamic, "height": [1, None], "width": [1, None], "divisor": 1}
    shape = [batch, 3, 8, 8] if ranges is None else [None, 3, None, None]
    batched, session = engine(input__shape=shape, input__dynamic=ranges)
    x = tensor(5, 3, 8, 8)
    np.testing.assert_array_equal(batched.run(x)["logits"], x)
    assert [s[0] for s in session.shapes] == expected


def test_arrays_in_any_memory_order_are_accepted() -> None:
    x = tensor(1, 32, 24, 3).transpose(0, 3, 2, 1)[:, :, ::-1]
    np.testing.assert_array_equal(engine(**STATIC)[0].run(x)["logits"], x)


def test_an_output_that_is_not_the_promised_one_is_refused() -> None:
    for function, changes in [
        (lambda x: x[:, :2], {}),
        (lambda x: x[0], {}),
        (lambda x: x, MASKS),
        (lambda x: x[:0], {}),
    ]:
        with pytest.raises(CompileError, match="gave an output of shape"):
            engine(Recorder(function), **changes)[0].run(tensor(1, 3, 8, 8))


def test_a_failing_runtime_is_wrapped_with_the_input() -> None:
    def fail(_x: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of registers")

    with pytest.raises(CompileError, match="onnxruntime failed") as caught:
        engine(Recorder(fail))[0].run(tensor(1, 3, 8, 9))
    assert "out of registers" in str(caught.value) and "float32[1, 3, 8, 9]" in str(caught.value)


def test_memory_errors_and_ctrl_c_pass_through() -> None:
    for error in (MemoryError, KeyboardInterrupt):

        def fail(_x: np.ndarray, error: type[BaseException] = error) -> np.ndarray:
            raise error

        with pytest.raises(error):
            engine(Recorder(fail))[0].run(tensor(1, 3, 8, 9))


def test_int64_masks_and_float16_logits_take_the_promised_type() -> None:
    assert engine(Recorder(lambda x: x.argmax(1)), **MASKS)[0].run(tensor(1, 3, 8, 8))["mask"].dtype == np.uint8
    half = engine(Recorder(lambda x: x.astype(np.float16)))[0].run(tensor(1, 3, 8, 8))["logits"]
    assert half.dtype == np.float32


# --- segment


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 53), (240, 320)])
def test_a_dynamic_engine_segments_images_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    result = load(bundle(tmp_path / "b")).segment(image)
    assert result.mask.dtype == np.uint8 and result.classes == ("red", "green", "blue")
    np.testing.assert_array_equal(result.mask, brightest(image))


def test_grey_rgba_and_16_bit_images_are_segmented() -> None:
    dynamic, _ = engine()
    image = photograph(20, 30)
    expected = dynamic.segment(image).mask
    np.testing.assert_array_equal(dynamic.segment(np.dstack([image, image[..., 0]])).mask, expected)
    np.testing.assert_array_equal(dynamic.segment(image.astype(np.uint16) * 257).mask, expected)
    assert not dynamic.segment(image[..., 0]).mask.any()
    assert not dynamic.segment(image[..., :1]).mask.any()


def test_a_static_engine_resizes_the_image_to_its_size() -> None:
    resize = {"scale": [32, 24], "keep_ratio": False}
    static, session = engine(**STATIC, preprocessing__resize=resize)
    image = photograph(240, 320)
    mask = static.segment(image).mask
    assert session.shapes == [(1, 3, 24, 32)] and mask.shape == (240, 320)
    small = cv2.resize(image, (32, 24))
    logits = np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)).astype(np.float32)
    np.testing.assert_array_equal(mask, resize_argmax(logits, (240, 320), False))


def test_padding_is_removed_before_the_logits_are_resized() -> None:
    seen = []
    padded, session = engine(
        Recorder(lambda x: seen.append(x) or x),
        preprocessing__pad={"size": None, "divisor": 32, "value": -7.0},
        preprocessing__mean=[9, 9, 9],
    )
    image = photograph(37, 53)
    np.testing.assert_array_equal(padded.segment(image).mask, brightest(image))
    assert session.shapes == [(1, 3, 64, 64)]
    assert (seen[0][0, :, 37:] == -7).all() and (seen[0][0, :, :, 53:] == -7).all()


def test_below_the_least_size_patches_are_padded_and_cropped() -> None:
    """The deviation from mmseg that docs/bundle.md names: there is no engine for the smaller patch."""
    dynamic = {"batch": [1, None], "height": [32, None], "width": [32, None], "divisor": 8}
    small, session = engine(input__dynamic=dynamic)
    for size, shape in [((1, 1), (1, 3, 32, 32)), ((9, 41), (1, 3, 32, 48))]:
        image = photograph(*size)
        np.testing.assert_array_equal(small.segment(image).mask, brightest(image))
        assert session.shapes.pop() == shape


def test_an_image_too_large_for_the_engine_is_refused() -> None:
    for changes in (STATIC, {"input__dynamic": content()["input"]["dynamic"] | {"height": [1, 24]}}):
        with pytest.raises(ShapeError, match="height 25"):
            engine(**changes)[0].segment(photograph(25, 32))


@pytest.mark.parametrize("size", [(24, 32), (5, 7), (23, 90), (61, 100), (25, 33)])
@pytest.mark.parametrize("changes", [STATIC, {}])
def test_sliding_covers_every_image(size: tuple[int, int], changes: dict[str, Any]) -> None:
    sliding, session = engine(**changes, inference=SLIDE)
    image = photograph(*size)
    np.testing.assert_array_equal(sliding.segment(image).mask, brightest(image))
    expected = {(1, 3, 24, 32)} if changes else {(1, 3, min(size[0], 24), min(size[1], 32))}
    assert set(session.shapes) == expected


def test_one_channel_is_compared_with_the_threshold() -> None:
    one = {"name": "y", "kind": "logits", "dtype": "float32", "channels": 1, "threshold": 0.3, "decode": None}
    for extra in ({}, {"inference": SLIDE}):
        binary, _ = engine(
            Recorder(lambda x: x[:, :1] / 64 - 2),
            output=one,
            classes=["no", "yes"],
            palette=[[0, 0, 0], [9, 9, 9]],
            **extra,
        )
        image = photograph(40, 50)
        expected = 1 / (1 + np.exp(2 - image[..., 2] / 64.0)) > 0.3
        np.testing.assert_array_equal(binary.segment(image).mask, expected)


def test_more_than_256_classes_give_uint16_masks() -> None:
    many = {"name": "y", "kind": "logits", "dtype": "float32", "channels": 300, "threshold": None, "decode": None}
    names = {"classes": [f"c{i}" for i in range(300)], "palette": [[0, 0, 0]] * 300}

    def last_wins(x: np.ndarray) -> np.ndarray:
        y = np.zeros((1, 300, *x.shape[2:]), np.float32)
        y[:, 299] = 1
        return y

    mask = engine(Recorder(last_wins), output=many, **names)[0].segment(photograph(8, 9)).mask
    assert mask.dtype == np.uint16 and (mask == 299).all()


def test_masks_are_resized_by_nearest_neighbour() -> None:
    resize = {"scale": [32, 24], "keep_ratio": False}
    masks, _ = engine(Recorder(lambda x: x.argmax(1)), **STATIC, **MASKS, preprocessing__resize=resize)
    image = photograph(48, 64)
    expected = brightest(cv2.resize(image, (32, 24))).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(masks.segment(image).mask, expected)


def test_logits_of_a_lower_resolution_are_brought_to_the_inputs_first() -> None:
    coarse, _ = engine(
        Recorder(lambda x: x[:, :, ::4, ::4]), preprocessing__pad={"size": None, "divisor": 8, "value": 0}
    )
    image = photograph(37, 53)
    x = np.zeros((3, 40, 56), np.float32)
    x[:, :37, :53] = image[..., ::-1].transpose(2, 0, 1)
    expected = resize(x[:, ::4, ::4], (40, 56), False)[:, :37, :53].argmax(0)
    np.testing.assert_array_equal(coarse.segment(image).mask, expected)
    assert coarse.run(tensor(1, 3, 40, 56))["logits"].shape == (1, 3, 10, 14)
    sliding, _ = engine(Recorder(lambda x: x[:, :, ::4, ::4]), **STATIC, inference=SLIDE)
    assert sliding.segment(image).mask.shape == (37, 53)


def test_python_code_that_a_bundle_names_runs_on_request_only(tmp_path: Path) -> None:
    (tmp_path / "own_code_of_a_bundle.py").write_text(
        "open('witness', 'w').close()\n"
        "class Negative:\n"
        "    def __call__(self, results):\n"
        "        return {**results, 'img': 255 - results['img']}\n"
    )
    step = {"step": "own", "module": "own_code_of_a_bundle", "name": "Negative", "settings": {}}
    bundle(tmp_path / "b", preprocessing__steps=[step])
    code = """
import sys, numpy as np, segc
from segc.errors import UsageError
from pathlib import Path
try:
    segc.load("b")
except UsageError as error:
    assert error.code == "SEGC-U118" and "own_code_of_a_bundle.Negative" in str(error), error
assert not Path("witness").exists() and "own_code_of_a_bundle" not in sys.modules
image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
mask = segc.load("b", python=True).segment(image).mask
assert (mask == (255 - image)[..., ::-1].argmax(2)).all()
assert Path("witness").exists()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(BundleError):
        manifest(preprocessing__steps=[{**step, "module": "os; import sys"}])


class Beside(Recorder):
    """A mask at half the size of the logits that it gives beside."""

    def run(self, x: np.ndarray) -> np.ndarray:
        return super().run(x).argmax(1).astype(np.uint8)

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[:, :, ::2, ::2])


@pytest.mark.parametrize("serial", [False, True])
def test_an_engine_for_masks_that_gives_logits_too_is_segmented_by_them(serial: bool) -> None:
    output = {"name": "y", "kind": "mask", "dtype": "uint8", "channels": 3, "threshold": None, "decode": None}
    session: Any = Pool([Beside()]) if serial else Beside()
    given, image = Engine(manifest(output={**output, "beside": {"resize": True}}), session), photograph(40, 56)
    planes = image[..., ::-1].transpose(2, 0, 1).astype(np.float32)
    expected = resize(planes[:, ::2, ::2], (40, 56), False).argmax(0)
    np.testing.assert_array_equal(given.segment(image).mask, expected)
    np.testing.assert_array_equal(given.run(planes[None])["mask"][0], planes.argmax(0))
    with pytest.raises(BundleError, match="beside"):
        manifest(output__beside={"resize": True})


def test_grey_models_take_grey_images_and_refuse_colour(tmp_path: Path) -> None:
    grey, _ = engine(
        Recorder(lambda x: np.concatenate([x, 255 - x, 0 * x], 1)), input__shape=[None, 1, None, None],
        preprocessing__mean=[0], preprocessing__std=[1],
    )  # fmt: skip
    image = photograph(9, 11)
    with pytest.raises(ShapeError, match="grey images"):
        grey.segment(image)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    read = grey.read(tmp_path / "a.png")
    np.testing.assert_array_equal(read, cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE))
    np.testing.assert_array_equal(grey.segment(read).mask, read < 128)
    np.testing.assert_array_equal(grey.segment(read[..., None]).mask, read < 128)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
def test_models_of_many_bands_take_any_numbers(kind: type) -> None:
    many, session = engine(
        Recorder(lambda x: x[:, :3]), input__shape=[None, 5, None, None], preprocessing__mean=[1] * 5,
        preprocessing__std=[2] * 5,
    )  # fmt: skip
    bands: np.ndarray = np.random.default_rng(0).integers(0, 100, (9, 11, 5)).astype(kind)
    np.testing.assert_array_equal(many.segment(bands).mask, bands[..., :3].argmax(2))
    assert session.shapes == [(1, 5, 9, 11)]
    for wrong in (bands[..., :4], bands[..., None], bands[:0]):
        with pytest.raises(ShapeError):
            many.segment(wrong)
    with pytest.raises(UsageError, match="bool"):
        many.segment(bands > 3)


def test_a_very_large_image_is_segmented_in_bounded_memory(tmp_path: Path) -> None:
    """162 million values in; the logits at full size would take 650 MB, and a float64 copy of anything 1.3 GB."""
    resize = {"scale": [512, 512], "keep_ratio": True}
    path = bundle(tmp_path / "b", preprocessing__resize=resize)
    code = f"""
import resource
import numpy as np
import segc
image = np.zeros((6000, 9000, 3), np.uint8)
image[:3000, :, 1] = image[3000:, :, 0] = 200
engine = segc.load({str(path)!r}, threads=1)
engine.segment(image[:60, :90])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = engine.segment(image)
assert result.mask.shape == (6000, 9000)
assert result.counts() == {{"red": 0, "green": 27_000_000, "blue": 27_000_000}}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 400 * 1024  # KiB; the mask itself has 54 MB


def test_a_very_large_image_slides_in_bounded_memory(tmp_path: Path) -> None:
    large = {"mode": "slide", "crop": [1024, 1024], "stride": [1024, 1024], "align_corners": False}
    path = bundle(tmp_path / "b", LOGITS, inference=large)
    loaded = load(path, threads=1)
    image = np.zeros((6000, 2000, 3), np.uint8)
    image[3000:, :, 1] = 200
    assert loaded.segment(image).counts() == {"red": 6_000_000, "green": 6_000_000, "blue": 0}


def test_the_tiny_model_is_valid() -> None:
    import onnx

    for body in (LOGITS, MASK):
        onnx.checker.check_model(model(body))
