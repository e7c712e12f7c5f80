"""What is built and installed: wheel and sdist hold the passes and targets as real files, and nothing at the top."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distributions
from importlib.metadata import version as metadata
from pathlib import Path

import pytest

from tests.helpers.calls import python

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files git knows, links included: building leaves the work tree alone."""
    folder = tmp_path_factory.mktemp("tree")
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(
        ["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(tree)]
    if (
        "setuptools" in {d.metadata["Name"] for d in distributions()}
        and int(metadata("setuptools").split(".")[0]) >= 77
    ):
        command.append("--no-isolation")  # needs no network
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    wheel = next(built.glob("*.whl"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def expected() -> set[str]:
    """The modules and data of the package, seen through the links."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "passes", "targets", "segc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    known = names.stdout.split()
    found = {name for name in known if name.startswith("segc/") and name.endswith(".py")}
    found |= {f"segc/{name}" for name in known if name.startswith(("passes/", "targets/")) and name.endswith(".py")}
    tables = {f"segc/targets/pplnn/{name}.json" for name in ("capabilities", "facts")}
    return found | tables | {"segc/data/natural.jpg", "segc/data/NOTICE.md", "segc/py.typed"}


def test_the_wheel_holds_every_module_as_a_real_file(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        assert expected() <= set(names)
        assert {name.split("/")[0] for name in names} == {"segc", f"segc-{version()}.dist-info"}
        assert any(name.endswith("/LICENSE") for name in names)
        assert "segc = segc.cli:main" in wheel.read(f"segc-{version()}.dist-info/entry_points.txt").decode()
        for name in names:
            assert wheel.getinfo(name).external_attr >> 28 != 0o12, f"{name} is a link"


def version() -> str:
    from segc import __version__

    return __version__


def test_the_sdist_holds_every_module_as_a_real_file(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        members = {m.name.split("/", 1)[1]: m for m in sdist.getmembers() if "/" in m.name}
        assert expected() <= members.keys()
        assert all(members[name].isfile() for name in expected())
        assert {"LICENSE", "README.md", "pyproject.toml"} <= members.keys()


def test_the_installed_package_works_without_the_source_tree(installed: Path, tmp_path: Path) -> None:
    code = """
import sys, pathlib, segc, segc.passes, segc.targets, segc.passes.masks.fold_argmax
home = pathlib.Path(sys.argv[1])
for module in (segc, segc.passes, segc.targets, segc.passes.masks.fold_argmax):
    assert pathlib.Path(module.__file__).is_relative_to(home), module.__file__
assert not pathlib.Path(segc.passes.__file__).is_symlink()
from segc import targets
from segc.parity import sample_inputs
assert targets.names()[:2] == ["onnxruntime", "openvino"]
assert len(list(sample_inputs.inputs((1, 3, 8, 8), (0, 0, 0), (1, 1, 1), "RGB"))) == 2  # the photograph is there
for name in ("passes", "targets"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")
"""
    rest = sysconfig.get_paths()["purelib"]
    # -S leaves out site-packages with its editable install of segc; the dependencies are found through the path
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(installed)], capture_output=True, text=True, cwd=tmp_path,
        env={"PYTHONPATH": f"{installed}:{rest}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_the_short_name_is_refused_in_the_source_tree(name: str) -> None:
    done = python(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}", cwd=ROOT)
    assert done.code == 1 and f"import segc.{name}" in done.err


def test_the_links_are_relative() -> None:
    for name in ("passes", "targets"):
        assert (ROOT / "segc" / name).readlink() == Path("..") / name
