"""The metrics of the parity gate, in NumPy on logits (N, C, H, W) and masks (N, H, W).

- The error of logits is relative to the largest logit of the reference.
- Agreement is the share of equal pixels. mIoU is that of the two masks.
- Boundary agreement counts only pixels within 3 px of a class boundary in the reference, where errors appear first.
- A differing pixel is a near tie if the reference's margin between its two best classes is at most twice the error
  that rounding explains: a correct computation may decide it either way. That error is measured on the same input,
  where pixels beyond the limit differ. Only the other differing pixels are wrong, and count against the limit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segc.errors import Code, ParityError
from segc.parity.difference import largest_difference
from segc.parity.limits import NEAR_TIE, Limits

_log = logging.getLogger(__name__)

BOUNDARY = 3  # pixels
Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """One comparison. The errors of logits are None if the engine returns masks.

    margin_ratio: the largest reference margin at a differing pixel, divided by the largest logit error; up to 2, all
    differing pixels are explained by it. None if no pixel differs.
    rounding: the logit error that rounding explains, near_ties: differing pixels that it explains; None where fewer
    pixels differ than the limit allows, or where it cannot be measured.
    """

    name: str
    shape: tuple[int, ...]
    max_abs_error: float | None
    relative_error: float | None
    agreement: float
    miou: float
    boundary_agreement: float
    differing_pixels: int
    margin_ratio: float | None
    near_ties: int | None = None
    rounding: float | None = None

    @property
    def right(self) -> float:
        """The share of pixels that are not wrong: equal, or near ties."""
        if not self.near_ties:
            return self.agreement
        pixels = math.prod((self.shape[0], *self.shape[-2:]))
        return 1.0 - (self.differing_pixels - self.near_ties) / pixels

    def failures(self, limits: Limits) -> list[str]:
        """One sentence for each metric that misses its limit."""
        found = []
        limit = limits.relative_error
        if limit is not None and self.relative_error is not None and not self.relative_error <= limit:
            found.append(f"{self.name}: relative logit error {self.relative_error:.2e}, limit {limit:.0e}")
        if not self.right >= limits.agreement:
            ties = f" and {self.near_ties} near ties" if self.near_ties else ""
            found.append(f"{self.name}: {self.agreement:.4%} of pixels equal{ties}, limit {limits.agreement:.2%}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}
        return {**plain, "shape": list(self.shape)}


def compare(
    name: str,
    reference: Array,
    output: Array,
    threshold: float | None,
    expected: Array | None = None,
    rounding: float | None = None,
) -> Case:
    """Compare one output. reference: float32 logits (N, C, H, W). output: logits of that shape, or a mask (N, H, W).

    expected: the reference's mask (N, H, W), for references that are masks or rounded logits; by default that of
    `reference`. rounding: the logit error that rounding explains, if known. Raises ParityError if shapes differ.
    """
    wanted = reference.shape if output.ndim == 4 or reference.ndim == 3 else (reference.shape[0], *reference.shape[2:])
    if output.shape != wanted:
        raise ParityError(
            f"{name}: the engine returns shape {output.shape}, the reference {reference.shape}", code=Code.OUTPUT_SHAPE
        )
    logits = output if output.ndim == 4 else None
    expected = mask_of(reference, threshold) if expected is None else expected
    actual = output if logits is None else mask_of(logits, threshold)
    different = expected != actual
    max_error, relative = (None, None) if logits is None else largest_difference(reference, logits)
    leads = margins(reference, different, threshold) if reference.ndim == 4 else None
    explained = None if rounding is None or leads is None else int((leads <= NEAR_TIE * rounding).sum())
    return Case(
        name=name,
        shape=tuple(reference.shape),
        max_abs_error=max_error,
        relative_error=relative,
        agreement=1.0 - float(different.mean()),
        miou=mean_iou(expected, actual),
        boundary_agreement=_boundary_agreement(expected, different),
        differing_pixels=int(different.sum()),
        margin_ratio=float(leads.max() / max_error) if leads is not None and leads.size and max_error else None,
        near_ties=explained,
        rounding=None if explained is None else rounding,
    )


def mask_of(logits: Array, threshold: float | None) -> Array:
    """The class of each pixel (N, H, W): the lowest index of the largest logit.

    With one channel: sigmoid(logit) > threshold, 0.5 if that is None.
    """
    if logits.shape[1] > 1:
        return np.asarray(logits.argmax(axis=1))
    # in float32 as in torch, so that a logit at the threshold gets the same class
    with np.errstate(over="ignore"):  # of exp: the probability is 0
        probability = 1 / (1 + np.exp(-logits[:, 0].astype(np.float32)))
    return np.asarray(probability > np.float32(0.5 if threshold is None else threshold)).astype(np.int64)


def mean_iou(expected: Array, actual: Array) -> float:
    """The mean of intersection / union over all classes that occur in one of the masks."""
    classes = np.union1d(np.unique(expected), np.unique(actual))
    ious = [np.sum((expected == c) & (actual == c)) / np.sum((expected == c) | (actual == c)) for c in classes]
    return float(np.mean(ious))


ADVICE = (
    "rerun with --dump-ir DIR --check to find the pass after which numbers differ",
    "if the model itself is ill-conditioned (random weights, saturated logits), try a trained checkpoint",
    "--max-error and --min-agreement set other limits",
)


def failures(cases: Sequence[Case], limits: Limits) -> list[str]:
    """One sentence for each metric of each case that misses its limit; empty if none does."""
    return [line for case in cases for line in case.failures(limits)]


def run_cases(
    reference: Callable[[Array], Array],
    engine: Callable[[Array], Array],
    named_inputs: Iterator[tuple[str, Array]],
    threshold: float | None,
    rounding: Callable[[Array], float | None] | None = None,
    agreement: float = 0.0,
    see: Callable[[str, Array, Array, Array], None] | None = None,
) -> list[Case]:
    """Run the reference and the engine on each input, and compare.

    rounding: measures the logit error that rounding explains; called where less than `agreement` of the pixels are
    equal. see: called with the case's name, the input, and the outputs of both.
    """
    cases = []
    for name, x in named_inputs:
        wanted, output = reference(x), engine(x)
        case = compare(title(name, x), wanted, output, threshold)
        if rounding is not None and case.agreement < agreement:
            case = compare(title(name, x), wanted, output, threshold, rounding=rounding(x))
        cases.append(case)
        if see is not None:
            see(case.name, x, wanted, output)
        error = "no logits" if case.relative_error is None else f"relative error {case.relative_error:.2e}"
        _log.info("compared %s: %s, %.4f%% of the pixels equal", case.name, error, 100 * case.agreement)
    return cases


def title(name: str, x: Array) -> str:
    """The name of the case for the input `name`. x: float32 (N, C, H, W), or images uint8 (N, H, W, C)."""
    return f"{name} {'x'.join(map(str, sides(x)))}"


def sides(x: Array) -> tuple[int, int]:
    """(height, width) of an input: float32 (N, C, H, W), or images uint8 (N, H, W, C)."""
    height, width = x.shape[1:3] if x.dtype == np.uint8 else x.shape[2:]
    return height, width


def _boundary_agreement(expected: Array, different: Array) -> float:
    """The share of equal pixels within BOUNDARY px of a class boundary in the reference; 1 without boundaries."""
    near = np.zeros_like(different)
    for mask, out in zip(expected, near, strict=True):
        out |= _near_change(mask)
    return 1.0 - float(different[near].mean()) if near.any() else 1.0


def _near_change(mask: Array) -> Array:
    import cv2

    kernel = np.ones((2 * BOUNDARY + 1,) * 2, np.uint8)
    values = mask.astype(np.float32)  # exact for every class number; OpenCV has no int64
    return np.asarray(cv2.dilate(values, kernel) != cv2.erode(values, kernel))


def margins(reference: Array, different: Array, threshold: float | None) -> Array:
    """By how much the reference's best class leads at the differing pixels, in logits."""
    if reference.shape[1] == 1:
        level = 0.5 if threshold is None else threshold
        return np.asarray(np.abs(reference[:, 0][different] - np.log(level / (1 - level))))
    best = np.partition(np.moveaxis(reference, 1, -1)[different], -2, axis=-1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])
