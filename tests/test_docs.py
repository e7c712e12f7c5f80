"""The commands and code of README and docs run as they stand."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import segc
from segc.bundle.store import read_bundle
from segc.cli import main, parser
from segc.packaging.web import NPM, VERSION
from tests.helpers import cpp, tiny_bundles, videos
from tests.helpers.labelled_images import labelled
from tests.helpers.large_pictures import geotiff
from tests.helpers.npm import node_modules
from tests.helpers.servers import served
from tests.helpers.tiny_models import onnx_file, source

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def blocks(file: str, language: str) -> list[str]:
    """The code blocks of one language in a Markdown file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert found, f"no {language} block in {file}"
    return found


def pages() -> list[Path]:
    """Every Markdown file that git knows."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True)
    found = [ROOT / name for name in names.stdout.decode().split()]
    return [path for path in found if path.is_file()] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in pages()])
def test_links_between_files_lead_somewhere(page: str) -> None:
    """Files of the repository only, and headings in them: nothing here asks the network."""
    broken = []
    for path, anchor in links(ROOT / page):
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def links(page: Path) -> list[tuple[str, str]]:
    """(path, anchor) of each link of a page that is no address; either may be empty."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|href|srcset)=\"([^\"]+)\"", prose)
    local = [a or b for a, b in found if not re.match(r"https?://|mailto:", a or b)]
    return [(path, anchor) for path, _, anchor in (link.partition("#") for link in local)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](b.md) [c](#one-two) [d](https://e.f) `[g](h.md)`\n```\n[i](j.md)\n```\n")
    assert links(page) == [("b.md", ""), ("", "one-two")]
    assert anchors(page) == {"one-two"}


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """`make docs`: every page in the navigation, every link and cross-reference resolved, all from this folder."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    environment = {**ENVIRONMENT, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    public = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    assert [name for name in segc.__all__ if not name.startswith("_") and f">{name}<" not in public] == []


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples and a small photograph, as README and tutorial assume; made once for all tests."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(ROOT / "examples", folder / "examples")
    photo = cv2.imread(str(ROOT / "segc" / "data" / "natural.jpg"))
    cv2.imwrite(str(folder / "photo.jpg"), cv2.resize(photo, (225, 150)))
    return folder


def test_the_commands_of_the_readme_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, but for the size that the dynamic model is traced at, which the example's config makes large."""
    pytest.importorskip("mmseg")
    monkeypatch.chdir(workplace)
    lines = "".join(blocks("README.md", "bash")).splitlines()
    assert {line.split()[1] for line in lines} == {"compile", "run", "verify", "bench", "inspect"}
    for line in lines:
        run(line.replace(" --dynamic ", " --dynamic --trace-shape 64x128 "))
    mask = cv2.imread(str(workplace / "masks" / "photo_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None and mask.shape[:2] == (150, 225)


def run(line: str) -> None:
    """One command as it is typed."""
    words = shlex.split(line)
    if words[0] == "python":
        subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, env=ENVIRONMENT)
        return
    assert words[0] == "segc"
    assert main(words[1:]) == 0, line


@pytest.mark.slow  # tests/packaging/test_program.py builds and runs the same
def test_the_commands_of_the_cpp_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, with the folder of the installed ONNX Runtime; the page's code is compiled with the program."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    if shutil.which("cmake") is None or cpp.CXX is None:
        pytest.skip("there is no CMake, or no C++ compiler")
    monkeypatch.chdir(tmp_path)
    source(tmp_path, name="my_model.py")
    photo = cv2.resize(cv2.imread(str(ROOT / "segc" / "data" / "natural.jpg")), (97, 61))
    cv2.imwrite("photo.png", photo)
    lines = "".join(blocks("docs/cpp.md", "bash")).splitlines()
    assert [line.split()[0] for line in lines] == ["segc", "cmake", "cmake", "build/segment"]
    run(lines[0])
    head, body = blocks("docs/cpp.md", "cpp")[0].split("\n\n", 1)
    (tmp_path / "own.cpp").write_text(f"{head}\nint main() {{\n{body}return mask.at(0, 0);\n}}\n")
    cpp.compiled(tmp_path / "own.cpp", tmp_path / "own.o", "-c", "-Ibundle/cpp")
    folder = str(Path(onnxruntime.__file__).parent / "capi")
    for line in lines[1:]:
        quick = " -DSEGC_OPENCV=OFF -DCMAKE_BUILD_TYPE=None" if line.startswith("cmake -S") else ""
        words = shlex.split(line.replace("ONNXRUNTIME_FOLDER", folder) + quick)
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    mask = segc.load("bundle").segment(photo).mask
    np.testing.assert_array_equal(np.asarray(Image.open("mask.png")), mask)


def test_the_commands_of_the_tutorial_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From training to masks, by ncnn and by ONNX Runtime, which agree; without segc too."""
    pytest.importorskip("torch")
    pytest.importorskip("ncnn")
    monkeypatch.chdir(workplace)
    for line in "".join(blocks("docs/tutorial.md", "bash")).splitlines():
        run(line)
    meta, without_segc = blocks("docs/tutorial.md", "python")
    assert meta in (workplace / "examples" / "tutorial" / "my_model.py").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(compile(without_segc, "tutorial.md", "exec"), scope)
    masks = [np.asarray(Image.open(workplace / folder / "shapes_mask.png")) for folder in ("masks", "masks-ort")]
    assert [(mask == scope["mask"]).mean() > 0.999 for mask in masks] == [True, True]
    counts = np.bincount(masks[0].ravel(), minlength=3)
    assert (counts > 100).all()  # it has learnt all three classes
    assert read_bundle(workplace / "shapes-ncnn").classes == ("background", "disk", "square")


@pytest.mark.skipif("NCNN_CMAKE_DIR" not in os.environ, reason="NCNN_CMAKE_DIR names no build of ncnn")
def test_the_program_of_the_tutorial_gives_the_mask_of_segc(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    for line in "".join(blocks("docs/tutorial.md", "console")).splitlines():
        command = line.removeprefix("$ ").replace("/path/to/ncnn/lib/cmake/ncnn", os.environ["NCNN_CMAKE_DIR"])
        subprocess.run(shlex.split(command), check=True, capture_output=True)
    mask = np.asarray(Image.open(workplace / "masks" / "shapes_mask.png"))
    np.testing.assert_array_equal(cv2.imread("mask.pgm", cv2.IMREAD_UNCHANGED), mask)


def test_every_segc_command_shown_exists() -> None:
    """Those that are only shown at least parse: commands and options are real."""
    shown = [line[2:] for line in "".join(blocks("README.md", "console")).splitlines() if line.startswith("$ segc")]
    assert len(shown) >= 4
    for line in shown:
        parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_python_of_the_readme_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mmseg")
    monkeypatch.chdir(workplace)
    exec(compile("\n".join(blocks("README.md", "python")), "README.md", "exec"), {"__name__": "readme"})
    assert (workplace / "photo_overlay.png").is_file()
    counts = re.findall(r"(\d+)", capsys.readouterr().out.splitlines()[-1])
    photo = cv2.imread(str(workplace / "photo.jpg"))
    assert sum(map(int, counts)) == photo.shape[0] * photo.shape[1]


def test_the_code_of_the_scripting_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    onnx_file(tmp_path, name="model.onnx")
    *code, logs = blocks("docs/scripting.md", "python")
    exec(compile("\n".join(code), "scripting.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "runs on:  one target" in shown and "[1, 8, 12] [1, 2, 8, 12]" in shown
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.onnx", "model-onnxruntime", "compared-onnxruntime", "compared-openvino",
    }  # fmt: skip
    loggers = [logging.getLogger(f"segc{name}") for name in ("", ".pipeline", ".parity")]
    try:
        exec(compile(logs, "scripting.md", "exec"), {})
        assert [logger.level for logger in loggers] == [logging.INFO, logging.DEBUG, logging.WARNING]
    finally:
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
    for line in "".join(blocks("docs/scripting.md", "console")).splitlines():
        run(line.removeprefix("$ SEGC_LOG=debug ").removeprefix("$ "))


def test_the_commands_of_the_page_on_scores_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    source(tmp_path, channels=3, name="my_model.py")
    labelled(tmp_path, count=3)
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("docs/val.md", "bash")).splitlines():
        run(line)
    for line in "".join(blocks("docs/precision.md", "bash")).splitlines():
        run(line)
    assert (tmp_path / "scores" / "val.json").is_file() and (tmp_path / "scores.jsonl").is_file()
    exec(compile(blocks("docs/val.md", "python")[0], "val.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("my-model 0.")


def test_the_commands_of_the_page_on_large_pictures_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    rasterio = pytest.importorskip("rasterio")
    source(tmp_path, channels=3, name="my_model.py")
    geotiff(tmp_path / "field.tif", tiny_bundles.photograph(150, 211))
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("docs/large-pictures.md", "bash")).splitlines():
        run(line)
    with rasterio.open(tmp_path / "masks" / "field_mask.tif") as mask:
        assert mask.shape == (150, 211) and mask.crs == "EPSG:32633"


def test_the_commands_of_the_page_on_streams_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    tiny_bundles.bundle(tmp_path / "my-model")
    (tmp_path / "clips").mkdir()
    videos.video(tmp_path / "drive.mp4", videos.pictures(6, 32, 48), options={"movflags": "faststart"})
    shutil.copy(tmp_path / "drive.mp4", tmp_path / "clips")
    labelled(tmp_path, count=1)[0].rename(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    *lines, piped = "".join(blocks("docs/streams.md", "bash")).splitlines()
    for line in lines:
        run(line)
    command, _, source = piped.partition(" < ")
    with (tmp_path / source).open("rb") as stream:
        words = [sys.executable, "-m", *shlex.split(command)]
        subprocess.run(words, stdin=stream, check=True, capture_output=True, env=ENVIRONMENT)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*_*")}
    assert made == {
        "masks/drive_mask.mkv", "masks/drive_overlay.mp4", "codes/drive_rle.jsonl", "more/drive_mask.mkv",
        "more/0_mask.png", "piped/stdin_mask.mkv", "piped/stdin_overlay.mp4",
    }  # fmt: skip
    for line in "".join(blocks("docs/streams.md", "console")).splitlines():
        parser().parse_args(shlex.split(line.removeprefix("$ ").rpartition("| ")[2])[1:])


def test_the_commands_of_the_page_on_packages_for_the_browser_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundles.bundle(tmp_path / "my-model")
    (tmp_path / "node_modules").symlink_to(node_modules())
    monkeypatch.chdir(tmp_path)
    install, package, serve = "".join(blocks("docs/web.md", "bash")).splitlines()
    assert install == f"npm install {NPM}@{VERSION}"
    run(package)
    assert serve.split()[-1] == "page" and (tmp_path / "page" / "index.html").is_file()


def test_the_commands_of_the_page_on_differences_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    source(tmp_path, name="my_model.py")
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("docs/when-numbers-differ.md", "bash")).splitlines():
        run(line)
    for code in blocks("docs/when-numbers-differ.md", "python"):
        exec(compile(code, "when-numbers-differ.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "nothing nothing differs by more than the limits"


def test_the_commands_of_the_page_on_the_server_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    tiny_bundles.bundle(tmp_path / "my-model")
    cv2.imwrite(str(tmp_path / "photo.jpg"), tiny_bundles.photograph(40, 60))
    monkeypatch.chdir(tmp_path)
    serve, *asks = "".join(blocks("docs/serving.md", "bash")).splitlines()
    assert serve.startswith("segc serve ") and all(ask.startswith("curl ") for ask in asks)
    with served(*shlex.split(serve)[2:]) as (_, address):
        for ask in asks:
            words = shlex.split(ask.replace("http://127.0.0.1:8000", address))
            done = subprocess.run([*words, "--silent", "--fail"], capture_output=True)
            assert done.returncode == 0, done.stderr
    assert b'"classes"' in done.stdout
    for name in ("mask.png", "overlay.png"):
        assert cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).shape[:2] == (40, 60)


def test_the_commands_of_the_page_on_deployment_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "openvino"):
        pytest.importorskip(module)
    source(tmp_path, channels=3, name="my_model.py")
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("docs/deploy.md", "bash")).splitlines():
        run(line)


@pytest.mark.slow
def test_the_commands_of_the_page_on_sources_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, but for sizes; what its downloads would bring is made, small and with random weights."""
    library_sources(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    shown = "".join(blocks("docs/sources.md", "console")).splitlines()
    lines = [line.removeprefix("$ ").partition("  #")[0].rstrip() for line in shown]
    downloads = [line.split() for line in lines if not line.startswith("segc ")]
    assert downloads == [["hf", "download", "nvidia/segformer-b0-finetuned-ade-512-512"]]
    commands = [line for line in lines if line.startswith("segc compile ")]
    assert {line.split()[2].split(":")[0] for line in commands} == {"hf", "smp", "torchvision"}
    for line in commands:
        run(line.replace("512x512", "64x96").replace("--dynamic", "--dynamic --trace-shape 64x96"))
        assert read_bundle(line.split()[-1]).source.weights == "checkpoint"


def library_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights and folders that the page's commands name, and the model of the download in a cache."""
    import torch

    from segc.frontend import torchvision_import
    from segc.frontend.offline import offline

    torchvision_import.prepare()
    smp = pytest.importorskip("segmentation_models_pytorch")
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    from tests.helpers.hf_models import written

    cached = folder / "hub" / "models--nvidia--segformer-b0-finetuned-ade-512-512"
    written("segformer", cached / "snapshots" / "0123", weights=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    torch.manual_seed(0)
    with offline():
        torch.save(smp.Unet("resnet34", encoder_weights=None).state_dict(), folder / "weights.pth")
        saved = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=4)
        saved.save_pretrained(str(folder / "saved"))
    lraspp = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    torch.save(lraspp.state_dict(), folder / "lraspp.pth")


def test_the_op_of_the_ncnn_guide_runs(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    from segc.targets.ncnn.lower import registry as lowerings

    assert "Softsign" not in lowerings.LOWERINGS, "the guide wants another example"
    scope: dict[str, Any] = {"__name__": "ncnn_guide"}
    try:
        exec(compile("\n".join(blocks("docs/adding-an-ncnn-op.md", "python")), "adding-an-ncnn-op.md", "exec"), scope)
        scope["test_softsign_computes_what_onnx_says"](tmp_path)
    finally:
        del lowerings.LOWERINGS["Softsign"]


def test_the_target_of_the_guide_compiles_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import segc
    from segc.targets import registry

    scope: dict[str, object] = {"__name__": "reference_target"}
    exec(compile(blocks("docs/adding-a-target.md", "python")[0], "adding-a-target.md", "exec"), scope)
    known = registry.get
    monkeypatch.setattr("segc.targets.get", lambda name: scope["REFERENCE"] if name == "reference" else known(name))
    monkeypatch.setattr("segc.targets.names", lambda: ["reference"])
    monkeypatch.setattr("segc.targets.runtime_names", lambda: ["reference"])
    monkeypatch.setattr("segc.targets.runtime", lambda _: getattr(scope["REFERENCE"], "runtime"))  # noqa: B009
    source = tmp_path / "net.py"
    source.write_text(
        "import torch\n"
        "model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(),"
        " torch.nn.Upsample(scale_factor=2, mode='bilinear'))\n"
    )
    segc.compile(source, target="reference", shape=(16, 24), out=tmp_path / "bundle")
    y = segc.load(tmp_path / "bundle").run(np.zeros((1, 3, 16, 24), np.float32))["logits"]
    assert y.shape == (1, 4, 16, 24)


def test_the_exit_codes_of_the_docs_are_those_of_the_errors() -> None:
    from segc import errors

    rows = re.findall(r"^\| (\d+) \| (SEGC-[^|]*)\|", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)
    documented = {int(code): set(re.findall(r"SEGC-[A-Z]", names)) for code, names in rows}
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SegcError)]
    actual: dict[int, set[str]] = {}
    for cls in classes:
        actual.setdefault(cls.exit_code, set()).add(cls.general[: len("SEGC-X")])
    assert documented == actual
