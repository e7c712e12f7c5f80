"""A page that runs a bundle of ONNX Runtime in the browser, by onnxruntime-web.

The page's own scripts lie in segc/packaging/page. They make the numbers that `Engine.segment` makes: what they cannot
do is refused here, when the page is made.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from segc.bundle.manifest import Manifest
from segc.bundle.preprocessing import Clahe, OwnStep, PillowResize, Preprocessing, ResizeStep, ResizeToMultiple, Step
from segc.errors import Code, FileError, MissingPackageError, UsageError

PAGE = Path(__file__).parent / "page"
NPM = "onnxruntime-web"
READABLE = "onnxruntime"  # the target whose files onnxruntime-web reads
VERSION = "1.30"  # that the page was tested with
RUNTIME = (
    "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
)  # fmt: skip
_ENGINE = "model.onnx"
_OF_OPENCV = ("nearest", "bilinear")
_OF_PILLOW = ("nearest", "bilinear", "bicubic", "lanczos")
_README = """\
# {name}

A page that segments images in the browser. No image leaves it. Serve this folder, for example:

    python -m http.server --directory .

and open http://localhost:8000. Browsers do not load it from a file.

Several threads need two headers: `Cross-Origin-Opener-Policy: same-origin` and
`Cross-Origin-Embedder-Policy: require-corp`. Some hosts read them from the file `_headers`. Without them the page
works with one thread. The camera needs https or localhost.

`engine.js` can be used without the page: `new Engine(manifest, run).segment(image)`.

onnxruntime-web {version} (MIT licence, Microsoft Corporation) lies in `runtime`.
"""
_HEADERS = "/*\n  Cross-Origin-Opener-Policy: same-origin\n  Cross-Origin-Embedder-Policy: require-corp\n"


def check(manifest: Manifest) -> None:
    """Refuse bundles that the page cannot run, or not as Python does. Raises UsageError."""
    if manifest.segments or manifest.target.name != READABLE:
        engine = manifest.hybrid or manifest.target.name
        _refuse(f"its engine is of {engine}", f"compile the model with --target {READABLE}")
    if set(manifest.files) & {f"{_ENGINE}.data", f"{_ENGINE}_data"}:
        _refuse("its weights lie beside the model, which is too large for a page", "use a smaller model")
    if (channels := manifest.input.shape[1]) != 3:
        _refuse(f"its model takes {channels} channels, and browsers decode images to three", "")
    if why := _not_like_python(manifest.preprocessing):
        _refuse(f"its preprocessing has {why}", "")


def fill(folder: Path, bundle: Path, manifest: Manifest, runtime: Path) -> None:
    """Write the page for `bundle` into `folder`. runtime: the folder of the npm package onnxruntime-web.

    Raises FileError, MissingPackageError.
    """
    version = _version(runtime)
    (folder / "runtime").mkdir()
    for name in RUNTIME:
        source = runtime / "dist" / name
        if not source.is_file():
            raise FileError(
                f"{NPM} in {runtime} has no dist/{name}", code=Code.NOT_FOUND,
                because=f"it is release {version}; the page is made for {VERSION}", so=_install(),
            )  # fmt: skip
        shutil.copyfile(source, folder / "runtime" / name)
    for path in sorted(PAGE.iterdir()):
        if path.suffix in (".js", ".html", ".css"):
            shutil.copyfile(path, folder / path.name)
    for name in ("segc.json", _ENGINE):
        shutil.copyfile(bundle / name, folder / name)
    (folder / "README.md").write_text(_README.format(name=manifest.source.name, version=version), encoding="utf-8")
    (folder / "_headers").write_text(_HEADERS, encoding="utf-8")


def find_runtime(given: str | Path | None) -> Path:
    """The folder of onnxruntime-web: `given`, or that in node_modules here or above. Raises MissingPackageError."""
    here = Path.cwd()
    candidates = [Path(given)] if given else [folder / "node_modules" / NPM for folder in (here, *here.parents)]
    for folder in candidates:
        if (folder / "package.json").is_file():
            return folder
    where = str(given) if given else "node_modules of this folder or one above it"
    raise MissingPackageError(
        f"the npm package {NPM} is not installed", code=Code.OPTIONAL_PACKAGE,
        because=f"there is no package.json of it in {where}",
        so=_install(),
    )  # fmt: skip


def _version(runtime: Path) -> str:
    try:
        found = json.loads((runtime / "package.json").read_text(encoding="utf-8"))
        name, version = found["name"], str(found["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{runtime / 'package.json'} cannot be read", code=Code.UNREADABLE, because=str(error), so=_install()
        ) from error
    if name != NPM:
        raise FileError(f"{runtime} holds the npm package {name}", code=Code.NOT_A_RESULT, so=_install())
    return version


def _install() -> str:
    return f"npm install {NPM}@{VERSION}, or name its folder with --onnxruntime-web"


def _not_like_python(how: Preprocessing) -> str:
    """What a browser cannot do the way Python does, in words; "" if it can do all."""
    loader = how.loader
    if loader is not None and (loader.float32 or loader.decoder == "tifffile" or not loader.color.startswith("color")):
        return f"a loader for images that browsers do not decode so ({loader.decoder}, {loader.color})"
    return next((why for step in how.chain if (why := _cannot(step))), "")


def _cannot(step: Step) -> str:
    if isinstance(step, OwnStep | Clahe):
        return f"the step '{step.step}'"
    if not isinstance(step, ResizeStep | ResizeToMultiple | PillowResize):
        return ""
    pillow = isinstance(step, PillowResize) or (isinstance(step, ResizeStep) and step.backend == "pillow")
    if step.interpolation in (_OF_PILLOW if pillow else _OF_OPENCV):
        return ""
    return f"{'Pillow' if pillow else 'OpenCV'}'s interpolation '{step.interpolation}'"


def _refuse(because: str, so: str) -> None:
    raise UsageError("the bundle cannot become a page", code=Code.PACKAGE, because=because, so=so or ())
