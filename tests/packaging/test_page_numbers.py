"""The page's scripts, run by Node, make the numbers that Python makes: resizing, preprocessing, masks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image as Pillow

from segc.bundle import preprocessing as steps
from segc.bundle.typed import encode
from segc.packaging.web import PAGE
from segc.runtime import resize
from segc.runtime.preprocessing import preprocess
from segc.runtime.slide import starts
from tests.helpers.npm import node_modules
from tests.helpers.preprocessing_cases import CHANGES, PLAIN
from tests.helpers.tiny_bundles import photograph

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")

KINDS = ("nearest", "bilinear", "bicubic", "lanczos")
SIZES = [(37, 53), (61, 29), (1, 40), (64, 64)]
TO = [(20, 31), (74, 106), (64, 64), (90, 17), (32, 32), (5, 120)]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Any]:
    """Calls `answer` of a script, which may use the modules of the page, on each of the cases."""
    folder = tmp_path_factory.mktemp("page")
    for file in PAGE.glob("*.js"):
        shutil.copy(file, folder / file.name)
    (folder / "package.json").write_text('{"type": "module"}')

    def asked(script: str, cases: Any) -> Any:
        (folder / "cases.json").write_text(json.dumps(cases))
        (folder / "main.js").write_text(
            'import fs from "node:fs"; import * as R from "./resize.js"; import * as T from "./transforms.js";'
            'import * as M from "./masks.js"; const image = (i) => ({...i, data: Uint8Array.from(i.data)});'
            "const bytes = (a) => Array.from(new Uint8Array(a.buffer, a.byteOffset, a.byteLength));"
            f"const answer = {script};"
            'const cases = JSON.parse(fs.readFileSync("cases.json"));'
            'fs.writeFileSync("answers.json", JSON.stringify(cases.map(answer)));'
        )
        done = subprocess.run(["node", "main.js"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / "answers.json").read_text())

    return asked


def image(array: np.ndarray) -> dict[str, Any]:
    return {"data": array.ravel().tolist(), "height": array.shape[0], "width": array.shape[1], "channels": 3}


PHOTOS = [photograph(height, width, seed=height) for height, width in SIZES]
PAIRS = [(photo, size) for photo in PHOTOS for size in TO]


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_images_are_resized_as_by_opencv(ask: Callable[..., Any], kind: str) -> None:
    function = {"nearest": "resizeNearest", "bilinear": "resizeBilinear"}[kind]
    cases = [{"image": image(photo), "size": size} for photo, size in PAIRS]
    answers = ask(f"(c) => Array.from(R.{function}(image(c.image), ...c.size).data)", cases)
    number = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR}[kind]
    for (photo, size), answer in zip(PAIRS, answers, strict=True):
        assert cv2.resize(photo, size[::-1], interpolation=number).ravel().tolist() == answer


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older releases resize in another order")
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_resized_as_by_pillow(ask: Callable[..., Any], kind: str) -> None:
    cases = [{"image": image(photo), "size": size} for photo, size in PAIRS]
    answers = ask(f'(c) => Array.from(R.resizePillow(image(c.image), ...c.size, "{kind}").data)', cases)
    for (photo, size), answer in zip(PAIRS, answers, strict=True):
        made = Pillow.fromarray(photo).resize(size[::-1], Pillow.Resampling[kind.upper()])
        assert np.asarray(made).ravel().tolist() == answer


def test_every_step_that_is_not_refused_makes_the_numbers_of_python(ask: Callable[..., Any]) -> None:
    pairs = [(steps.Preprocessing(**{**vars(PLAIN), **change}), photo) for change in CHANGES for photo in PHOTOS[:2]]
    cases = [{"how": encode(how), "image": image(photo)} for how, photo in pairs]
    script = """(c) => { const x = T.preprocess(image(c.image), c.how);
        return {shape: [1, x.channels, x.height, x.width], kept: x.kept, data: bytes(x.data)}; }"""
    for (how, photo), answer in zip(pairs, ask(script, cases), strict=True):
        x, (bottom, right) = preprocess(photo, how)
        assert [*x.shape] == answer["shape"], how
        assert [x.shape[2] - bottom, x.shape[3] - right] == answer["kept"], how
        found = np.array(answer["data"], np.uint8).view(np.float32).reshape(x.shape)
        np.testing.assert_array_equal(found, x, err_msg=str(how))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("channels", "threshold"), [(5, None), (1, 0.4), (300, None)])
def test_masks_are_those_of_python(
    ask: Callable[..., Any], channels: int, threshold: float | None, align: bool
) -> None:
    logits = np.random.default_rng(channels).standard_normal((channels, 7, 9)).astype(np.float32)
    logits[0, 2, 3] = np.nan if channels > 1 else 0
    case = {"data": logits.ravel().view(np.uint8).tolist(), "shape": logits.shape}
    cases = [{**case, "size": size, "how": {"alignCorners": align, "threshold": threshold}} for size in TO]
    script = """(c) => { const data = new Float32Array(Uint8Array.from(c.data).buffer);
        const [channels, height, width] = c.shape;
        return Array.from(M.decide({data, channels, height, width}, c.size, c.how).data); }"""
    for size, answer in zip(TO, ask(script, cases), strict=True):
        if threshold is None:
            want = resize.resize_argmax(logits, size, align)
        else:
            want = resize.resize_threshold(logits, size, align, threshold)
        assert want.ravel().tolist() == answer


def test_patches_begin_where_they_do_in_python(ask: Callable[..., Any]) -> None:
    cases = [(side, crop, stride) for side in (5, 16, 17, 40) for crop in (8, 16) for stride in (3, 8)]
    assert ask("(c) => M.starts(...c)", cases) == [starts(*case) for case in cases]


def test_types_of_the_scripts_are_right() -> None:
    tsc = node_modules() / ".bin" / "tsc"
    done = subprocess.run([str(tsc), "-p", str(PAGE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
