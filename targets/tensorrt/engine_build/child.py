"""Builds one engine in a process of its own: python child.py JOB. Imports nothing of segc, so that it starts at once.

JOB is a JSON file: {"modules", "onnx", "engine", "profile", "workspace", "tf32", "expected"}. profile: null or {"min",
"opt", "max"}, shapes of the only input; tf32: whether float32 products may round what they multiply; expected:
{"inputs", "outputs"} with name, dtype and shape (-1: open) of each. The answer is written to JOB.result as JSON: {"ok",
"version", "inputs", "outputs", "corners", "mismatch", "errors", "log"}, and what stood in its way: "import_error",
"no_builder" or "not_written".
An engine that could not be built leaves no file.

A crash of the native library, or the system ending this process for its memory, is seen by the parent; here only what
TensorRT answers is written down. It raises nothing and returns False or None instead: the log holds the reasons.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

KEPT = 400  # lines of log


def main(job_file: str) -> int:
    """Build; 0 whenever there is an answer."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    answer = build(job)
    Path(f"{job_file}.result").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def build(job: dict[str, Any]) -> dict[str, Any]:
    """Parse, look at the network, build, write."""
    answer: dict[str, Any] = {"ok": False, "errors": [], "log": [], "corners": []}
    try:
        trt = [importlib.import_module(name) for name in job["modules"]][-1]
    except Exception as error:  # a broken installation may raise anything
        answer["import_error"] = f"{type(error).__name__}: {error}"
        return answer
    answer["version"] = trt.__version__
    log = _logger(trt, answer["log"])
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what the bindings raise where the library gives none: the log has the reason
        answer["no_builder"] = str(error)
        return answer
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse_from_file(job["onnx"])
    answer["errors"] = [_error(parser.get_error(at)) for at in range(parser.num_errors)]  # while the parser lives
    if not parsed or answer["errors"] or network.num_outputs == 0:
        return answer
    network.name = "segc"  # the file's name would be in the plan
    answer["inputs"] = [_tensor(network.get_input(at)) for at in range(network.num_inputs)]
    answer["outputs"] = [_tensor(network.get_output(at)) for at in range(network.num_outputs)]
    answer["corners"] = _corners(network, job["profile"])
    if mismatch := _mismatch(job["expected"], answer):
        answer["mismatch"] = mismatch
        return answer
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job["workspace"])
    if not job["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if job["profile"] is not None and not _profile(builder, config, answer["inputs"][0]["name"], job["profile"]):
        answer["log"].append("ERROR: the optimization profile is refused")
        return answer
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return answer
    try:
        Path(job["engine"]).write_bytes(memoryview(plan))
    except OSError as error:
        answer["not_written"] = str(error)
        return answer
    answer["ok"] = True
    return answer


def _logger(trt: Any, rows: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING) and len(rows) < KEPT:
                rows.append(f"{severity.name}: {message}")

    return Log()


def _error(error: Any) -> dict[str, Any]:
    """A parser error as plain values: the object dies with its parser."""
    return {"code": error.code().name, "node": error.node_name(), "op": error.node_operator(), "desc": error.desc()}


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name.lower(), "shape": list(tensor.shape)}


def _corners(network: Any, profile: dict[str, list[int]] | None) -> list[dict[str, Any]]:
    """The output's shape at each corner of the profile, as the network infers it. Only for one input."""
    if profile is None or network.num_inputs != 1:
        return []
    image = network.get_input(0)
    free, found = tuple(image.shape), []
    for corner, shape in profile.items():
        image.shape = tuple(shape)
        found.append({"corner": corner, "input": shape, "output": list(network.get_output(0).shape)})
    image.shape = free
    return found


def _mismatch(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where the network's inputs and outputs, also at the corners of the profile, are not those of the ONNX graph."""
    lines = []
    for side in ("inputs", "outputs"):
        if len(expected[side]) != len(found[side]):
            lines.append(f"{len(found[side])} {side} instead of {len(expected[side])}")
        for want, got in zip(expected[side], found[side], strict=False):
            same = want["name"] == got["name"] and want["dtype"] == got["dtype"]
            if not same or not _fits(want["shape"], got["shape"], [-1]):
                lines.append(f"{side}: {got} instead of {want}")
    for corner in found["corners"]:
        if not _fits(expected["outputs"][0]["shape"], corner["output"], []):
            lines.append(f"at the corner {corner['corner']} {corner['input']} the output is {corner['output']}")
    return lines


def _fits(want: list[int], got: list[int], open_sizes: list[int]) -> bool:
    """Whether each size is the wanted one; where any will do, it must be at least 1 or one of `open_sizes`."""
    pairs = list(zip(want, got, strict=False))
    return len(want) == len(got) and all(w == g or (w == -1 and (g >= 1 or g in open_sizes)) for w, g in pairs)


def _profile(builder: Any, config: Any, name: str, shapes: dict[str, list[int]]) -> bool:
    profile = builder.create_optimization_profile()
    profile.set_shape(name, tuple(shapes["min"]), tuple(shapes["opt"]), tuple(shapes["max"]))
    return bool(profile) and config.add_optimization_profile(profile) >= 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
