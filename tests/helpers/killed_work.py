"""Pieces of work for `tests.helpers.kills.Worker`: functions of text and numbers, so that they travel as JSON."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from pathlib import Path

from segc.files.whole import write_all
from segc.graph import external_weights
from segc.graph import ir as graphs
from tests.helpers.tiny_bundles import bundle
from tests.helpers.tiny_models import parsed

TRACED = """g (float[1,3,24,40] input) => (float[1,2,24,40] logits)
    <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}> { logits = Conv(input, w) }"""


def opt_in_place(path: str, factor: float) -> None:
    """Write a model over itself with its weights, which lie beside it, multiplied."""
    file = Path(path)
    graph = external_weights.read_graph(file)
    for tensor in graph.tensors().values():
        if (values := graphs.constant(tensor)) is not None:
            tensor.values = values * type(values.flat[0])(factor)
    external_weights.write_graph(graph, file, embed=0, force=True)


def publish(path: str, precision: str) -> None:
    """Write a bundle, over another if one lies there."""
    bundle(Path(path), force=True, precision=precision)


def two_files(first: str, second: str, content: str) -> None:
    """Write two files that belong together."""
    write_all({Path(first): content.encode(), Path(second): content.encode()})


def matrix(words: list[str]) -> int:
    """`segc matrix` whose cells are decided at once: its files without its compiles."""
    from segc.cli import main
    from segc.support_matrix import run
    from segc.support_matrix.cells import FAILED, Cell, Job

    def decided(job: Job, _timeout: float = 0.0) -> list[Cell]:
        return job.all(FAILED, "not tried")

    vars(run)["run_isolated"] = decided
    return main(words)


def lost_interrupt(words: list[str], way: str) -> int:
    """A compile in whose trace an interrupt arrives that Python, or a library that catches everything, loses.

    way: "finalizer", out of which Python lets nothing; "swallowed"; "other error". The trace itself is made up.
    """
    from segc.cli import main
    from segc.frontend import trace
    from segc.frontend import traced as traced_model

    class Late:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def traced(*_: object) -> traced_model.Traced:
        try:
            if way == "finalizer":
                Late()
            else:
                signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            if way == "other error":
                raise SystemError("a call returned a result with an exception set") from error
        return traced_model.Traced(parsed(TRACED), ())

    vars(trace)["_traced"] = traced
    return main(words)


def on_a_full_disk(words: list[str], size: int) -> int:
    """A command that may write no file of more than `size` bytes: the system refuses more, as a full disk does."""
    import resource

    from segc.cli import main

    said = io.StringIO()  # what it says goes to a file too
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sys.stderr.write(said.getvalue())
    return code
