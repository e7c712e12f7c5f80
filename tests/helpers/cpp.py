"""Compiling the C++ program of bundles, and its parts as a library."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from segc.packaging.program import SHARED

CXX = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(CXX is None, reason="there is no C++ compiler")
HERE = Path(__file__).parents[1] / "packaging" / "cpp"
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-pthread")


def compiled(source: Path, out: Path, *more: str | Path) -> Path:
    """Compile a file that includes segc.hpp; `more` are further arguments. Returns `out`."""
    assert CXX is not None
    command = [CXX, *FLAGS, f"-I{SHARED}", *map(str, more), str(source), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


class Refused(Exception):  # noqa: N818 - what the library answers, not a failure of the test
    """What the C++ refuses. code: the exit code of the program."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Probe:
    """tests/packaging/cpp/probe.cpp as a library."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.probe_failure.restype = ctypes.c_char_p

    def mask(
        self, logits: np.ndarray, size: tuple[int, int], align: bool = False,
        via: tuple[tuple[int, int], tuple[int, int]] | None = None, threshold: float | None = None, threads: int = 1,
    ) -> np.ndarray:  # fmt: skip
        """The mask of float32 (C, h, w) at `size`. via: as in segc.runtime.masks.dispatch."""
        logits = np.ascontiguousarray(logits, np.float32)
        made = np.empty(size, np.uint8 if len(logits) <= 256 else np.uint16)
        middle = None if via is None else _ints(*via[0], *via[1])
        bound = ctypes.c_double(-1 if threshold is None else threshold)
        self._call("probe_mask", _data(logits), _ints(*logits.shape), _ints(*size), align, middle, bound, threads,
                   0, _data(made))  # fmt: skip
        return made

    def preprocess(self, manifest: bytes, image: np.ndarray, most: int = 1 << 22) -> tuple[np.ndarray, list[int]]:
        """The network's input float32 (C, H, W) of uint8 (H, W) or (H, W, c), and the rows and columns kept."""
        shape = (*image.shape, 1)[:3]
        made, out = _ints(0, 0, 0, 0, 0), np.empty(most, np.float32)
        self._call(
            "probe_preprocess", manifest, _data(np.ascontiguousarray(image)), _ints(*shape), made, _data(out), most
        )
        sizes = list(made)
        return out[: int(np.prod(sizes[:3]))].reshape(sizes[:3]), sizes[3:]

    def decode(self, manifest: bytes, content: bytes, most: int = 1 << 22) -> np.ndarray:
        """The pixels of a file: uint8 (H, W, c)."""
        made, out = _ints(0, 0, 0), np.empty(most, np.uint8)
        self._call("probe_decode", manifest, content, len(content), made, _data(out), most)
        sizes = list(made)
        return out[: int(np.prod(sizes))].reshape(sizes)

    def _call(self, name: str, *arguments: object) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise Refused(code, self._library.probe_failure().decode())


def _ints(*values: int) -> ctypes.Array[ctypes.c_int]:
    return (ctypes.c_int * len(values))(*values)


def _data(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
