"""PPLNN, where somebody has built it, in a process of its own: it may crash or hang, and it flushes denormals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from segc.bundle.typed import Within
from segc.errors import Code, CompileError
from segc.isolation.session import IsolatedSession
from segc.isolation.supervisor import run_command
from segc.targets.protocol import NamedSession, Runtime, Settings

ABSENT = (
    "the module pyppl.nn is not installed; a build of OpenPPL's ppl.nn has it (docs/pplnn.md). The package pyppl on"
    " package indexes is another project"
)
PROBE_SECONDS = 60
IN_CHILD = "in_child"  # the option by which the child knows that it is one


def cannot_run(settings: Settings) -> str | None:
    """Why no engine of this device runs here, or None."""
    if not importable():
        return ABSENT
    device = settings.options.get("device", "x86")
    code = f"from pyppl import common, nn; nn.onnx.RuntimeBuilderFactory, nn.{device}.EngineFactory"
    done = run_command([sys.executable, "-c", code], PROBE_SECONDS)
    if done.code is None:
        return f"pyppl.nn does not load within {PROBE_SECONDS} seconds"
    if done.code == 0:
        return None
    return f"this build of pyppl.nn does not run on {device}: {[done.reason, *done.last_lines][-1]}"


@cache
def build_version() -> str:
    """The version and the commit of the build of ppl.nn that is found, or ""."""
    if not importable():
        return ""
    numbers = ", ".join(f"nn.PPLNN_VERSION_{part}" for part in ("MAJOR", "MINOR", "PATCH"))
    code = f"from pyppl import nn; print({numbers}, sep='.'); print(nn.PPLNN_COMMIT_STR)"
    done = run_command([sys.executable, "-c", code], PROBE_SECONDS)
    return f"ppl.nn {' '.join(line.strip() for line in done.last_lines)}" if done.code == 0 else ""


def importable() -> bool:
    """Whether there is a module pyppl.nn. Nothing is imported: another project of that name may do anything."""
    spec = find_spec("pyppl")
    places = None if spec is None else spec.submodule_search_locations
    return places is not None and PathFinder.find_spec("nn", list(places)) is not None


def load(directory: Path, options: Mapping[str, Any], threads: int) -> NamedSession:
    """A session on what `emit` wrote, in a child process. options: time_limit, seconds for loading and for a run."""
    if options.get(IN_CHILD):
        from segc.targets.pplnn.runtime_child import PplnnSession

        return PplnnSession(directory, threads)
    if not importable():
        raise CompileError(
            "PPLNN is not installed", code=Code.ENGINE_PLATFORM, because=ABSENT, where=str(directory),
            so="build ppl.nn from source; model.onnx of the bundle also runs in ONNX Runtime",
        )  # fmt: skip
    limit = float(options["time_limit"])
    return IsolatedSession("pplnn", directory, {**options, IN_CHILD: True}, threads, limit)


@dataclass(frozen=True, kw_only=True)
class Options:
    """time_limit: seconds for loading, and for a run."""

    time_limit: Annotated[float, Within(0, 86400)]


RUNTIME = Runtime(
    load, build=build_version, multi_io=True, options=Options
)  # not concurrent: one child answers one question at a time
