"""The files of a golden kit: the cases, the checkers and what they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segc import targets
from segc.bundle.canonical_json import canonical, sha256_of, sha256_of_file
from segc.bundle.manifest import NAME, Manifest
from segc.errors import Code, UsageError
from segc.parity import metrics
from segc.parity.limits import Limits

Array = np.ndarray
_FILES = Path(__file__).with_name("files")
_RUN, _HEADER, _LINK = "run.py.txt", "runner.h.txt", "link.cmake.txt"

_README = """\
# Golden kit of '{name}' for {target}

Inputs, the outputs of the model, and two small checkers. They say whether this machine's engine computes what the model
computes, within the limits of the bundle ({limits}), and where not.

    python check.py                # needs NumPy and the runtime

{cpp}
Either writes result.json. On the machine that made the kit, `segc verify BUNDLE --kit-result result.json` judges it.
"""
_CPP = """\
    cmake -S . -B build && cmake --build build && build/check .    # needs a C++ compiler and the runtime

CMakeLists.txt says how it finds the runtime.
"""
_NO_CPP = "There is no C++ checker: {why}.\n"


def require_usable(manifest: Manifest) -> None:
    """Refuse a bundle whose engine nobody can run without segc. Raises UsageError."""
    if manifest.output.decode is not None:
        raise UsageError(
            "the masks of this bundle are made by segc's runtime", code=Code.UNSUPPORTED_BY_TARGET,
            because="a checker without segc has only the engine", so="compile with --output logits or --decode graph",
        )  # fmt: skip
    lacking = [name for name in dict.fromkeys(_targets(manifest)) if _runner(name) is None]
    if lacking:
        raise UsageError(
            f"there is no kit for {lacking[0]}", code=Code.UNSUPPORTED_BY_TARGET,
            because="nothing says how its engines run without segc",
            so=f"on a machine with the engine and segc: segc verify, for bundles of {lacking[0]}",
        )  # fmt: skip


def write(
    folder: Path, bundle: Path, manifest: Manifest, limits: Limits, cases: Iterable[tuple[str, Array, Array]],
    progress: Callable[[str], None],
) -> list[str]:  # fmt: skip
    """Write a kit into `folder`, and return the names of its cases. cases: name, input, logits or mask."""
    for name in (NAME, *manifest.files):
        (folder / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, folder / "bundle" / name)
    (folder / "cases").mkdir()
    entries = []
    for at, (name, x, reference) in enumerate(cases):
        progress(f"the reference of {metrics.title(name, x)}")
        entries.append(_write_case(folder, at, metrics.title(name, x), x, reference, manifest))
    own = sha256_of_file(bundle / NAME)
    kit = {
        "format": 1, "bundle": own, "target": manifest.target.name, "input": manifest.input.name,
        "output": manifest.output.name, "threshold": _threshold(manifest), "segments": _segments(manifest),
        "limits": {"relative_error": limits.relative_error, "agreement": limits.agreement}, "cases": entries,
    }  # fmt: skip
    content = canonical(kit)
    (folder / "kit.json").write_bytes(content)
    _write_checkers(folder, manifest, limits, kit, sha256_of(content))
    return [entry["name"] for entry in entries]


def _write_case(folder: Path, at: int, name: str, x: Array, reference: Array, manifest: Manifest) -> dict[str, str]:
    mask = reference if reference.ndim == 3 else metrics.mask_of(reference, manifest.output.threshold)
    mask = mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
    parts = {"input": x, "reference": reference if manifest.output.kind == "logits" else mask, "mask": mask}
    for part, array in parts.items():
        np.save(folder / "cases" / f"{at}-{part}.npy", np.ascontiguousarray(array))
    return {"name": name} | {part: f"cases/{at}-{part}.npy" for part in parts}


def _write_checkers(folder: Path, manifest: Manifest, limits: Limits, kit: dict[str, Any], digest: str) -> None:
    shutil.copyfile(_FILES / "check.py.txt", folder / "check.py")
    for name in dict.fromkeys(_targets(manifest)):
        shutil.copyfile(_there(name) / _RUN, folder / f"run_{name}.py")
    header = _there(manifest.target.name) / _HEADER
    why = "several runtimes share the model" if manifest.segments else "there is none for this target yet"
    cpp = _NO_CPP.format(why=why)
    if not manifest.segments and header.is_file():
        shutil.copyfile(_FILES / "check.cpp.txt", folder / "check.cpp")
        shutil.copyfile(header, folder / "runner.h")
        cmake = [(_FILES / "CMakeLists.txt.txt").read_text(), (_there(manifest.target.name) / _LINK).read_text()]
        (folder / "CMakeLists.txt").write_text("".join(cmake))
        (folder / "cases.txt").write_text(_listed(manifest, limits, kit, digest))
        cpp = _CPP
    error = "" if limits.relative_error is None else f"relative error {limits.relative_error:.0e}, "
    said = f"{error}{limits.agreement:.2%} of pixels equal"
    text = _README.format(name=manifest.source.name, target=manifest.target.name, limits=said, cpp=cpp)
    (folder / "README.md").write_text(text)


def _listed(manifest: Manifest, limits: Limits, kit: dict[str, Any], digest: str) -> str:
    """What the C++ checker reads in place of kit.json."""
    error = -1 if limits.relative_error is None else limits.relative_error
    options = {key: value for key, value in manifest.target.options.items() if value is not None}
    lines = [
        f"bundle {kit['bundle']}", f"kit {digest}", f"limits {error:.9g} {limits.agreement:.9g}",
        f"threshold {kit['threshold']:.9g}",
        *(f"option {key} {str(value).lower() if isinstance(value, bool) else value}" for key, value in options.items()),
        *(f"case {at} {case['name']}" for at, case in enumerate(kit["cases"])),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _threshold(manifest: Manifest) -> float:
    return 0.5 if manifest.output.threshold is None else float(manifest.output.threshold)


def _segments(manifest: Manifest) -> list[dict[str, Any]]:
    """The engines in running order."""
    if not manifest.segments:
        names: dict[str, Sequence[str]] = {"inputs": [manifest.input.name], "outputs": [manifest.output.name]}
        return [
            {"target": manifest.target.name, "directory": ".", "options": dict(manifest.target.options)} | names
        ]  # fmt: skip
    return [
        {
            "target": each.target, "directory": each.directory, "options": dict(each.options),
            "inputs": [t.name for t in each.inputs], "outputs": [t.name for t in each.outputs],
        }
        for each in manifest.segments
    ]  # fmt: skip


def _targets(manifest: Manifest) -> list[str]:
    return [each.target for each in manifest.segments] or [manifest.target.name]


def _runner(name: str) -> Path | None:
    return targets.get(name).kit


def _there(name: str) -> Path:
    """The folder of a target's runners, which `require_usable` has asked for."""
    found = _runner(name)
    assert found is not None
    return found
