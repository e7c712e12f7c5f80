"""The limits of the parity gate, and which of them apply.

The user's limits take precedence over those of the target for the precision, and these over segc's defaults. A graph
that selects points by top-k is judged by pixels alone: see `by_pixels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from segc import ranges

TargetLimits = Mapping[str, tuple[float | None, float]]  # precision -> (relative error, agreement)


@dataclass(frozen=True)
class Limits:
    """The limits of one case. relative_error: largest |difference| / largest |logit|. agreement: share of equal pixels.

    With relative_error=None, only pixels are judged. That suits a model that selects points by top-k (PointRend): where
    scores tie, rounding decides which points are refined, and the logits there may differ by any amount.
    """

    relative_error: float | None = 1e-3
    agreement: float = 0.999


# rounded engines are judged by pixels alone; bfloat16 keeps 8 bits of a number where float16 keeps 11
LIMITS = {"fp32": Limits(), "fp16": Limits(None, 0.995), "bf16": Limits(None, 0.99), "int8": Limits(None, 0.95)}
# deep attention networks with seeded weights need a larger error than the default
MATRIX = Limits(1.5e-3, 0.999)
NEAR_TIE = 2.0  # times the largest logit error: rounding alone cannot change pixels with a larger margin


def limits_of(
    own: TargetLimits, precision: str, max_error: float | None = None, min_agreement: float | None = None
) -> Limits:
    """The user's limits if given, else the target's `own` for this precision, else segc's defaults."""
    default = Limits(*own[precision]) if precision in own else LIMITS.get(precision, LIMITS["fp32"])
    return combined(default, max_error, min_agreement)


def combined(default: Limits, max_error: float | None, min_agreement: float | None) -> Limits:
    """`default`, with the user's limits in place of its own where given. Raises UsageError."""
    if max_error is not None:
        ranges.LIMIT.require("--max-error", max_error)
    if min_agreement is not None:
        ranges.LIMIT.require("--min-agreement", min_agreement)
    return Limits(
        default.relative_error if max_error is None else max_error,
        default.agreement if min_agreement is None else min_agreement,
    )


def by_pixels(limits: Limits) -> Limits:
    """The limits without that of the logits, for a model in which rounding selects what is computed."""
    return replace(limits, relative_error=None)


def of_matrix(own: TargetLimits) -> Limits | None:
    """The limits of the support matrix for a target; None for a target that has limits of its own."""
    return None if "fp32" in own else MATRIX
