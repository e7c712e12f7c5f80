"""ONNX's own node tests through segc: what happens to each, with the test's own inputs."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from segc.commands.optimize import optimize
from segc.errors import SegcError
from segc.parity.difference import largest_difference
from segc.runtime.ort import outputs_of

CLOSE, HALF = 1e-4, 4e-3  # relative to the largest value; float16 results are rounded to 2^-11 of each
RANDOM = ("bernoulli", "random", "multinomial", "dropout", "training")  # another number in every run


@dataclass(frozen=True)
class Outcome:
    """same, refused, changed, fault, or not run: by ONNX Runtime, which then says nothing. why: the words for it."""

    name: str
    kind: str
    why: str = ""


def cases(*, of: Sequence[str] = ()) -> Iterator[TestCase]:
    """ONNX's node tests with arrays in and out, whose names contain one of the words, or all."""
    for case in _all():
        plain = case.model is not None and case.data_sets and _is_plain(case)
        if plain and not any(word in case.name for word in RANDOM) and (not of or any(w in case.name for w in of)):
            yield case


def outcome(case: TestCase, folder: Path, target: str | None = None) -> Outcome:
    """Optimize the test's model, and compare the result with the model on the test's inputs, in ONNX Runtime."""
    path, out = folder / "given.onnx", folder / "out.onnx"
    onnx.save(case.model, path)
    feeds = dict(zip((info.name for info in case.model.graph.input), case.data_sets[0][0], strict=False))
    try:
        want = outputs_of(path, feeds)
    except Exception as error:  # whatever the runtime raises
        return Outcome(case.name, "not run", str(error)[:100])
    try:
        optimize(path, target=target, out=out, force=True)
    except SegcError as refusal:
        return Outcome(case.name, "refused", str(refusal).replace("\n", " ")[:200])
    except Exception:  # a defect
        return Outcome(case.name, "fault", traceback.format_exc()[-600:])
    try:
        got = outputs_of(out, feeds)
    except Exception as error:
        return Outcome(case.name, "changed", f"it no longer runs: {str(error)[:300]}")
    return Outcome(case.name, *_compared(want, got))


@cache
def _all() -> list[TestCase]:
    return list(collect_testcases(None))


def counts(found: Sequence[Outcome]) -> Counter[str]:
    """How many there are of each kind."""
    return Counter(each.kind for each in found)


def _is_plain(case: TestCase) -> bool:
    given = case.data_sets[0][0]
    return all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in given)


def _compared(want: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> tuple[str, str]:
    for name, value in want.items():
        if name not in got:
            return "changed", f"output '{name}' is gone"
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            continue
        if value.shape != got[name].shape or value.dtype != got[name].dtype:
            return "changed", f"output '{name}' has another shape or type"
        limit = HALF if value.dtype == np.float16 else CLOSE
        error = largest_difference(value, got[name])[1]
        if not error <= limit:
            return "changed", f"output '{name}' differs by {error:.1e}"
    return "same", ""
