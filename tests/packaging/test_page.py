"""The page in a browser: masks of `segc.load(...).segment`, and no request leaves it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

import segc
from tests.helpers import browser as chromium
from tests.helpers.npm import node_modules
from tests.helpers.target_bundles import changed, rewritten
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import onnx_file

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not chromium.CHROMIUM, reason="Chromium is not installed")

SECONDS = 120
MASK = "(() => { const mask = window.segc.mask(); return [mask.height, mask.width, [...mask.data]]; })()"
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, with the headers that threads need."""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.opened() as found:
        yield found


@dataclass
class Page:
    """A page of a bundle that is open. said: errors in its console. asked: addresses outside it."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def segment(self, picture: Path) -> np.ndarray:
        """The mask that the page shows."""
        self.page.set_input_files("#file", str(picture))
        self.page.wait_for_selector("#legend li", timeout=SECONDS * 1000)
        assert not self.page.query_selector("#status.wrong"), self.page.text_content("#status")
        mask = self.page.evaluate(
            "(() => { const m = window.segc.mask(); return [m.height, m.width, [...m.data]]; })()"
        )
        return np.array(mask[2]).reshape(mask[:2])


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    servers, pages = [], []

    def opened(source: Path) -> Page:
        made = segc.package(
            source, purpose="web", out=tmp_path / "page", onnxruntime_web=node_modules() / "onnxruntime-web"
        )
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=made.path))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        page = browser.new_page()
        pages.append(page)
        shown = Page(page)
        page.on("console", lambda message: message.type == "error" and shown.said.append(message.text))
        page.on("pageerror", lambda error: shown.said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(address) or shown.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#file:not([disabled]), #status.wrong", timeout=SECONDS * 1000)
        assert not page.query_selector("#status.wrong"), page.text_content("#status")
        return shown

    yield opened
    for page in pages:
        page.close()
    for server in servers:
        server.shutdown()


NET = """g (float[1,3,H,W] x) => (float[1,4,H,W] y)
    <float[6,3,3,3] w = {WEIGHTS}, float[4,6,1,1] v = {MORE}> {
    a = Conv <pads = [1, 1, 1, 1], strides = [STRIDE, STRIDE]> (x, w)  b = Relu(a)  y = Conv(b, v) }"""


def net(folder: Path, stride: int) -> Path:
    """Three channels to four classes, with weights that make no ties; of a stride the output is smaller."""
    random = np.random.default_rng(7)
    weights, more = (", ".join(f"{x:.6f}" for x in random.standard_normal(count)) for count in (6 * 27, 24))
    text = NET.replace("WEIGHTS", weights).replace("MORE", more).replace("STRIDE", str(stride))
    return onnx_file(folder, text if stride == 1 else text.replace("4,H,W] y", "4,H2,W2] y"))


def compiled(kind: str, folder: Path) -> Path:
    """A bundle of this kind for ONNX Runtime."""
    asked: dict[str, dict[str, Any]] = {
        "graph mask": {"output": "mask", "dynamic": True},
        "half": {"output": "mask", "decode": "host", "dynamic": True},
        "images": {"output": "mask", "input": "uint8", "shape": (48, 64)},
    }
    folder.mkdir()
    made = segc.compile(
        net(folder, 2 if kind == "half" else 1), out=folder / "plain", **asked.get(kind, {"dynamic": True})
    )
    return made.path if kind in asked else rewritten(made.path, folder / "b", changed(made.manifest, kind))


@pytest.mark.parametrize("kind", ["whole", "slide", "host-mask", "graph mask", "half", "images"])
def test_masks_in_a_browser_are_those_of_python(open_page: Any, tmp_path: Path, kind: str) -> None:
    source = compiled(kind, tmp_path / "bundle")
    page, engine = open_page(source), segc.load(source)
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(tmp_path / name), photograph(161, 293, seed=len(name)))
        page.page.evaluate("document.getElementById('legend').replaceChildren()")
        found, want = page.segment(tmp_path / name), engine.segment(engine.read(tmp_path / name)).mask
        assert found.shape == want.shape
        assert np.mean(found == want) >= 0.9999
    assert page.asked == [] and page.said == []


def test_a_real_photograph(open_page: Any, tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn")
    photo = Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg"
    source = compiled("host-mask", tmp_path / "bundle")
    engine = segc.load(source)
    found, want = open_page(source).segment(photo), engine.segment(engine.read(photo)).mask
    assert np.mean(found == want) >= 0.9999


def test_grey_palette_and_turned_pictures_give_the_masks_of_python(open_page: Any, tmp_path: Path) -> None:
    source = compiled("whole", tmp_path / "bundle")
    page, engine = open_page(source), segc.load(source)
    photo = Pillow.fromarray(photograph(161, 293))
    turned = Pillow.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    photo.convert("L").save(tmp_path / "grey.png")
    photo.quantize(64).save(tmp_path / "palette.png")
    photo.save(tmp_path / "turned.jpg", exif=turned)
    for name in ("grey.png", "palette.png", "turned.jpg"):
        page.page.evaluate("document.getElementById('legend').replaceChildren()")
        found, want = page.segment(tmp_path / name), engine.segment(engine.read(tmp_path / name)).mask
        assert found.shape == want.shape and np.mean(found == want) >= 0.9999, name


@pytest.mark.parametrize(("name", "says"), [("deep.png", "16 bits"), ("clear.png", "transparent pixels")])
def test_what_a_browser_decodes_otherwise_is_said(open_page: Any, tmp_path: Path, name: str, says: str) -> None:
    page = open_page(compiled("whole", tmp_path / "bundle"))
    photo = photograph(61, 93)
    cv2.imwrite(str(tmp_path / "deep.png"), photo.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([photo, np.full((61, 93), 100, np.uint8)]))
    page.segment(tmp_path / name)
    page.page.wait_for_function("(says) => document.getElementById('status').textContent.includes(says)", arg=says)


def test_the_picture_that_was_chosen_last_is_shown(open_page: Any, tmp_path: Path) -> None:
    source = compiled("whole", tmp_path / "bundle")
    page, engine = open_page(source), segc.load(source)
    for name, size in (("a.png", (700, 900)), ("b.png", (61, 93))):
        cv2.imwrite(str(tmp_path / name), photograph(*size))
        page.page.set_input_files("#file", str(tmp_path / name))
    page.page.wait_for_function("() => window.segc.mask()?.width === 93", timeout=SECONDS * 1000)
    height, width, data = page.page.evaluate(MASK)
    want = engine.segment(engine.read(tmp_path / "b.png")).mask
    np.testing.assert_array_equal(np.array(data).reshape(height, width), want)


def test_the_model_may_be_loaded_anew_while_it_works(open_page: Any, tmp_path: Path) -> None:
    page = open_page(compiled("whole", tmp_path / "bundle"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph(700, 900))
    page.page.set_input_files("#file", str(tmp_path / "a.png"))
    page.page.evaluate("document.getElementById('provider').dispatchEvent(new Event('change'))")
    page.page.wait_for_selector("#file:not([disabled])", timeout=SECONDS * 1000)
    cv2.imwrite(str(tmp_path / "b.png"), photograph(61, 93))
    assert page.segment(tmp_path / "b.png").shape == (61, 93)


def test_what_is_no_image_is_said(open_page: Any, tmp_path: Path) -> None:
    page = open_page(compiled("whole", tmp_path / "bundle"))
    (tmp_path / "x.png").write_text("no image")
    page.page.set_input_files("#file", str(tmp_path / "x.png"))
    page.page.wait_for_selector("#status.wrong", timeout=SECONDS * 1000)
    assert page.page.text_content("#status").startswith("x.png: ")


def test_the_page_fits_a_phone(open_page: Any, tmp_path: Path) -> None:
    page = open_page(compiled("whole", tmp_path / "bundle"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph(200, 900))
    page.page.set_viewport_size({"width": 360, "height": 740})
    page.segment(tmp_path / "a.png")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
