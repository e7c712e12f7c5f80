"""The limits of the parity gate: what they are, and whose apply.

The user's come first, then the target's own for the precision, then segc's. A graph that selects by top-k is judged by
pixels whatever they say: see `by_pixels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Own = Mapping[str, tuple[float | None, float]]  # a target's limits: precision -> (relative error, agreement)


@dataclass(frozen=True)
class Limits:
    """What a case must reach. relative_error: largest |difference| / largest |logit|; agreement: share of pixels.

    relative_error None judges by pixels alone. That is right for a model that selects points by top-k (PointRend):
    where scores tie, rounding decides which points are refined, and a logit may then differ by any amount.
    """

    relative_error: float | None = 1e-3
    agreement: float = 0.999


LIMITS = {"fp32": Limits(), "fp16": Limits(None, 0.995)}  # half precision is judged by pixels
# deep attention nets with the matrix's seeded weights need more than the default
MATRIX = Limits(1.5e-3, 0.999)
NEAR_TIE = 2.0  # times the largest logit error: a pixel with a wider margin cannot differ for rounding alone


def limits_of(own: Own, precision: str, max_error: float | None = None, min_agreement: float | None = None) -> Limits:
    """The user's limits, else the target's `own` for this precision, else segc's."""
    default = Limits(*own[precision]) if precision in own else LIMITS.get(precision, LIMITS["fp32"])
    return combined(default, max_error, min_agreement)


def combined(default: Limits, max_error: float | None, min_agreement: float | None) -> Limits:
    """`default` with what the user asked for."""
    return Limits(
        default.relative_error if max_error is None else max_error,
        default.agreement if min_agreement is None else min_agreement,
    )


def by_pixels(limits: Limits) -> Limits:
    """The limits without that of logits, for a model in which rounding decides what is computed."""
    return replace(limits, relative_error=None)


def of_matrix(own: Own) -> Limits | None:
    """Limits of the support matrix for a target; None leaves a target that has its own to them."""
    return None if "fp32" in own else MATRIX
