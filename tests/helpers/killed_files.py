"""What tests of killed work look at: a model with weights beside it, copies of folders, and what is hidden in them."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import onnx

from segc.runtime.ort import open_session

WIDE = """g (float[1,3,4,4] x) => (float[1,400,4,4] y) <float[400,3,1,1] w = {WEIGHTS}> { y = Conv(x, w) }"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def factor(folder: Path) -> float:
    """By how much the weights of m.onnx are i % 17 - 8; all of them by the same."""
    x = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    weights = (np.arange(1200, dtype=np.float32) % 17 - 8).reshape(400, 3)
    want = np.einsum("kc,nchw->nkhw", weights, x)
    onnx.checker.check_model(str(folder / "m.onnx"))
    got = np.asarray(open_session(folder / "m.onnx").run(None, {"x": x})[0])
    found = float(got.flat[0] / want.flat[0])
    np.testing.assert_allclose(got, want * found, rtol=1e-5)
    return found


def fresh(folder: Path, at: Path) -> Path:
    """A copy of `folder`."""
    shutil.rmtree(at, ignore_errors=True)
    shutil.copytree(folder, at)
    return at


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
