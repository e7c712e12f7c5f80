"""The gate on files: what `segment` makes of a file equals what the source's own code makes of it, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segc.bundle import report
from segc.bundle.manifest import Manifest
from segc.bundle.typed import decode
from segc.compilation import file_gate
from segc.compilation.file_gate import FileCheck
from segc.errors import Code, ParityError
from segc.frontend.model import OnFiles, OwnMask
from segc.parity.limits import Limits
from segc.runtime.engine import Engine
from segc.runtime.images import read_image
from segc.runtime.preprocessing import preprocess
from segc.runtime.resize import resize
from tests.helpers.tiny_bundles import Recorder, content, manifest

LIMITS = Limits(1e-3, 0.999)
RESIZE = {"scale": [96, 64], "keep_ratio": True}


class Own(OnFiles):
    """A source whose network hands its input on. how: what it does to files."""

    shrinks = True

    def __init__(self, how: Manifest, classes: int = 3) -> None:
        self.how, self.classes = how, classes

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray:
        return preprocess(read_image(path, loader=self.how.preprocessing.loader), self.how.preprocessing)[0]

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        image = read_image(path, loader=self.how.preprocessing.loader)
        x = preprocess(image, file_gate.shrunk(self.how, shrink))[0]
        size = (image.shape[0], image.shape[1])
        logits = resize(x[0], size, self.how.inference.align_corners)
        return OwnMask(x, logits.argmax(0), logits)


def checked(ours: Manifest, theirs: OnFiles) -> FileCheck:
    return file_gate.check(Engine(ours, Recorder()), theirs, LIMITS)


def test_equal_ways_pass_on_a_picture_of_an_odd_size() -> None:
    how = manifest(preprocessing__resize=RESIZE)
    found = checked(how, Own(how))
    assert not found.failures and not found.notes
    (case,) = found.cases
    assert (case.tensor_error, case.agreement, case.equal) == (0.0, 1.0, 1.0)
    assert all(side % 2 for side in case.size)


OTHER: dict[str, dict[str, Any]] = {
    "size": {"preprocessing__resize": {"scale": [64, 96], "keep_ratio": False}},
    "steps": {"preprocessing__steps": [{"step": "gamma", "gamma": 1.3}]},
    "mean": {"preprocessing__mean": [1, 0, 0]},
    "order": {"preprocessing__channel_order": "BGR"},
    "padding": {"preprocessing__pad__divisor": 64},
}


@pytest.mark.parametrize("name", OTHER)
def test_another_tensor_is_found(name: str) -> None:
    found = checked(manifest(), Own(manifest(**OTHER[name])))
    (line,) = found.failures
    assert "tensor" in line


def test_another_mask_of_the_same_tensor_is_found() -> None:
    class Moved(Own):
        def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
            made = super().mask(path, how, fixed, shrink)
            assert made.logits is not None
            return replace(made, mask=np.roll(made.mask, 9, 1), logits=np.roll(made.logits, 9, 2))

    how = manifest(preprocessing__resize=RESIZE)
    found = checked(how, Moved(how))
    (line,) = found.failures
    assert "mask" in line and found.cases[0].tensor_error == 0


class Tied(Own):
    """Another class everywhere, by a margin of 1e-4 in its logits."""

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        made = super().mask(path, how, fixed, shrink)
        other = (made.mask + 1) % 3
        lead = (np.arange(3)[:, None, None] == other) * np.float32(1e-4)
        return replace(made, mask=other, logits=lead)


@pytest.mark.parametrize("bound, fine", [(6e-5, True), (4e-5, False), (None, False)])
def test_near_ties_are_what_the_measured_rounding_explains(bound: float | None, fine: bool) -> None:
    how, asked = manifest(), []

    def rounding(x: np.ndarray) -> float | None:
        asked.append(x.shape)
        return bound

    found = file_gate.check(Engine(how, Recorder()), Tied(how), LIMITS, rounding=rounding)
    (case,) = found.cases
    assert (not found.failures, case.agreement, case.equal, case.rounding) == (fine, float(fine), 0.0, bound)
    assert len(asked) == 1 and len(asked[0]) == 4
    assert ("rounding" in case.to_json()) == (bound is not None)


def test_a_case_is_read_from_reports_with_and_without_its_rounding() -> None:
    case = file_gate.FileCase("a", (3, 5), 0.0, 1.0, 1.0)
    for written in (case, replace(case, rounding=1e-6)):
        plain = written.to_json()
        assert decode(report.FileCase, plain, "files").rounding == written.rounding


def test_rounding_is_not_measured_where_masks_are_equal_or_it_fails() -> None:
    def fails(_: np.ndarray) -> float:
        raise RuntimeError("the source's own code fails")

    how = manifest()
    assert not file_gate.check(Engine(how, Recorder()), Own(how), LIMITS, rounding=fails).failures
    (line,) = file_gate.check(Engine(how, Recorder()), Tied(how), LIMITS, rounding=fails).failures
    assert "0.0000% of the mask's pixels equal" in line


def test_large_sizes_are_shrunk_for_both_sides_but_the_tensor_is_not() -> None:
    how = manifest(preprocessing__resize={"scale": [2048, 1024], "keep_ratio": True})
    session = Recorder()
    found = file_gate.check(Engine(how, session), Own(how), LIMITS)
    assert not found.failures
    assert max(shape[2] * shape[3] for shape in session.shapes) <= 512 * 512


def test_what_cannot_be_compared_is_said() -> None:
    class Broken(Own):
        def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray:
            raise KeyError("depth_path")

    found = checked(manifest(), Broken(manifest()))
    assert not found.failures and not found.cases
    assert "KeyError" in found.notes[0] and "depth_path" in found.notes[0]


def unchanged(channels: int, mean: float) -> Manifest:
    pre = {
        "channel_order": "BGR", "mean": [mean] * channels, "std": [mean / 2] * channels, "resize": None,
        "pad": {"size": None, "divisor": None, "value": 0.0},
        "loader": {"color": "unchanged", "decoder": "cv2" if channels in (1, 3, 4) else "tifffile", "float32": False},
    }  # fmt: skip
    count = max(channels, 2)
    out = {"name": "y", "kind": "logits", "dtype": "float32", "decode": None, "channels": channels, "threshold": 0.5}
    return Manifest.from_content(
        content(
            preprocessing=pre, input__shape=[None, channels, None, None], output=out,
            classes=[str(at) for at in range(count)], palette=[[at, at, at] for at in range(count)],
        )
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize(("mean", "first"), [(110, np.uint8), (20000, np.uint16), (0.4, np.float32)])
def test_pictures_are_of_the_kinds_that_the_loader_asks_for(
    tmp_path: Path, channels: int, mean: float, first: type
) -> None:
    how = unchanged(channels, mean)
    made = list(file_gate.pictures(how, tmp_path))
    images = [read_image(path, loader=how.preprocessing.loader) for _, path, _ in made]
    assert images[0].dtype == first
    assert {image.dtype.type for image in images} == {np.uint8, np.uint16, np.float32}
    assert all((1 if image.ndim == 2 else image.shape[2]) == channels for image in images)
    assert all(np.ptp(image.astype(float)) > 0 for image in images)


@pytest.fixture
def differing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A preprocessing that is not what the config's own code does."""
    from segc.bundle.preprocessing import ResizeStep
    from segc.runtime import transforms

    monkeypatch.setitem(transforms._DONE, ResizeStep, lambda image, _: cv2.blur(image, (5, 5)))
    yield


