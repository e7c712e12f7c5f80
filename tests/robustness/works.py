"""Pieces of work for `tests.helpers.kills.Worker`: functions of text and numbers, so that they travel as JSON."""

from __future__ import annotations

import gc
from pathlib import Path

from segc.files.whole import write_all
from segc.graph import external_weights
from segc.graph import ir as graphs
from tests.helpers.tiny_bundles import bundle


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


def swallowed_in_a_finalizer(words: list[str]) -> int:
    """A compile during which an interrupt arrives in a finalizer, from where Python lets nothing out."""
    import signal

    from segc.cli import main
    from segc.frontend import trace

    class Late:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def traced(*arguments: object, **options: object) -> object:
        late = Late()
        del late
        gc.collect()
        return real(*arguments, **options)  # type: ignore[arg-type]

    real, trace._traced = trace._traced, traced  # type: ignore[assignment]
    return main(words)


def turned_into_another_error(words: list[str], swallow: bool) -> int:
    """A compile during which a library catches the interrupt: it goes on, or raises an error of its own."""
    import signal

    from segc.cli import main
    from segc.frontend import trace

    def traced(*arguments: object, **options: object) -> object:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            if not swallow:
                raise SystemError("a call returned a result with an exception set") from error
        return real(*arguments, **options)  # type: ignore[arg-type]

    real, trace._traced = trace._traced, traced  # type: ignore[assignment]
    return main(words)
