"""`segc.doctor`: which targets and sources work on this machine, and the command that fixes the others."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from segc.packages import install


@dataclass(frozen=True)
class Finding:
    """One component. so: the command that makes it work, if it does not."""

    what: str
    works: bool
    detail: str
    so: str = ""


def doctor(*, clear_cache: bool = False) -> list[Finding]:
    """Try every target, source and library. Cost: each installed runtime is imported.

    clear_cache: delete the kept traces.
    """
    found = [*(_targets() if _source(*_COMPILER).works else _runtimes()), *_sources(), _masks(), _opencv()]
    return [*found, _traces(clear_cache)]


def _traces(clear: bool) -> Finding:
    """The traces that compiles keep."""
    from segc.traces import folder

    kept = folder.clear() if clear else folder.kept()
    if kept.path is None:
        return Finding("kept traces", True, f"none are kept: {folder.VARIABLE} is empty")
    said = f"{kept.entries} of {kept.bytes / (1 << 20):.0f} MiB in {kept.path}"
    if kept.why:
        return Finding("kept traces", False, f"{said}: {kept.why}", f"chmod 700 '{kept.path}', or delete it")
    return Finding("kept traces", True, f"deleted {said}" if clear else f"{said}; --clear-cache deletes them")


_COMPILER = "source .onnx", ("onnx", "onnx-graphsurgeon", "networkx", "onnxruntime"), install("compiler")


def _runtimes() -> list[Finding]:
    """Each runtime, for installations without the compiler: there is no engine to try."""
    from segc import targets

    found = []
    for name in targets.runtime_names():
        plain = targets.runtime(name)
        package = plain.configure(plain, {}).package
        if package is None:
            found.append(Finding(f"target {name}", True, "runs bundles if its runtime is installed; not tried"))
        elif (installed := _version(package.distribution)) is None:
            found.append(Finding(f"target {name}", False, f"{package.distribution} is not installed", package.install))
        else:
            found.append(Finding(f"target {name}", True, f"runs bundles: {package.distribution} {installed}"))
    return found


def _targets() -> list[Finding]:
    """Each target: emit, load and run a model of one node."""
    from segc import targets
    from segc.compilation.settings import settings_of

    found = []
    for name in targets.names():
        target = targets.get(name)
        package = target.package
        if package is not None and find_spec(package.module) is None:
            found.append(Finding(f"target {name}", False, f"{package.distribution} is not installed", package.install))
            continue
        settings = settings_of(target, "fp32", {})
        target = target.configure(target, settings)
        installed = f"{package.distribution} {version(package.distribution)}" if package else "not packaged"
        unrun = target.cannot_run(settings)
        try:
            _try(target, settings, runs=unrun is None)
        except Exception as error:  # a broken installation may raise anything
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            so = f"pip install --force-reinstall {package.distribution}" if package else ""
            found.append(Finding(f"target {name}", False, reason, so))
        else:
            detail = installed if unrun is None else f"{installed}; {target.status_when_not_run}: {unrun}"
            more = target.explain()
            found.append(Finding(f"target {name}", True, f"{detail}; {more}" if more else detail))
    return found


def _try(target: Any, settings: Any, *, runs: bool) -> None:
    import tempfile
    from pathlib import Path

    import numpy as np
    import onnx.parser

    header = f'<ir_version: 9, opset_import: ["" : {target.opset}]>'
    model = onnx.parser.parse_model(f"{header} g (float[1,1,2,2] x) => (float[1,1,2,2] y) {{ y = Relu(x) }}")
    with tempfile.TemporaryDirectory() as folder:
        emitted = target.emit(model, Path(folder), settings)
        if not runs:
            return
        y = target.load(Path(folder), emitted.options, 1).run(np.full((1, 1, 2, 2), -1, np.float32))
    if y.any():
        raise RuntimeError("the runtime returns a wrong result for Relu(-1)")


def _sources() -> list[Finding]:
    sources = (
        _COMPILER,
        ("source Python file", ("torch", "onnxscript"), install("mmseg")),
        (
            "source mmseg",
            (
                "torch",
                "onnxscript",
                "mmengine or onedl-mmengine",
                "mmcv-lite or mmcv or onedl-mmcv",
                "mmsegmentation or onedl-mmsegmentation",
            ),
            install("mmseg"),
        ),
    )
    return [_source(*source) for source in sources]


def _source(what: str, distributions: tuple[str, ...], so: str) -> Finding:
    """A source that needs these distributions. 'a or b' means that one of them is enough."""
    versions: dict[str, str] = {}
    for names in distributions:
        found = {name: number for name in names.split(" or ") if (number := _version(name))}
        if not found:
            return Finding(what, False, f"{names} is not installed", so)
        versions |= found
    return Finding(what, True, ", ".join(f"{k} {v}" for k, v in versions.items()))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _masks() -> Finding:
    """Whether the compiled kernel makes the masks. Runs it."""
    import numpy as np

    from segc.runtime.masks import dispatch

    try:
        numba = version("numba")
    except PackageNotFoundError:
        return Finding("fast masks", False, "numba is not installed: NumPy makes the masks", install("fast"))
    if dispatch.compiled() is None:
        so = "pip install --force-reinstall numba"
        return Finding("fast masks", False, f"numba {numba} cannot be imported: NumPy makes the masks", so)
    mask = dispatch.resize_argmax(np.eye(2, dtype=np.float32).reshape(2, 1, 2), (2, 4), False, threads=1)
    if mask.tolist() != [[0, 0, 1, 1]] * 2:
        raise RuntimeError("the compiled kernel returns wrong masks")
    return Finding("fast masks", True, f"compiled by numba {numba}")


def _opencv() -> Finding:
    """Whether OpenCV works: several wheels install the folder cv2, and an update of one breaks the others."""
    names = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
    wheels = {name: number for name in names if (number := _version(name))}
    detail = ", ".join(f"{name} {number}" for name, number in wheels.items())
    newest = max(wheels.values(), key=lambda number: [int(part) for part in number.split(".")], default="")
    so = f"pip install --force-reinstall --no-deps 'opencv-python-headless=={newest}'" if newest else ""
    if len(set(wheels.values())) > 1:
        return Finding("images", False, f"wheels of different versions install the folder cv2: {detail}", so)
    try:
        import cv2
        import numpy as np

        works = cv2.resize(np.zeros((2, 2, 3), np.uint8), (4, 4)).shape == (4, 4, 3)
    except Exception as error:  # a broken installation may raise anything
        return Finding("images", False, f"{type(error).__name__}: {error}; installed: {detail}", so)
    return Finding("images", works, detail, "" if works else so)
