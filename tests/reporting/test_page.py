"""The page about bundles: in a browser at two widths, light and dark, and what hostile names do to it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import segc
from segc import targets
from segc.bundle.evidence import EVIDENCE, Evidence, read_evidence
from segc.bundle.store import PAGE, read_bundle, unlisted, write_bundle
from segc.compilation.evidence import _any_of, _image
from segc.errors import BundleError, Code
from segc.hybrid.options import Partitioning
from segc.reporting import charts, page
from segc.targets import registry
from segc.targets.openvino.target import OPENVINO
from tests.helpers import browser as chromium
from tests.helpers.tiny_bundles import manifest
from tests.helpers.tiny_models import onnx_file

NET = """g (float[1,3,16,24] x) => (float[1,3,16,24] y)
    <float[4,3,5,5] w = {WEIGHTS}, float[3,4,1,1] v = {MORE}, float[1,4,1,1] none = {0, 0, 0, 0}> {
    a = Conv <pads = [2, 2, 2, 2]> (x, w)  z = Add(a, none)  b = Erf(z)  c = Relu(b)  y = Conv(c, v) }"""
WITHOUT_ERF = dataclasses.replace(OPENVINO, ops={op: row for op, row in OPENVINO.ops.items() if op != "Erf"})
EVIL = '</script><img src=x onerror="alert(1)">'
WIDTHS = [1280, 390]
SCHEMES = ["light", "dark"]
PROFILE = {
    "engine": "engine", "method": "by hand", "total_ms": 3.0,
    "layers": [
        {"name": "a", "op": "Conv", "origin": "net.py:3 forward in body", "module": "body", "ms": 2.0},
        {"name": EVIL, "op": "Relu", "origin": "", "module": "", "ms": 1.0},
    ],
}  # fmt: skip
CLASSES = [{"name": EVIL, "iou": 0.25}, {"name": "b", "iou": None}]
SCORES = {
    "images": 2,
    "columns": [
        {"name": name, "engine": EVIL, "overall": {"m_iou": 0.5, "classes": CLASSES}} for name in ("one", "two")
    ],
}  # fmt: skip


def net(folder: Path) -> Path:
    """Two convolutions and an Erf, with names that would be code in a page that does not escape them."""
    random = np.random.default_rng(3)
    weights, more = (", ".join(f"{x:.6f}" for x in random.standard_normal(count)) for count in (300, 12))
    path = onnx_file(folder, NET.replace("WEIGHTS", weights).replace("MORE", more), name="net.onnx")
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}{EVIL}"
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = f"{name}{EVIL}" if name in "ab" else name
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One engine, and a hybrid of three segments, with hostile names of classes and nodes."""
    folder = tmp_path_factory.mktemp("bundles")
    path = net(folder)
    options: dict[str, Any] = {"classes": [EVIL, "b", "c"], "output": "mask", "decode": "host"}
    plain = segc.compile(path, out=folder / "plain", **options).path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "get", lambda name: WITHOUT_ERF if name == "openvino" else registry.get(name))
        hybrid = segc.compile(
            path, out=folder / "hybrid", target="openvino", partitioning=Partitioning(work_per_byte=0), **options
        ).path
    return [plain, hybrid]