def test_a_compile_whose_files_differ_is_refused_and_published_on_request(differing: None, tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    import segc
    from segc.commands.compile import compile_request
    from segc.compilation.cache import CompileCache
    from segc.compilation.request import Request
    from tests.helpers.tiny_configs import config

    cache, request = CompileCache(), Request(config(tmp_path), out=tmp_path / "b")
    with pytest.raises(ParityError) as caught:
        compile_request(request, cache=cache)
    assert caught.value.code == Code.FILES_DIFFER and not (tmp_path / "b").exists()
    made = compile_request(replace(request, allow_file_difference=True), cache=cache)
    assert any("--allow-file-difference" in note for note in made.report["notes"])
    with pytest.raises(ParityError) as caught:
        segc.verify(tmp_path / "b", source=tmp_path / "tiny_config.py")
    assert caught.value.code == Code.FILES_DIFFER


def test_a_comparison_is_printed_with_what_was_compared() -> None:
    from segc.cli.compile import _file_line

    case = {"name": "a picture of 8 bits, 107x161x3", "size": [107, 161], "tensor_error": 2e-8, "equal": 0.99995}
    said = "a picture of 8 bits, 107x161x3, against the source's own code"
    assert _file_line(case) == f"{said}; input differs by 2.0e-08; 99.9950% of the mask's pixels equal"
    assert _file_line({**case, "tensor_error": None, "equal": None}) == said
