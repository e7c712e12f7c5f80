"""Spell Einsum as matrix products, exactly.

The letters of two operands fall into four groups: batch (in both and in the result), inner (in both only), left and
right (in one operand and the result). A letter of one operand alone is summed away first. Then

    Einsum(a, b)  ->  Reshape(MatMul(a[batch, left, inner], b[batch, inner, right])), transposed where need be

Groups of several letters become one axis for the product; without batch the left group need not. No inner letter makes
it a broadcast Mul, neither left nor right a Mul and ReduceSum. The axes of an ellipsis are letters that broadcast. One
operand is ReduceSum and Transpose. Sums run in another order than the runtime's Einsum, so floats may differ in the
last bits.

Must not fire: for three operands and more, for a letter twice in one operand (a diagonal), for unknown ranks, for an
ellipsis that the result lacks, and where a letter is 1 in one operand and larger in the other (not ONNX, though NumPy
broadcasts it).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, RewriteNotApplicable, rewrite, standard, text, typed


class LegalizeEinsum(Pass):
    """Rewrite Einsum of one or two operands into Transpose, Reshape, MatMul, Mul and ReduceSum."""

    name = "legalize-einsum"
    algebra = "Einsum(a, b)  ->  MatMul(a[batch, left, inner], b[batch, inner, right]), reshaped and transposed"
    ensures = frozenset({"no Einsum"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "Einsum"), spelled, PassResult())


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str, str]:
    """The letters of each operand, those of the result, and which of them stand for an ellipsis.

    Raises RewriteNotApplicable when the equation is none, or one that this pass does not spell.
    """
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != len(ranks):
        raise RewriteNotApplicable(f"'{equation}' has {len(terms)} operands, the node {len(ranks)}")
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    if any(wide < 0 or (wide and "..." not in term) for term, wide in zip(terms, widths, strict=True)):
        raise RewriteNotApplicable(f"'{equation}' does not fit ranks {list(ranks)}")
    spare = [c for c in string.ascii_letters if c not in equation]
    dots = "".join(spare[: max(widths)])
    terms = [term.replace("...", dots[len(dots) - wide :]) for term, wide in zip(terms, widths, strict=True)]
    if not arrow:
        every = "".join(terms)
        result = dots + "".join(c for c in sorted(set(every)) if every.count(c) == 1 and c not in dots)
    elif "..." in result:
        result = result.replace("...", dots)
    elif dots:
        raise RewriteNotApplicable(f"'{equation}' sums over its ellipsis")
    if any(len(set(term)) < len(term) for term in [*terms, result]):
        raise RewriteNotApplicable(f"'{equation}' repeats a letter within one operand")
    if not set(result) <= set("".join(terms)):
        raise RewriteNotApplicable(f"'{equation}' has a letter in the result only")
    return terms, result, dots


@dataclass(frozen=True)
class Groups:
    """How the letters of two operands take part. A batch letter that only one operand has broadcasts."""

    batch: str
    left: str
    right: str
    inner: str


def groups(a: str, b: str, result: str) -> Groups:
    """The four groups, each in the order of the result, inner letters in that of `a`."""
    both = set(a) & set(b)
    return Groups(
        batch="".join(c for c in result if c in both),
        left="".join(c for c in result if c in a and c not in both),
        right="".join(c for c in result if c in b and c not in both),
        inner="".join(c for c in a if c in both and c not in result),
    )


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    inputs = list(b.node.inputs)
    typed(*inputs)
    if len(inputs) > 2:
        raise RewriteNotApplicable(f"it has {len(inputs)} operands, one and two are spelled")
    terms, result, dots = parse(text(b.node, "equation"), [len(t.shape) for t in inputs])
    if len(inputs) == 1:
        x, letters = _summed(b, "sum", inputs[0], terms[0], result)
        return b.transpose("order", x, [letters.index(c) for c in result])
    _same_sizes(inputs, terms, dots)
    left, right = (
        _summed(b, f"{role}_sum", x, term, result + other)
        for role, x, term, other in zip("ab", inputs, terms, reversed(terms), strict=True)
    )
    parts = groups(left[1], right[1], result)
    if parts.inner and (parts.left or parts.right):
        return _by_matmul(b, left, right, parts, result)
    return _by_mul(b, left, right, parts, result)


def _summed(b: Builder, role: str, x: gs.Tensor, term: str, wanted: str) -> tuple[gs.Tensor, str]:
    """`x` without the letters that nobody wants."""
    gone = [at for at, c in enumerate(term) if c not in wanted]
    if gone:
        x = b.reduce("ReduceSum", role, x, gone, keepdims=False)
    return x, "".join(c for c in term if c in wanted)


def _same_sizes(inputs: Sequence[gs.Tensor], terms: Sequence[str], dots: str) -> None:
    for c in sorted(set(terms[0]) & set(terms[1]) - set(dots)):
        sizes = [t.shape[term.index(c)] for t, term in zip(inputs, terms, strict=True)]
        if all(isinstance(s, int) for s in sizes) and sizes[0] != sizes[1]:
            raise RewriteNotApplicable(f"letter '{c}' is {sizes[0]} here and {sizes[1]} there")


def _aligned(b: Builder, role: str, operand: tuple[gs.Tensor, str], order: str) -> gs.Tensor:
    """The operand with its letters in this order, and axes of size 1 for letters that it lacks."""
    x, letters = operand
    x = b.transpose(f"{role}_order", x, [letters.index(c) for c in order if c in letters])
    return b.unsqueeze(f"{role}_wide", x, [at for at, c in enumerate(order) if c not in letters])


def _by_mul(
    b: Builder, left: tuple[gs.Tensor, str], right: tuple[gs.Tensor, str], parts: Groups, result: str
) -> gs.Tensor:
    order = result + parts.inner
    y: gs.Tensor = b.op("Mul", "product", _aligned(b, "a", left, order), _aligned(b, "b", right, order))
    summed = range(len(result), len(order))
    return b.reduce("ReduceSum", "inner", y, list(summed), keepdims=False) if parts.inner else y


def _by_matmul(
    b: Builder, left: tuple[gs.Tensor, str], right: tuple[gs.Tensor, str], parts: Groups, result: str
) -> gs.Tensor:
    if result.startswith(parts.batch + parts.right) and parts.left and parts.right and parts.batch:
        left, right = right, left
        parts = Groups(parts.batch, parts.right, parts.left, parts.inner)
    x = _aligned(b, "a", left, parts.batch + parts.left + parts.inner)
    w = _aligned(b, "b", right, parts.batch + parts.inner + parts.right)
    several = not parts.batch and len(parts.left) > 1  # then MatMul takes the left letters as they are
    at, n = len(parts.batch), len(parts.left)
    merged_left = [parts.left] if not several else list(parts.left)
    flat = _merged(b, "a_flat", x, [*parts.batch, *merged_left, parts.inner])
    y: gs.Tensor = b.op("MatMul", "product", flat, _merged(b, "b_flat", w, [*parts.batch, parts.inner, parts.right]))
    order = parts.batch + parts.left + parts.right
    if (n != 1 and not several) or len(parts.right) != 1:
        sizes: list[int | Axis | list[int | Axis]] = [(y, i) for i in range(at + n if several else at)]
        sizes += [] if several else [(x, at + i) for i in range(n)]
        sizes += [(w, at + len(parts.inner) + i) for i in range(len(parts.right))]
        y = b.reshape("apart", y, sizes)
    return b.transpose("order", y, [order.index(c) for c in result])


def _merged(b: Builder, role: str, x: gs.Tensor, letters: Sequence[str]) -> gs.Tensor:
    """`x` with each of these runs of letters as one axis; an empty run is an axis of size 1."""
    if all(len(run) == 1 for run in letters):
        return x
    sizes: list[int | Axis | list[int | Axis]] = []
    at = 0
    for run in letters:
        sizes.append([(x, at + i) for i in range(len(run))])
        at += len(run)
    return b.reshape(role, x, sizes)
