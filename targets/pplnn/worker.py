"""The process that PPLNN runs in: `python worker.py FD FOLDER`, without anything else of segc.

Written against the Python API of ppl.nn (docs/en/python-api-reference.md there). It answers on the socket FD: first
that it is ready, then each array with the engine's output. What fails is answered in words; what crashes or hangs, the
parent sees.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

DONE, FAILED = "done", "failed"


class StatusError(RuntimeError):
    """A call of PPLNN did not succeed."""


class Runner:
    """The model in FOLDER, loaded with the settings beside it."""

    def __init__(self, folder: Path) -> None:
        from pyppl import common, nn  # type: ignore[import-not-found]

        self.common, self.nn = common, nn
        settings = json.loads((folder / "pplnn.json").read_text())
        device = settings["device"]
        engine = {"x86": self._x86, "cuda": self._cuda}[device](settings[device], folder)
        builder = nn.onnx.RuntimeBuilderFactory.Create()
        self._check("LoadModelFromFile", builder.LoadModelFromFile(str(folder / settings["model"])))
        resources = nn.onnx.RuntimeBuilderResources()
        resources.engines = [engine]
        self._check("SetResources", builder.SetResources(resources))
        self._check("Preprocess", builder.Preprocess())
        self._runtime = self._made("CreateRuntime", builder.CreateRuntime())
        self._kept = (engine, builder)  # the runtime uses both

    def run(self, x: np.ndarray) -> np.ndarray:
        """The first output for `x`, the first input."""
        self._check("ConvertFromHost", self._runtime.GetInputTensor(0).ConvertFromHost(x))
        self._check("Run", self._runtime.Run())
        y = np.array(self._runtime.GetOutputTensor(0).ConvertToHost())
        return y.astype(np.float32) if y.dtype == np.float16 else y

    def _x86(self, own: Mapping[str, Any], _folder: Path) -> Any:
        x86 = self.nn.x86
        options = x86.EngineOptions()
        options.mm_policy = getattr(x86, own["mm_policy"])
        options.disable_avx512 = own["disable_avx512"]
        options.disable_avx_fma3 = own["disable_avx_fma3"]
        engine = self._made("EngineFactory.Create", x86.EngineFactory.Create(options))
        self._check("Configure", engine.Configure(x86.ENGINE_CONF_GRAPH_FUSION, int(own["graph_fusion"])))
        return engine

    def _cuda(self, own: Mapping[str, Any], folder: Path) -> Any:
        cuda = self.nn.cuda
        options = cuda.EngineOptions()
        options.device_id = own["device_id"]
        options.mm_policy = getattr(cuda, own["mm_policy"])
        engine = self._made("EngineFactory.Create", cuda.EngineFactory.Create(options))
        kind = getattr(self.common, f"DATATYPE_{own['kernel_type'].upper()}")
        self._check("Configure", engine.Configure(cuda.ENGINE_CONF_SET_KERNEL_TYPE, kind))
        if own["quick_select"]:
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_USE_DEFAULT_ALGORITHMS))
        algorithms = folder / own["algorithm_file"]
        if algorithms.is_file():  # a bundle is not written to: whoever wants algorithms kept puts the file there
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_IMPORT_ALGORITHMS, str(algorithms)))
        return engine

    def _check(self, call: str, status: Any) -> None:
        if status != self.common.RC_SUCCESS:
            raise StatusError(f"{call}: {self.common.GetRetCodeStr(status)}")

    def _made(self, call: str, made: Any) -> Any:
        if not made:
            raise StatusError(f"{call} gave nothing")
        return made


def serve(connection: Connection, folder: Path) -> None:
    """Load, then answer until the other side hangs up."""
    try:
        runner = Runner(folder)
        connection.send((DONE, None))
        while True:
            connection.send((DONE, runner.run(connection.recv())))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the parent says it
        connection.send((FAILED, f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), Path(sys.argv[2]))
