"""An evaluation spread over the workers of a Dask cluster; they read the files under the same paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from segc import cluster
from segc.errors import SegcError
from segc.validation.evaluate import Answer, Question, answer
from segc.validation.models import load_all
from segc.validation.pairs import Pair


def spread(question: Question, pairs: Sequence[Pair], address: str) -> Iterator[Answer]:
    """The answers as they come, one for each pair, also when workers die. Raises what `cluster.spread` raises."""
    return cluster.spread(pairs, address, partial(on_worker, question), _killed)


def on_worker(question: Question, pairs: Sequence[Pair]) -> list[Answer]:
    """What a worker runs, which may have loaded nothing yet. Only SegcError leaves it."""
    try:
        loaded = load_all(question.models)
        return [answer(loaded, question, pair) for pair in pairs]
    except SegcError:
        raise
    except Exception as error:
        raise cluster.unexpected(error, str(pairs[0].image)) from None


def _killed(pair: Pair, why: str) -> Answer:
    return Answer(pair, error=cluster.killer(f"the image {pair.image}", why))
