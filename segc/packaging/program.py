"""The C++ program of a bundle, in its folder `cpp`: segc.hpp, which all targets share, and the target's runner.hpp."""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = "cpp"
SHARED = Path(__file__).parent / "cpp"
_RUNNER, _CMAKE, _LINK = "runner.hpp", "CMakeLists.txt", "link.cmake"


def write_program(directory: Path, runner: Path) -> None:
    """Write the program into the bundle in `directory`. runner: the target's folder of runner.hpp and link.cmake."""
    folder = directory / FOLDER
    folder.mkdir()
    for name in ("segc.hpp", "main.cpp"):
        shutil.copyfile(SHARED / name, folder / name)
    shutil.copyfile(runner / _RUNNER, folder / _RUNNER)
    (folder / _CMAKE).write_bytes((SHARED / _CMAKE).read_bytes() + (runner / _LINK).read_bytes())
