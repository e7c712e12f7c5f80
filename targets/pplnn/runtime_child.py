"""PPLNN in this process, through ppl.nn's Python API (docs/en/python-api-reference.md in its repository)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import Code, CompileError


class PplnnSession:
    """A loaded model.onnx with the settings in pplnn.json beside it. Creating one makes its thread flush denormals."""

    def __init__(self, folder: Path, threads: int) -> None:
        if threads:  # OpenMP reads it when the library is loaded
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
        self._runtime = self._created("CreateRuntime", builder.CreateRuntime())
        self._keep_alive = (engine, builder)  # the runtime uses both
        inputs = [self._runtime.GetInputTensor(i) for i in range(self._runtime.GetInputCount())]
        self._inputs = {tensor.GetName(): tensor for tensor in inputs}

    def run(self, x: np.ndarray) -> np.ndarray:
        """The only output for the only input."""
        (name,) = self._inputs
        (y,) = self.run_named({name: x}).values()
        return y

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name. Raises CompileError with PPLNN's message."""
        for name, array in inputs.items():
            self._check("ConvertFromHost", self._inputs[name].ConvertFromHost(np.ascontiguousarray(array)))
        self._check("Run", self._runtime.Run())
        outputs = [self._runtime.GetOutputTensor(i) for i in range(self._runtime.GetOutputCount())]
        return {tensor.GetName(): self._array(tensor) for tensor in outputs}

    def _array(self, tensor: Any) -> np.ndarray:
        y = np.array(tensor.ConvertToHost())
        return y.astype(np.float32) if y.dtype == np.float16 else y  # a CUDA engine in float16

    def _x86(self, settings: Mapping[str, Any], _folder: Path) -> Any:
        x86 = self._nn.x86
        options = x86.EngineOptions()
        options.mm_policy = getattr(x86, settings["mm_policy"])
        options.disable_avx512 = settings["disable_avx512"]
        options.disable_avx_fma3 = settings["disable_avx_fma3"]
        engine = self._created("EngineFactory.Create", x86.EngineFactory.Create(options))
        self._check("Configure", engine.Configure(x86.ENGINE_CONF_GRAPH_FUSION, int(settings["graph_fusion"])))
        return engine

    def _cuda(self, settings: Mapping[str, Any], folder: Path) -> Any:
        cuda = self._nn.cuda
        options = cuda.EngineOptions()
        options.device_id = settings["device_id"]
        options.mm_policy = getattr(cuda, settings["mm_policy"])
        engine = self._created("EngineFactory.Create", cuda.EngineFactory.Create(options))
        kind = getattr(self._common, f"DATATYPE_{settings['kernel_type'].upper()}")
        self._check("Configure", engine.Configure(cuda.ENGINE_CONF_SET_KERNEL_TYPE, kind))
        if settings["quick_select"]:
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_USE_DEFAULT_ALGORITHMS))
        algorithms = folder / settings["algorithm_file"]
        if algorithms.is_file():  # segc writes nothing into a bundle: users put the file there to keep algorithms
            self._check("Configure", engine.Configure(cuda.ENGINE_CONF_IMPORT_ALGORITHMS, str(algorithms)))
        return engine

    def _check(self, call: str, status: Any) -> None:
        if status != self._common.RC_SUCCESS:
            raise CompileError(
                "PPLNN reports an error", code=Code.ENGINE_RUN, because=f"{call}: {self._common.GetRetCodeStr(status)}"
            )

    def _created(self, call: str, created: Any) -> Any:
        if not created:
            raise CompileError("PPLNN reports an error", code=Code.ENGINE_RUN, because=f"{call} returned nothing")
        return created
