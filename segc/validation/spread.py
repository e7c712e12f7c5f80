"""An evaluation spread over the workers of a Dask cluster; they read the files under the same paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from segc import cluster
from segc.errors import Code, CompileError, SegcError
from segc.validation.evaluate import Answer, Question, answer
from segc.validation.models import load_all
from segc.validation.pairs import Pair

_CHUNK = 8  # images of one task: many more than that, and a worker that dies costs much
_WAITING = 3  # tasks for each thread of the cluster


def spread(question: Question, pairs: Sequence[Pair], address: str) -> Iterator[Answer]:
    """The answers as they come, one for each pair, also when workers die: their images go to others.

    An image at which workers die again and again is an answer with an error. Raises MissingPackageError, FileError (no
    scheduler), and SegcError where workers cannot load the models.
    """
    with cluster.client(address) as client:
        suspects: list[Pair] = []
        for chunk, future in _finished(client, question, pairs):
            if _died(future.exception()):
                suspects += chunk
            else:
                yield from _result(future)
        for pair in suspects:  # one at a time: whoever is alone on the cluster when a worker dies is guilty
            future = client.submit(on_worker, question, [pair], pure=False)
            died = future.exception()
            yield from [Answer(pair, error=_killer(pair, died))] if _died(died) else _result(future)


def on_worker(question: Question, pairs: Sequence[Pair]) -> list[Answer]:
    """What a worker runs, which may have loaded nothing yet. Only SegcError leaves it: others may not be picklable."""
    try:
        loaded = load_all(question.models)
        return [answer(loaded, question, pair) for pair in pairs]
    except SegcError:
        raise
    except Exception as error:
        raise CompileError(
            "a worker of the Dask cluster cannot evaluate", code=Code.ENGINE_PROCESS,
            because=f"{type(error).__name__}: {error}"[:2000], where=str(pairs[0].image),
            so="evaluate without --scheduler to see whether the images or the worker are to blame",
        ) from None  # fmt: skip


def _finished(client: Any, question: Question, pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[Pair], Any]]:
    """The images in small tasks, and what became of each; only as many wait as keep the cluster busy."""
    from distributed import as_completed

    chunks = [pairs[at : at + _CHUNK] for at in range(0, len(pairs), _CHUNK)]
    room = _WAITING * max(1, sum(client.nthreads().values()))
    asked: dict[str, Sequence[Pair]] = {}

    def submit(chunk: Sequence[Pair]) -> Any:
        future = client.submit(on_worker, question, list(chunk), pure=False)
        asked[future.key] = chunk
        return future

    running: Any = as_completed([submit(chunk) for chunk in chunks[:room]])  # type: ignore[no-untyped-call]
    later = iter(chunks[room:])
    for future in running:
        yield asked.pop(future.key), future
        if (more := next(later, None)) is not None:
            running.add(submit(more))


def _died(error: BaseException | None) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)


def _result(future: Any) -> list[Answer]:
    """The answers of a task. What stops one worker, such as a damaged bundle, stops them all, and is raised."""
    error = future.exception()
    if isinstance(error, SegcError):
        raise error
    if error is not None:
        raise CompileError(
            "a worker of the Dask cluster cannot evaluate", code=Code.ENGINE_PROCESS,
            because=f"{type(error).__name__}: {error}", so="install segc and the runtime on every worker",
        ) from error  # fmt: skip
    found: list[Answer] = future.result()
    return found


def _killer(pair: Pair, error: BaseException) -> SegcError:
    return CompileError(
        f"workers died at the image {pair.image}", code=Code.ENGINE_PROCESS, because=str(error).splitlines()[0],
        so="evaluate it alone, without --scheduler, to see why",
    )  # fmt: skip
