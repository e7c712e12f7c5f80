"""Ranges of the values in a graph, collected on sample inputs by ONNX Runtime's quantizer."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from segc.graph.external_weights import fits_one_file
from segc.passes.support.evaluate import CannotRun
from segc.runtime.ort import OrtSession

METHODS = ("minmax", "percentile")  # entropy takes the square of the bins, which a single outlier makes thousands
Ranges = dict[str, tuple[float, float]]


def activation_ranges(model: onnx.ModelProto, inputs: Sequence[np.ndarray], method: str, ops: Sequence[str]) -> Ranges:
    """(low, high) of every tensor that nodes of these ops read or write, by name.

    inputs: for the model's only input. method: of METHODS. Cost: a run for each input; all but "minmax" keep the
    tensors of one input in memory. Raises CannotRun.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    kinds = {
        "minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }  # fmt: skip
    if not fits_one_file(model):
        raise CannotRun("the model is larger than 2 GB")
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory(prefix="segc-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
                calibrator = create_calibrator(path, list(ops), str(Path(folder) / "augmented.onnx"), kinds[method])
                for x in inputs:
                    calibrator.collect_data(_reader([{name: x}]))
                found = calibrator.compute_data()
        except (CannotRun, MemoryError):
            raise
        except Exception as error:  # ONNX Runtime's exception types have no common base
            raise CannotRun(str(error).splitlines()[0][:200]) from error
    pairs = {key: (float(np.min(d.range_value[0])), float(np.max(d.range_value[1]))) for key, d in found.items()}
    return {key: pair for key, pair in pairs.items() if np.isfinite(pair).all()}


def activation_means(
    model: onnx.ModelProto, inputs: Sequence[np.ndarray], tensors: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """The mean of each channel of these tensors (N, C, ...), over all inputs. Raises CannotRun, CompileError."""
    given = model.graph.input[0].name
    own = {t.name for t in model.graph.output}
    wanted = sorted(set(tensors) - own - {given})
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    if not fits_one_file(extended):
        raise CannotRun("the model is larger than 2 GB")
    session = OrtSession(extended.SerializeToString(), 0, what="the graph with its inner values")
    sums: dict[str, np.ndarray] = {}
    for x in inputs:
        found = {given: x, **session.run_named({given: x})}
        for name in set(tensors):
            if name in found and found[name].ndim >= 2:
                values = found[name].astype(np.float64)
                mean = values.mean(axis=(0, *range(2, values.ndim)))
                sums[name] = sums.get(name, 0) + mean / len(inputs)
    return {name: tuple(total.tolist()) for name, total in sorted(sums.items())}


def _reader(feeds: list[dict[str, np.ndarray]]) -> object:
    """What the quantizer reads inputs from."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[dict[str, np.ndarray]] = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._left, None)

    return Reader()
