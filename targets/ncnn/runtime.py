"""Load and run what segc wrote, in ncnn's Python package."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from segc.bundle.typed import OMITTABLE, Within
from segc.errors import Code, CompileError
from segc.targets.protocol import LayerTime, LayerTimes, Package, Runtime, Session

PACKAGE = Package("ncnn", "ncnn", extra="ncnn")
PARAM, BIN = "model.param", "model.bin"
# ncnn's options that the bundle decides, as the bundle has them
FLAGS = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_winograd63_convolution",
)  # fmt: skip
# Those that are on unless the bundle, or a trial, says otherwise
ON_FLAGS = ("use_winograd43_convolution", "use_sgemm_convolution")


def flags_of(options: Mapping[str, Any]) -> dict[str, bool]:
    """ncnn's options and their values, of what a bundle says."""
    return {flag: bool(options[flag]) for flag in (*FLAGS, *ON_FLAGS) if flag in FLAGS or options.get(flag) is not None}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a bundle says of its net. rank, dtype: of the result of one image.

    logits: the blob of the logits before the last resize, of a net that gives a mask. fp32_layers: see files/.
    """

    input: str
    output: str
    rank: Annotated[int, Within(1, 4)]
    dtype: Literal["float32", "uint8", "uint16", "int32", "int64"]
    use_fp16_packed: bool
    use_fp16_storage: bool
    use_fp16_arithmetic: bool
    use_bf16_storage: bool
    use_winograd63_convolution: bool
    use_winograd43_convolution: bool | None = field(default=None, metadata=OMITTABLE)
    use_sgemm_convolution: bool | None = field(default=None, metadata=OMITTABLE)
    logits: str | None = field(default=None, metadata=OMITTABLE)
    fp32_layers: Annotated[int, Within(0, 1 << 20)] | None = field(default=None, metadata=OMITTABLE)


class NcnnSession:
    """One loaded net, which runs do not change. ncnn takes one image at a time: a batch is a loop."""

    def __init__(self, directory: Path, options: Mapping[str, Any], threads: int) -> None:
        import ncnn

        _require_threads(threads)
        self._ncnn, self._options = ncnn, options
        self._net = ncnn.Net()
        for flag, value in flags_of(options).items():  # before the files: layers choose the form of their weights
            setattr(self._net.opt, flag, value)
        if threads:
            self._net.opt.num_threads = threads
        for load, file in ((self._net.load_param, PARAM), (self._net.load_model, BIN)):
            if (code := load(str(directory / file))) != 0:
                raise CompileError(
                    "ncnn cannot load the engine", code=Code.ENGINE_LOAD, because=f"it answers {code}", where=file
                )

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W). Returns (N, ...) in the type that the bundle promises."""
        return np.stack([self._image(image) for image in np.asarray(x, np.float32)])

    def run_logits(self, x: np.ndarray) -> np.ndarray:
        """See LogitsSession."""
        blob = str(self._options["logits"])
        return np.stack([self._extracted(image, blob) for image in np.asarray(x, np.float32)])

    def _image(self, image: np.ndarray) -> np.ndarray:
        """The result of one image (C, H, W)."""
        made = self._extracted(image, self._options["output"])
        rank = int(self._options["rank"])
        made = made.reshape((1,) * (rank - made.ndim) + made.shape)
        return made.astype(self._options["dtype"], copy=False)

    def extracted_in_order(self, image: np.ndarray, blobs: Sequence[str]) -> list[float]:
        """Seconds that each of the blobs takes when those before it are there. image: (C, H, W)."""
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)  # keep the blobs
        extractor.input(self._options["input"], self._ncnn.Mat(np.ascontiguousarray(image, np.float32)).clone())
        seconds = []
        for blob in blobs:
            start = time.perf_counter()
            code, _ = extractor.extract(blob)
            seconds.append(time.perf_counter() - start)
            if code != 0:
                raise CompileError("the ncnn engine fails", code=Code.ENGINE_RUN, because=f"it answers {code}")
        return seconds

    def _extracted(self, image: np.ndarray, blob: str) -> np.ndarray:
        """A blob of the net for one image (C, H, W)."""
        extractor = self._net.create_extractor()
        # a Mat of an array is a view of it, and the first layer may work in place
        mat = self._ncnn.Mat(np.ascontiguousarray(image)).clone()
        if (code := extractor.input(self._options["input"], mat)) != 0:
            raise CompileError("ncnn refuses the input", code=Code.ENGINE_RUN, because=f"it answers {code}")
        code, result = extractor.extract(blob)
        if code != 0:
            raise CompileError("the ncnn engine fails", code=Code.ENGINE_RUN, because=f"it answers {code}")
        return np.array(result)


def profile(
    directory: Path, options: Mapping[str, Any], threads: int, inputs: Mapping[str, np.ndarray], runs: int
) -> LayerTimes:  # fmt: skip
    """See Runtime. Takes the first image of the only input."""
    (images,) = inputs.values()
    session, layers = NcnnSession(directory, options, threads), _written(directory / PARAM)
    times: list[list[float]] = [[] for _ in layers]
    for turn in range(runs + 1):
        for taken, seconds in zip(times, session.extracted_in_order(images[0], [b for *_, b in layers]), strict=True):
            if turn:
                taken.append(seconds * 1e3)
    made = [
        LayerTime(name, op, (name, blob), statistics.median(taken))
        for (op, name, blob), taken in zip(layers, times, strict=True)
    ]
    return LayerTimes(
        tuple(made),
        f"ncnn's Python package has no profiler: the time from asking for one blob to the next, medians of {runs} runs;"
        " blobs are kept, which ncnn does not do otherwise.",
    )


def _written(param: Path) -> list[tuple[str, str, str]]:
    """(type, name, last blob that it writes) of each layer but the input, in order."""
    found = []
    for line in param.read_text(encoding="utf-8").splitlines()[2:]:
        op, name, inputs, outputs, *blobs = line.split()
        if op != "Input":
            found.append((op, name, blobs[int(inputs) + int(outputs) - 1]))
    return found


_parallel: set[int] = set()  # the processes in which ncnn may have started threads: this one, and those it is a fork of


def _require_threads(threads: int) -> None:
    """Raise CompileError in a fork of a process where ncnn had threads: OpenMP waits for them for ever."""
    if parents := _parallel - {os.getpid()}:
        raise CompileError(
            "ncnn cannot run in a fork of a process that has run it",
            code=Code.ENGINE_PROCESS,
            because=f"process {min(parents)} loaded an ncnn engine; its OpenMP threads are not copied by a fork",
            so="start processes with multiprocessing's 'spawn' or 'forkserver', or load with threads=1 before the fork",
        )
    if threads != 1:
        _parallel.add(os.getpid())


def load(directory: Path, options: Mapping[str, Any], threads: int) -> Session:
    """The engine that `emit` wrote into `directory`."""
    return NcnnSession(directory, options, threads)


RUNTIME = Runtime(load, PACKAGE, concurrent=True, options=Options, profile=profile)
