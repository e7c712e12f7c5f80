"""Engines, builder, runtime and tensors. FAKE_PPLNN makes a step misbehave: "Run=crash", "Preprocess=refuse", ..."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from pyppl import common

CALLS: list[tuple[Any, ...]] = []


def _step(name: str) -> int:
    wanted, _, how = os.environ.get("FAKE_PPLNN", "").partition("=")
    if wanted != name:
        return common.RC_SUCCESS
    sys.stderr.write(f"{name} is about to {how}\n")
    sys.stderr.flush()
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(600)
    if how == "exit":
        os._exit(3)
    return common.RC_UNSUPPORTED


def _filled(file: str) -> bool:
    """PPLNN maps the file into memory and parses it as JSON: it has to be there, and must not be empty."""
    return Path(file).is_file() and Path(file).stat().st_size > 0


class _Engine:
    def Configure(self, option: str, *values: Any) -> int:  # noqa: N802
        CALLS.append((option, *values))
        if option == "ENGINE_CONF_IMPORT_ALGORITHMS" and not _filled(values[0]):
            return common.RC_INVALID_VALUE
        return _step("Configure")


def _device(name: str, *options: str, **policies: int) -> SimpleNamespace:
    factory = SimpleNamespace(Create=lambda options: None if _step("Create") else _Engine())
    names = {option: option for option in options}
    return SimpleNamespace(EngineOptions=SimpleNamespace, EngineFactory=factory, **names, **policies)


if os.environ.get("FAKE_PPLNN_DEVICES", "x86 cuda").find("x86") >= 0:
    x86 = _device("x86", "ENGINE_CONF_GRAPH_FUSION", MM_MRU=1, MM_COMPACT=2, MM_PLAIN=3)
if os.environ.get("FAKE_PPLNN_DEVICES", "x86 cuda").find("cuda") >= 0:
    cuda = _device(
        "cuda", "ENGINE_CONF_SET_KERNEL_TYPE", "ENGINE_CONF_USE_DEFAULT_ALGORITHMS", "ENGINE_CONF_IMPORT_ALGORITHMS",
        "ENGINE_CONF_EXPORT_ALGORITHMS", MM_BEST_FIT=1, MM_COMPACT=2,
    )  # fmt: skip


class _Tensor:
    value: np.ndarray

    def __init__(self, name: str) -> None:
        self._name = name

    def GetName(self) -> str:  # noqa: N802
        return self._name

    def ConvertFromHost(self, array: np.ndarray) -> int:  # noqa: N802
        self.value = array
        return _step("ConvertFromHost")

    def ConvertToHost(self) -> memoryview:  # noqa: N802
        return memoryview(self.value)


class _Runtime:
    def __init__(self, path: str) -> None:
        self._session = onnxruntime.InferenceSession(path)
        self._inputs = [_Tensor(info.name) for info in self._session.get_inputs()]
        self._outputs = [_Tensor(info.name) for info in self._session.get_outputs()]

    def GetInputCount(self) -> int:  # noqa: N802
        return len(self._inputs)

    def GetInputTensor(self, at: int) -> _Tensor:  # noqa: N802
        return self._inputs[at]

    def GetOutputCount(self) -> int:  # noqa: N802
        return len(self._outputs)

    def GetOutputTensor(self, at: int) -> _Tensor:  # noqa: N802
        return self._outputs[at]

    def Run(self) -> int:  # noqa: N802
        values = self._session.run(None, {tensor.GetName(): tensor.value for tensor in self._inputs})
        for tensor, value in zip(self._outputs, values, strict=True):
            tensor.value = value
        return _step("Run")


class _Builder:
    def LoadModelFromFile(self, path: str) -> int:  # noqa: N802
        self._path = path
        return _step("LoadModelFromFile")

    def SetResources(self, resources: Any) -> int:  # noqa: N802
        return common.RC_SUCCESS if resources.engines else common.RC_INVALID_VALUE

    def Preprocess(self) -> int:  # noqa: N802
        return _step("Preprocess")

    def CreateRuntime(self) -> _Runtime | None:  # noqa: N802
        return None if _step("CreateRuntime") else _Runtime(self._path)


onnx = SimpleNamespace(RuntimeBuilderFactory=SimpleNamespace(Create=_Builder), RuntimeBuilderResources=SimpleNamespace)
