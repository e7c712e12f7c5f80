"""The steps of a compile as functions, for your own scripts; `segc.compile` runs them in this order.

Each step takes the result of the one before, a frozen dataclass that you can inspect before the next step runs. The
setup's journal announces and times the steps, and collects notes. Inside `guarded`, libraries check an ONNX source in a
child process first::

    import segc

    request = segc.steps.Request("model.onnx", target="onnxruntime", out="bundle")
    setup = segc.steps.set_up(request)
    with segc.steps.guarded(setup), segc.steps.staged(setup) as staging:
        opened = segc.steps.open_source(setup)
        exported = segc.steps.export(opened)
        segc.steps.record(exported)  # for the page in the bundle; may be left out
        lowered = segc.steps.lower(exported)
        planned = segc.steps.plan(lowered)
        emitted = segc.steps.emit(planned, staging.directory)
        loaded = segc.steps.load_engine(emitted)
        verified = segc.steps.verify(loaded)
        report = segc.steps.publish(staging, loaded, verified)
    print(report["status"], len(lowered.graph.nodes), verified.cases[0].relative_error)
"""

from __future__ import annotations

from segc.compilation.cache import CompileCache
from segc.compilation.engine import Emitted, Loaded, build_engine, emit, faster_masks, load_engine
from segc.compilation.evidence import record
from segc.compilation.guarded import guarded
from segc.compilation.lowering import Exported, Lowered, Opened, Planned, export, lower, open_source, plan
from segc.compilation.publication import publish, staged, verify
from segc.compilation.report import Verified
from segc.compilation.request import Request
from segc.compilation.setup import Journal, Setup, set_up

__all__ = [
    "CompileCache", "Emitted", "Exported", "Journal", "Loaded", "Lowered", "Opened", "Planned", "Request", "Setup",
    "Verified", "build_engine", "emit", "export", "faster_masks", "guarded", "load_engine", "lower", "open_source",
    "plan", "publish", "record", "set_up", "staged", "verify",
]  # fmt: skip
