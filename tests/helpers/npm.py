"""Packages of npm that tests use: installed once into a cache folder; tests are skipped where they cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from segc.packaging.web import NPM, RUNTIME, VERSION

PACKAGES = (f"{NPM}@{VERSION}", "typescript@5")


@cache
def node_modules() -> Path:
    """The folder with PACKAGES."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = home / "segc-tests" / "+".join(PACKAGES)
    if not (folder / "node_modules" / "typescript" / "package.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install {', '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


def copied(folder: Path, name: str = NPM) -> Path:
    """A folder like that of onnxruntime-web, for tests that copy its files and do not run them."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": "1.30.0"}))
    for file in RUNTIME:
        (folder / "dist" / file).write_text(file)
    return folder
