"""From the legalized graph to an engine: in a child process, looked at before it is built, described beside it.

The native library may crash or be ended by the system for its memory; then this process and the bundle in the making
live on. Everything that could change the plan is fixed, so that equal graphs give equal bytes.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from segc.bundle.canonical_json import canonical, sha256_of_file
from segc.errors import Code, CompileError, FileError, MissingPackageError
from segc.graph.external_weights import fits_one_file
from segc.isolation.supervisor import Done, run_command
from segc.targets.protocol import NodesRefused, Settings
from segc.targets.tensorrt.engine_build.network import Profile, interface, profile
from segc.targets.tensorrt.flavor import Flavor, why_no_gpu
from segc.targets.tensorrt.runtime import ENGINE, SIDECAR, platform_name

WORKSPACE = 16 * 2**30  # bytes, an upper bound: without one it depends on the GPU, and with it the plan
LIMIT = 3600.0  # seconds for one build
_CHILD = Path(__file__).with_name("child.py")
# Error 35, the driver is too old or absent, follows every refusal where no GPU is. Only a builder that does not come up
# fails by it.
_NOISE = re.compile(r"cudaError 35|CUDA initialization failure with error: 35|catchCudaError")
_MEMORY = re.compile(r"out of memory|OutOfMemory|bad_alloc|cudaErrorMemoryAllocation|Requested amount of GPU memory")


def build(
    model: onnx.ModelProto, directory: Path, settings: Settings, flavor: Flavor, limit: float = LIMIT
) -> dict[str, Any]:
    """Write the engine and its sidecar into `directory`; returns the sidecar's content.

    Raises NodesRefused, CompileError (crash, memory, time, or what TensorRT says), MissingPackageError, FileError.
    """
    shapes = profile(interface(model.graph.input)[0], settings.shape_range)
    with tempfile.TemporaryDirectory(prefix="segc-tensorrt-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        return build_file(path, shapes, directory, flavor, tf32=allows_tf32(settings), limit=limit)


def allows_tf32(settings: Settings) -> bool:
    """Whether float32 products may be made of operands that are rounded to 10 bits; by default they may not."""
    return settings.options.get("tf32") == "on"


def write_onnx(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Write the model, weights in a second file when they exceed what one holds; returns the names of the files."""
    if fits_one_file(model):
        path.write_bytes(model.SerializeToString(deterministic=True))
        return (path.name,)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save_model(copy, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    return path.name, f"{path.name}.data"


def build_file(
    path: Path, shapes: Profile | None, directory: Path, flavor: Flavor, *, tf32: bool = False, limit: float = LIMIT
) -> dict[str, Any]:
    """`build` for a model that lies in a file. shapes: its optimization profile; tf32: see `allows_tf32`."""
    _require_gpu(flavor)
    graph = onnx.load(path, load_external_data=False).graph
    job = {
        "modules": list(flavor.modules),
        "onnx": str(path.resolve()),
        "engine": str((directory / ENGINE).resolve()),
        "profile": shapes,
        "workspace": WORKSPACE,
        "tf32": tf32,
        "expected": {"inputs": interface(graph.input), "outputs": interface(graph.output)},
    }
    answer = run_child(job, limit)
    if "import_error" in answer:
        raise MissingPackageError(
            f"TensorRT ({flavor.name}) cannot be imported",
            code=Code.RUNTIME_BROKEN,
            because=answer["import_error"],
            so=flavor.install,
        )
    if "not_written" in answer:
        raise FileError(
            "the engine cannot be written",
            code=Code.UNWRITABLE,
            because=answer["not_written"],
            so="make room on the disk",
        )
    if "no_builder" in answer:
        raise _no_start(flavor, answer)
    if not answer["ok"]:
        raise _refusal(answer, [node.name for node in graph.node])
    sidecar = {
        "flavor": flavor.name,
        "version": answer["version"],
        "platform": platform_name(),
        "inputs": answer["inputs"],
        "outputs": answer["outputs"],
        "profile": shapes,
        "corners": answer["corners"],
        "workspace": WORKSPACE,
        "tf32": tf32,
        "onnx_sha256": sha256_of_file(path),
        "engine_sha256": sha256_of_file(directory / ENGINE),
    }
    (directory / SIDECAR).write_bytes(canonical(sidecar))
    return sidecar


def run_child(job: Mapping[str, Any], limit: float = LIMIT) -> dict[str, Any]:
    """Run one job in a process of its own. Raises CompileError when it gives no answer within `limit` seconds."""
    with tempfile.TemporaryDirectory(prefix="segc-tensorrt-") as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(dict(job)), encoding="utf-8")
        done = run_command([sys.executable, "-P", str(_CHILD), str(file)], limit)
        if done.code is None:
            raise CompileError(
                f"TensorRT did not finish within {limit:.0f} s", code=Code.ENGINE_BUILD,
                because="its process was ended",
                so="build it on a faster machine: --defer, then segc build there",
            )  # fmt: skip
        answer = Path(f"{file}.result")
        if done.code or not answer.is_file():
            raise _death(done)
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return found