@pytest.fixture(scope="module")
def shown(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of both, with a profile and scores."""
    folder = tmp_path_factory.mktemp("page")
    digest = read_bundle(bundles[0]).to_json()["sha256"]
    (folder / "profile.json").write_text(json.dumps([{"profile": {**PROFILE, "sha256": digest}}]))
    (folder / "val.json").write_text(json.dumps(SCORES))
    made = segc.report(
        bundles, profile=[folder / "profile.json"], scores=[folder / "val.json"], out=folder / "report.html"
    )
    assert made.bundles == tuple(bundles)
    return made.path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    if not chromium.CHROMIUM:
        pytest.skip("Chromium is not installed")
    with chromium.opened() as found:
        yield found


@pytest.fixture
def said() -> list[str]:
    """Errors in the console and requests to elsewhere."""
    return []


def opened(browser: Any, path: Path, said: list[str], width: int = 1280, scheme: str = "light") -> Any:
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    tab.on("request", lambda asked: asked.url.startswith(("data:", path.as_uri())) or said.append(asked.url))
    tab.goto(path.as_uri())
    return tab


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_asks_nobody(browser: Any, shown: Path, said: list[str], width: int, scheme: str) -> None:
    tab = opened(browser, shown, said, width, scheme)
    for _ in range(2):  # with everything closed, and with everything open
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
    assert tab.evaluate("[...document.images].every((each) => each.complete && each.naturalWidth > 0)")
    assert tab.evaluate("[...document.images].every((each) => each.width && each.getAttribute('height'))")
    assert said == []
    tab.close()


def test_nothing_moves_while_the_page_loads(browser: Any, shown: Path, said: list[str]) -> None:
    tab = opened(browser, shown, said)
    moved = tab.evaluate(
        """new Promise((done) => {
            let sum = 0;
            const add = (found) => { for (const each of found.getEntries()) sum += each.value; };
            new PerformanceObserver(add).observe({type: 'layout-shift', buffered: true});
            setTimeout(() => done(sum), 200);
        })"""
    )
    assert moved == 0
    tab.close()


def test_tables_are_sorted_by_a_click(browser: Any, shown: Path, said: list[str]) -> None:
    tab = opened(browser, shown, said)
    cells = (
        "[...document.querySelector('[aria-label^=\"files of\"] tbody').rows].map((row) => [row.cells[0].textContent,"
        " Number(row.cells[1].dataset.value)])"
    )
    heads = '[aria-label^="files of"] >> nth=0 >> button'
    tab.click(f"{heads} >> nth=1")
    up = [size for _, size in tab.evaluate(cells)]
    tab.click(f"{heads} >> nth=1")
    down = [size for _, size in tab.evaluate(cells)]
    assert up == sorted(up) and down == up[::-1] and len(up) > 2
    assert tab.get_attribute('[aria-label^="files of"] th >> nth=1', "aria-sort") == "descending"
    tab.click(f"{heads} >> nth=0")
    names = [name for name, _ in tab.evaluate(cells)]
    assert names == sorted(names)
    assert said == []
    tab.close()


def test_a_pass_shows_its_text_on_click(browser: Any, shown: Path, said: list[str]) -> None:
    tab = opened(browser, shown, said)
    row = tab.locator('[aria-label="passes of plain"] details').first
    assert not row.locator("pre").is_visible()
    row.locator("summary").click()
    assert row.locator("pre").is_visible() and "- " in row.locator("pre").inner_text()
    tab.close()


class Tags(HTMLParser):
    """Every tag and handler of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_hostile_names_are_text(browser: Any, shown: Path, said: list[str]) -> None:
    text = shown.read_text(encoding="utf-8")
    assert EVIL not in text
    tags = Tags()
    tags.feed(text)
    assert tags.tags.count("script") == 1 and tags.handlers == []
    assert all(address.startswith(("#", "data:image/")) for address in tags.addresses)
    tab = opened(browser, shown, said)
    assert EVIL in tab.inner_text("body")
    assert said == []
    tab.close()


def test_the_page_of_a_bundle_bears_its_name(bundles: list[Path]) -> None:
    for each in bundles:
        text = (each / "report.html").read_text(encoding="utf-8")
        assert f"<title>segc: {each.name}</title>" in text and ".segc-" not in text


def test_the_page_of_a_bundle_lies_in_it_and_is_not_listed(bundles: list[Path]) -> None:
    found = read_bundle(bundles[0])
    assert EVIDENCE in found.files and PAGE not in found.files
    assert unlisted(bundles[0], found) == []
    text = (bundles[0] / PAGE).read_text(encoding="utf-8")
    assert "within limits" in text and "noise 16x24" in text and "data:image/png;base64," in text


def test_the_page_says_what_the_bundle_holds(shown: Path) -> None:
    text = re.sub(r"\s+", " ", shown.read_text(encoding="utf-8"))
    for part in ("erf", "refused:", "2.00 ms · body", "50.00 %", "25.00 %", "→", "relative error", "by hand"):
        assert part.lower() in text.lower(), part
    assert len(re.findall('class="segment( host)?"', text)) == 3
    assert text.count("<polyline") == 8  # errors and memory of two bundles, two lines each


def test_evidence_names_tensors_and_passes(bundles: list[Path]) -> None:
    found = read_evidence(bundles[0])
    assert [each.case for each in found.pictures] == ["noise 16x24", "natural image 16x24"]
    assert found.layers and all(float(each.error) < 1e-5 for each in found.layers)
    assert any("Erf" in each.op for each in found.layers)
    assert found.passes and all(each.removed or each.added for each in found.passes)
    report = json.loads((bundles[0] / "report.json").read_text())
    assert all(report["passes"][each.run]["changes"] for each in found.passes)
    assert len(report["timings"]["memory"]) > 4


def test_bundles_without_evidence_have_a_page(tmp_path: Path) -> None:
    with write_bundle(tmp_path / "old") as staging:
        (staging.directory / "model.onnx").write_bytes(b"engine")
        staging.manifest = manifest()
    text = page.render([tmp_path / "old"]).decode()
    assert "Not measured." in text and "Memory was not recorded." in text


def test_damaged_evidence_is_refused(tmp_path: Path) -> None:
    for content in (b"{", b"[]", b'{"layers": 3}'):
        (tmp_path / EVIDENCE).write_bytes(content)
        with pytest.raises(BundleError) as refusal:
            read_evidence(tmp_path)
        assert refusal.value.code == Code.BUNDLE_FILE


def test_a_single_pixel_that_differs_is_seen() -> None:
    different = np.zeros((700, 900), np.uint8)
    different[333, 777] = 1
    small = _any_of(different, (199, 256))
    assert small.shape == (199, 256) and (small == 255).sum() == 1


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_inputs_become_pictures(channels: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, channels, 6, 9)).astype(np.float32)
    info: Any = type("Info", (), {"mean": (0.0,) * channels, "std": (1.0,) * channels, "channel_order": "RGB"})
    made = _image(x, info)
    assert made.shape == (6, 9, 3) and made.dtype == np.uint8 and made.max() == 255 and made.min() == 0


def test_charts_hold_zeros_and_infinities() -> None:
    made = charts.errors(["a", "b", "c"], [0.0, 1e-6, float("inf")], [1e-8, 1e-8, 1e-7])
    heights = [mark.y for mark in made.marks]
    assert heights == sorted(heights, reverse=True) and heights[0] <= charts.HEIGHT - charts.BOTTOM
    assert heights[2] == charts.TOP
    assert charts.memory([(0.0, "open", 10, 10), (2.0, "open", 30, 40)]).bands[0][2] == "open"
    assert [bar.share for bar in charts.bars([("a", "", 1.0), ("b", "", 4.0)])] == [1.0, 0.25]


def test_nothing_is_shown_of_no_layers() -> None:
    assert Evidence().layers == () and charts.bars([]) == ()
