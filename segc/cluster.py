"""A Dask cluster that runs already, for work that is spread over many machines.

Items go to workers in small tasks. When a worker dies, others take its items: none is lost, none is done twice, and an
item at which workers die again and again gets an answer that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from segc.errors import Code, CompileError, FileError, MissingPackageError, SegcError

T = TypeVar("T")
R = TypeVar("R")
_CHUNK = 8  # items of one task: many more than that, and a worker that dies costs much
_WAITING = 3  # tasks for each thread of the cluster


@contextmanager
def client(address: str) -> Iterator[Any]:
    """A client of the scheduler at `address`. Raises MissingPackageError without Dask, FileError without an answer."""
    try:
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            "--scheduler needs Dask",
            code=Code.OPTIONAL_PACKAGE,
            because="the package 'distributed' is not installed",
            so="pip install distributed",
        ) from error
    try:
        made: Any = distributed.Client(address, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise FileError(
            f"no Dask scheduler answers at '{address}'",
            code=Code.NO_SCHEDULER,
            because=str(error),
            so="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error
    with made:
        yield made


def spread(
    items: Sequence[T],
    address: str,
    work: Callable[[Sequence[T]], list[R]],
    killed: Callable[[T, str], R],
    *,
    chunk: int = _CHUNK,
) -> Iterator[R]:
    """The answers as they come, one for each item. work: what a worker runs, which may have loaded nothing yet.

    chunk: items of one task. killed(item, why): the answer for an item at which workers die. Raises
    MissingPackageError, FileError (no scheduler), and the SegcError that `work` raises, which stops all.
    """
    with client(address) as made:
        suspects: list[T] = []
        for given, future in _finished(made, items, work, chunk):
            if _died(future.exception()):
                suspects += given
            else:
                yield from _answers(future)
        for item in suspects:  # one at a time: whoever is alone on the cluster when a worker dies is guilty
            future = made.submit(work, [item], pure=False)
            died = future.exception()
            yield from [killed(item, str(died).splitlines()[0])] if _died(died) else _answers(future)


def _finished(
    made: Any, items: Sequence[T], work: Callable[[Sequence[T]], list[R]], each: int
) -> Iterator[tuple[Any, Any]]:
    """The items in small tasks, and what became of each; only as many wait as keep the cluster busy."""
    from distributed import as_completed

    chunks = [items[at : at + each] for at in range(0, len(items), each)]
    room = _WAITING * max(1, sum(made.nthreads().values()))
    asked: dict[str, Sequence[T]] = {}

    def submit(chunk: Sequence[T]) -> Any:
        future = made.submit(work, list(chunk), pure=False)
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


def _answers(future: Any) -> list[Any]:
    """The answers of a task. What stops one worker, such as a damaged bundle, stops them all, and is raised."""
    error = future.exception()
    if isinstance(error, SegcError):
        raise error
    if error is not None:
        raise CompileError(
            "a worker of the Dask cluster cannot do its work", code=Code.ENGINE_PROCESS,
            because=f"{type(error).__name__}: {error}", so="install segc and the runtime on every worker",
        ) from error  # fmt: skip
    found: list[Any] = future.result()
    return found


def unexpected(error: Exception, where: str) -> CompileError:
    """For a worker: an exception that is no SegcError may not be picklable."""
    return CompileError(
        "a worker of the Dask cluster cannot do its work", code=Code.ENGINE_PROCESS,
        because=f"{type(error).__name__}: {error}"[:2000], where=where,
        so="do it without --scheduler to see whether the images or the worker are to blame",
    )  # fmt: skip


def killer(what: str, why: str) -> SegcError:
    """The error of an item at which workers die."""
    return CompileError(
        f"workers died at {what}", code=Code.ENGINE_PROCESS, because=why,
        so="do it alone, without --scheduler, to see why",
    )  # fmt: skip