def _require_gpu(flavor: Flavor) -> None:
    if flavor.needs_gpu and (why := why_no_gpu()):
        raise CompileError(
            f"TensorRT ({flavor.name}) builds engines on their GPU only",
            code=Code.BUILD_DEVICE,
            because=why,
            so=["--flavor rtx builds without one", "--defer writes what segc build needs on the machine with the GPU"],
        )


def _no_start(flavor: Flavor, answer: Mapping[str, Any]) -> CompileError:
    """TensorRT was imported and gives no builder."""
    said = [line for line in answer["log"] if line.startswith(("ERROR", "INTERNAL"))] or [answer["no_builder"]]
    if any(_NOISE.search(line) for line in said):
        return CompileError(
            f"TensorRT ({flavor.name}) does not start: the NVIDIA driver is too old for it", code=Code.BUILD_DEVICE,
            because=said, so=["update the driver", "or install a TensorRT made for it"],
        )  # fmt: skip
    return CompileError(
        f"TensorRT ({flavor.name}) does not start",
        code=Code.BUILD_DEVICE,
        because=said,
        so="segc doctor tries the parts",
    )


def _death(done: Done) -> CompileError:
    """The process of the native library came to its end without an answer."""
    because = [f"its process ended with {done.reason}", *done.last_lines]
    if done.code == -signal.SIGKILL or _MEMORY.search(done.output) or "MemoryError" in done.output:
        return CompileError(
            "TensorRT ran out of memory while building", code=Code.BUILD_MEMORY, because=because,
            so="close other programs, choose a smaller --shape, or build elsewhere: --defer, then segc build there",
        )  # fmt: skip
    return CompileError(
        "TensorRT crashed while building; nothing was written",
        code=Code.ENGINE_BUILD,
        because=because,
        so="try another --shape or --precision, or report it with segc compile --keep-onnx for another target",
    )


def _refusal(answer: Mapping[str, Any], names: Sequence[str]) -> Exception:
    """What TensorRT said, tied to nodes of ours where it names them."""
    if answer["errors"]:
        return NodesRefused([(e["node"], _words(e)) for e in answer["errors"]])
    if answer.get("mismatch"):
        return CompileError(
            "TensorRT reads the graph's inputs and outputs differently", code=Code.ENGINE_BUILD,
            because=answer["mismatch"],
            so="report it with the model; this is a defect of the legalization",
        )  # fmt: skip
    lines = [line for line in answer["log"] if line.startswith(("ERROR", "INTERNAL")) and not _NOISE.search(line)]
    if any(_MEMORY.search(line) for line in lines):
        return CompileError(
            "TensorRT ran out of memory while building",
            code=Code.BUILD_MEMORY,
            because=lines,
            so="choose a smaller --shape",
        )
    if named := [(node, line) for line in lines if (node := _named(line, names))]:
        return NodesRefused(named)
    because = lines or answer["log"][-3:] or "it gives no reason"
    return CompileError(
        "TensorRT builds no engine from the graph", code=Code.ENGINE_BUILD, because=because, so="try another --shape"
    )


def _words(error: Mapping[str, Any]) -> str:
    text = " ".join(str(error["desc"]).split())
    return f"{error['op']}: {text} (parser, {error['code']})" if error["op"] else f"{text} (parser, {error['code']})"


def _named(line: str, names: Sequence[str]) -> str | None:
    """The longest of the names that stands in the line as a word."""
    found = [n for n in names if n and re.search(rf"(?<![\w/.]){re.escape(n)}(?![\w/])", line)]
    return max(found, key=len, default=None)
