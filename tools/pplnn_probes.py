"""Run every probe of targets/pplnn/facts.json in the build of ppl.nn that is found.

    PYTHONPATH=FOLDER python tools/pplnn_probes.py        FOLDER: pplnn-build/install/lib of a build

Each model runs as it is written, in a process of its own. Prints the build, and each probe whose outcome is not the one
in the facts. Exit code 1 if there is one, 4 without a build.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from segc.errors import SegcError
from segc.targets.pplnn import runtime
from tests.helpers.pplnn_cases import model_of

FACTS = Path(__file__).parents[1] / "targets" / "pplnn" / "facts.json"
SETTINGS = {
    "device": "x86", "model": "model.onnx",
    "x86": {"mm_policy": "MM_MRU", "disable_avx512": False, "disable_avx_fma3": False, "graph_fusion": True},
}  # fmt: skip
OPSET = 11
CHOSEN = {"p": [0, 0, 1, 0, 0, 0, 0, 2], "s": [2, 1], "k": [3], "n": [5]}  # inputs that are sizes
NO_BUILD = 4


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random numbers for every input; what is integer gets small ones, what has no size 5."""
    feeds = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [d.dim_value or 5 for d in tensor.shape.dim]
        rng = np.random.default_rng(len(value.name))
        whole = dtype.kind in "iub"
        numbers = rng.integers(1, 3, shape) if whole else rng.standard_normal(shape)
        feeds[value.name] = np.resize(CHOSEN[value.name], shape) if value.name in CHOSEN else np.asarray(numbers)
        feeds[value.name] = feeds[value.name].astype(dtype)
    if [node.op_type for node in model.graph.node] == ["Reshape"] and "s" in feeds:
        feeds["s"] = np.array([8, 42])
    return feeds


def wanted(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """What ONNX Runtime computes; None for ops that it does not have."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs: list[np.ndarray] = session.run(None, feeds)
    except Exception:  # one exception class for each reason
        return None
    return outputs


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the inferred types of its outputs."""
    unknown = onnx.ModelProto.FromString(model.SerializeToString())
    for y in unknown.graph.output:
        y.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(unknown).graph.output
    for y, found in zip(unknown.graph.output, inferred, strict=True):
        y.type.CopyFrom(found.type)
    return unknown


def written(probe: Mapping[str, Any]) -> onnx.ModelProto:
    """The model of a probe, with the outputs without a name that some of them are about."""
    model = model_of(probe)
    if probe["name"] == "graph: two nodes with '' outputs":
        for node in model.graph.node:
            node.output.append("")
    return typed(model)


def outcome(model: onnx.ModelProto) -> str:
    """What PPLNN makes of a model: ok, wrong, refused or crash."""
    feeds = feeds_of(model)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "model.onnx")
        (Path(folder) / "pplnn.json").write_text(json.dumps(SETTINGS))
        try:
            session = runtime.load(Path(folder), {"time_limit": 60}, 1)
            got = session.run_named(feeds)
        except SegcError as error:
            return "refused" if "PPLNN reports an error" in str(error) else "crash"
    want = wanted(model, feeds)
    if want is None:
        return "ok"  # ran, and ONNX Runtime has nothing to compare with
    if {output.name for output in model.graph.output} - got.keys():
        return "wrong"  # it damaged the names of its tensors
    pairs = [(got[output.name], y) for output, y in zip(model.graph.output, want, strict=True)]
    right = all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) for a, b in pairs)
    return "ok" if right else "wrong"


def main() -> int:
    """Run, compare with the facts, print."""
    build = runtime.build_version()
    if not build:
        print(runtime.ABSENT, file=sys.stderr)
        return NO_BUILD
    probes = [p for p in json.loads(FACTS.read_text())["x86_probe"] if p["opset"] == OPSET]
    work = [(probe["name"], probe["result"], written(probe)) for probe in probes]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda row: outcome(row[2]), work))
    other = [(name, before, now) for (name, before, _), now in zip(work, found, strict=True) if not same(before, now)]
    print(f"{build}: {len(work)} models, {dict(Counter(found))}")
    for name, before, now in other:
        print(f"{name}: {before} in the facts, {now} in this build")
    return bool(other)


def same(before: str, now: str) -> bool:
    """Whether an outcome is the recorded one; what reads out of bounds crashes, hangs, or is wrong."""
    before = before.lower()
    return before == now or {before, now} <= {"crash", "wrong", "hang"}


if __name__ == "__main__":
    sys.exit(main())
