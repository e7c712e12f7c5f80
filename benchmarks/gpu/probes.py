"""Many small networks, one to three ops each, in one engine a group: what TensorRT computes otherwise than ONNX says.

prepare.py builds the groups (`prepared`), measure.py runs them (`answer`), tools/tensorrt_facts.py writes what came of
it into targets/tensorrt/facts.json. The networks: one for each row of the table in targets/tensorrt/ops.py, and random
ones within the table, of the kind that found the defects of other runtimes. The reference is ONNX Runtime, unoptimized.

    python benchmarks/gpu/probes.py        builds the groups, and says how many networks there are
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

GROUP, RANDOM = 60, 240  # networks in an engine; random networks
FAR = 32  # times ONNX Runtime's own distance from float64: see tests/helpers/differential.py
LEAST = 1e-5  # of the largest value: what is always allowed
Row = dict[str, Any]


def answer(device: Any, folder: Path, group: int) -> Row:
    """Run a group's engine; 'right', or how wrong, for each network. Needs NumPy and torch only."""
    import numpy as np
    import torch

    names = json.loads((folder / f"{group}.json").read_bytes())
    with np.load(folder / f"{group}.npz") as stored:
        arrays = dict(stored)
    engine = device.load((folder / f"{group}.engine").read_bytes())
    out = engine.bind({name: torch.from_numpy(arrays[f"in.{name}"]) for name in engine.inputs})
    engine()
    device.synchronize()
    found = {}
    for name, network in names.items():
        y = out[network["output"]].cpu().float().numpy()
        found[name] = judged(y, arrays[f"out.{network['output']}"].astype(np.float32), network["allowed"])
    return {"networks": found}


def judged(y: Any, wanted: Any, allowed: float) -> str:
    """'right', or what is wrong with an output. allowed: error relative to the largest value."""
    import numpy as np

    if y.shape != wanted.shape:
        return f"shape {y.shape} instead of {wanted.shape}"
    if not np.array_equal(np.isfinite(y), np.isfinite(wanted)):
        return "not finite where ONNX Runtime is, or the other way round"
    usable = np.isfinite(wanted)
    largest = float(np.abs(wanted[usable]).max(initial=0.0)) or 1.0
    error = float(np.abs(y[usable] - wanted[usable]).max(initial=0.0)) / largest
    return "right" if error <= allowed else f"wrong by {error:.1e}, {allowed:.0e} is allowed"


def prepared() -> dict[str, bytes]:
    """The files of all groups."""
    files: dict[str, bytes] = {}
    by_opset: dict[int, list[tuple[str, Any]]] = {}
    for name, model in chosen():
        by_opset.setdefault(model.opset_import[0].version, []).append((name, model))
    groups = [
        made
        for networks in by_opset.values()
        for at in range(0, len(networks), GROUP)
        for made in groups_of(networks[at : at + GROUP])
    ]
    for group, made in enumerate(groups):
        files |= {f"probes/{group}.{suffix}": content for suffix, content in made.items()}
    return files


def groups_of(networks: list[tuple[str, Any]]) -> Iterator[dict[str, bytes]]:
    """The files of one group, or of two halves where the whole does not build. A network that fails is named."""
    from segc.errors import SegcError
    from segc.targets.protocol import NodesRefused

    try:
        yield group_files(networks)
    except (SegcError, NodesRefused) as error:
        if len(networks) == 1:
            print(f"{networks[0][0]} does not build: {error}", file=sys.stderr)
            return
        half = len(networks) // 2
        for part in (networks[:half], networks[half:]):
            yield from groups_of(part)


