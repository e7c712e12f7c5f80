"""Compiling kernels where their cache cannot be kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.calls import python

pytest.importorskip("numba")

KERNELS = """
from segc.runtime.masks.jit import compiled

@compiled
def inner(x):
    return x + 1

@compiled
def outer(x):
    return inner(x) * 2
"""
FULL = """
import resource, signal
import kernels
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
print(kernels.outer(20))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes")
def test_kernels_work_where_there_is_no_room_for_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(KERNELS)
    cache = tmp_path / "cache"
    done = python(FULL, env={"NUMBA_CACHE_DIR": str(cache)}, cwd=tmp_path)
    assert (done.code, done.out) == (0, "42\n"), done.err
    assert [file for file in cache.rglob("*") if file.is_file()] == []
