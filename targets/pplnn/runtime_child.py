"""PPLNN in this process, by the Python API of ppl.nn (docs/en/python-api-reference.md there)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import CompileError


class PplnnSession:
    """The model in a folder, loaded with the settings beside it. Flushes denormals in the thread that makes it."""

    def __init__(self, folder: Path, threads: int) -> None:
        if threads:  # OpenMP's, read when the library is loaded
            os.environ["OMP_NUM_THREADS"] = str(threads)
        from pyppl import common, nn  # type: ignore[import-not-found]

        self._common, self._nn = common, nn
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
        inputs = [self._runtime.GetInputTensor(at) for at in range(self._runtime.GetInputCount())]
        self._inputs = {tensor.GetName(): tensor for tensor in inputs}

    def run(self, x: np.ndarray) -> np.ndarray:
        """The only output for the only input."""
        (name,) = self._inputs
        (y,) = self.run_named({name: x}).values()
        return y

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name. Raises CompileError with what PPLNN says."""
        for name, array in inputs.items():
            self._check("ConvertFromHost", self._inputs[name].ConvertFromHost(np.ascontiguousarray(array)))
        self._check("Run", self._runtime.Run())
        outputs = [self._runtime.GetOutputTensor(at) for at in range(self._runtime.GetOutputCount())]
        return {tensor.GetName(): self._array(tensor) for tensor in outputs}

    def _array(self, tensor: Any) -> np.ndarray:
        y = np.array(tensor.ConvertToHost())
        return y.astype(np.float32) if y.dtype == np.float16 else y  # a CUDA engine of half precision

    def _x86(self, own: Mapping[str, Any], _folder: Path) -> Any:
        x86 = self._nn.x86
        options = x86.EngineOptions()
        options.mm_policy = getattr(x86, own["mm_policy"])
        options.disable_avx512 = own["disable_avx512"]
        options.disable_avx_fma3 = own["disable_avx_fma3"]
        engine = self._made("EngineFactory.Create", x86.EngineFactory.Create(options))
        self._check("Configure", engine.Configure(x86.ENGINE_CONF_GRAPH_FUSION, int(own["graph_fusion"])))
        return engine

    def _cuda(self, own: Mapping[str, Any], folder: Path) -> Any:
        cuda = self._nn.cuda
        options = cuda.EngineOptions()
        options.device_id = own["device_id"]
        options.mm_policy = getattr(cuda, own["mm_policy"])
        engine = self._made("EngineFactory.Create", cuda.EngineFactory.Create(options))
        kind = getattr(self._common, f"DATATYPE_{own['kernel_type'].upper()}")
        self._check("Configure", engine.Configure(cuda.ENGINE_CONF_SET_KERNEL_TYPE, kind))
        if own["quick_select"]:
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_USE_DEFAULT_ALGORITHMS))
        algorithms = folder / own["algorithm_file"]
        if algorithms.is_file():  # a bundle is not written to: whoever wants algorithms kept puts the file there
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_IMPORT_ALGORITHMS, str(algorithms)))
        return engine

    def _check(self, call: str, status: Any) -> None:
        if status != self._common.RC_SUCCESS:
            raise CompileError("PPLNN refuses", because=f"{call}: {self._common.GetRetCodeStr(status)}")

    def _made(self, call: str, made: Any) -> Any:
        if not made:
            raise CompileError("PPLNN refuses", because=f"{call} gave nothing")
        return made