def chosen() -> Iterator[tuple[str, Any]]:
    """Name and ONNX model of each network, legal by segc's table and of fixed sizes."""
    from segc.graph import ir
    from segc.targets.tensorrt import ops
    from segc.targets.tensorrt.target import TENSORRT
    from tests.helpers import random_ops
    from tests.helpers.op_models import model_with
    from tests.targets.tensorrt.test_tensorrt import OWN

    for op in sorted(ops.RTX):
        yield f"row {op}", model_with(op, OWN.get(op))
    for seed in range(RANDOM):
        model = random_ops.model(seed, images_only=True)
        graph = ir.from_model(model)
        ir.infer_shapes(graph)
        if not any(TENSORRT.why_not(node) for node in graph.nodes):
            yield f"random {seed}", model


def group_files(networks: list[tuple[str, Any]]) -> dict[str, bytes]:
    """One group: the engine, its inputs and wanted outputs, and which output is whose. Keys: suffixes.

    Raises SegcError or NodesRefused if it does not build.
    """
    import numpy as np
    import onnx

    from segc.targets.tensorrt.engine_build import build
    from segc.targets.tensorrt.flavor import FLAVORS

    usable = [(name, model, run) for name, model in networks if (run := reference(model)) is not None]
    merged, names, arrays = merge(usable)
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "model.onnx"
        onnx.save(merged, path)
        build.build_file(path, None, Path(made), FLAVORS["rtx"])
        engine = (Path(made) / "model.engine").read_bytes()
        graph = path.read_bytes()
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return {"engine": engine, "npz": file.getvalue(), "json": json.dumps(names).encode(), "onnx": graph}


def reference(model: Any) -> tuple[dict[str, Any], Any, float] | None:
    """Inputs, what ONNX Runtime gives, and the error that is allowed; None for what it does not run."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    rng = np.random.default_rng(0)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
        wanted = session.run(None, feeds)[0]
    except Exception:  # an op without a kernel: nothing to compare with
        return None
    if wanted.dtype != np.float32 or wanted.size > 200_000:
        return None
    return feeds, wanted, max(LEAST, FAR * distance(model, feeds, wanted))


def distance(model: Any, feeds: dict[str, Any], wanted: Any) -> float:
    """ONNX Runtime's own distance from float64, relative to the largest value; 0 where float64 cannot be asked."""
    import numpy as np

    from tests.helpers.differential import in_float64

    exact = in_float64(model, next(iter(feeds.values()))) if len(feeds) == 1 else None
    if exact is None or exact.shape != wanted.shape:
        return 0.0
    with np.errstate(invalid="ignore"):
        off = np.abs(exact - wanted)
    return float(np.nanmax(off, initial=0.0)) / (float(np.nanmax(np.abs(exact), initial=0.0)) or 1.0)


def merge(usable: list[tuple[str, Any, Any]]) -> tuple[Any, Row, Row]:
    """One model of all networks, which output is whose, and the arrays. Networks share nothing."""
    import onnx
    import onnx.compose

    nodes, constants, inputs, outputs = [], [], [], []
    names, arrays = Row(), Row()
    for at, (name, model, (feeds, wanted, allowed)) in enumerate(usable):
        prefixed = onnx.compose.add_prefix(model, f"n{at}_")
        nodes += prefixed.graph.node
        constants += prefixed.graph.initializer
        inputs += prefixed.graph.input
        output = prefixed.graph.output[0].name
        outputs.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, wanted.shape))
        names[name] = {"output": output, "allowed": allowed, "ops": sorted({n.op_type for n in model.graph.node})}
        arrays |= {f"in.n{at}_{key}": value for key, value in feeds.items()} | {f"out.{output}": wanted}
    graph = onnx.helper.make_graph(nodes, "probes", inputs, outputs, constants)
    opsets = [onnx.helper.make_opsetid("", usable[0][1].opset_import[0].version)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), names, arrays


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    made = prepared()
    count = sum(len(json.loads(content)) for name, content in made.items() if name.endswith(".json"))
    engines = sum(name.endswith(".engine") for name in made)
    print(f"{count} networks, {engines} engines, {sum(map(len, made.values()))} bytes")
