"""Expand Einsum into matrix products, exactly.

An equation such as "bqc,bchw->bqhw" gives each axis a letter. The letters of two operands form four groups:

    batch    in both operands and in the result           b
    inner    in both operands, but not in the result      c      summed over
    left     in the first operand and in the result       q
    right    in the second operand and in the result      h, w

A letter that occurs in one operand only, and not in the result, is summed over first. Then

    Einsum(a, b)  ->  Reshape(MatMul(a[batch, left, inner], b[batch, inner, right])), and a Transpose if needed

where a[batch, left, inner] is `a` with its axes in this order. The inner letters become one axis, and so do the left
and the right ones; without batch letters, the left axes need not be merged. Without inner letters, the product is a
broadcast Mul; without left and right letters, it is a Mul and a ReduceSum. An ellipsis stands for letters that may
broadcast. An Einsum of one operand becomes ReduceSum and Transpose.

Sums run in another order than in the runtime's Einsum, so that floats may differ in the last bits.

Must not fire: for more than two operands; for a letter that one operand has twice (a diagonal); for operands of unknown
rank; for an ellipsis that the result lacks; for a letter whose size is 1 in one operand and larger in the other, which
NumPy broadcasts and ONNX does not.
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
        """Rewrite each node in its place."""
        return rewrite(graph, standard(graph, "Einsum"), expand, PassResult())


@dataclass(frozen=True)
class Equation:
    """A parsed equation. terms: the letters of each operand. ellipsis: the letters that stand for its axes."""

    terms: tuple[str, ...]
    result: str
    ellipsis: str


@dataclass(frozen=True)
class Operand:
    """A tensor, and a letter for each of its axes."""

    tensor: gs.Tensor
    letters: str


@dataclass(frozen=True)
class Groups:
    """The letters of two operands by their role in the product, see the module's docstring."""

    batch: str
    left: str
    right: str
    inner: str


def parse(equation: str, ranks: Sequence[int]) -> Equation:
    """Parse an equation for operands of these ranks, with letters in place of the ellipsis.

    Raises RewriteNotApplicable if the equation is invalid, or if this pass does not expand it.
    """
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    if len(terms) != len(ranks):
        raise RewriteNotApplicable(f"'{equation}' has {len(terms)} operands, the node {len(ranks)}")
    covered = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]  # by the ellipsis
    if any(count < 0 or (count and "..." not in term) for term, count in zip(terms, covered, strict=True)):
        raise RewriteNotApplicable(f"'{equation}' does not fit ranks {list(ranks)}")
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    ellipsis = "".join(unused[: max(covered)])
    # an ellipsis aligns to the right, as broadcasting does
    terms = [term.replace("...", ellipsis[len(ellipsis) - count :]) for term, count in zip(terms, covered, strict=True)]
    if not arrow:
        result = _implicit_result("".join(terms), ellipsis)
    elif "..." in result:
        result = result.replace("...", ellipsis)
    elif ellipsis:
        raise RewriteNotApplicable(f"'{equation}' sums over its ellipsis")
    if any(len(set(term)) < len(term) for term in [*terms, result]):
        raise RewriteNotApplicable(f"'{equation}' repeats a letter within one operand")
    if not set(result) <= set("".join(terms)):
        raise RewriteNotApplicable(f"'{equation}' has a letter in the result only")
    return Equation(tuple(terms), result, ellipsis)


def _implicit_result(letters: str, ellipsis: str) -> str:
    """The result of an equation without an arrow: the ellipsis, then the letters that occur once, in their order."""
    return ellipsis + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1 and c not in ellipsis)


def groups(first: str, second: str, result: str) -> Groups:
    """Group the letters of two operands. Inner letters are in the order of `first`, the others in that of `result`."""
    common = set(first) & set(second)
    return Groups(
        batch="".join(c for c in result if c in common),
        left="".join(c for c in result if c in first and c not in common),
        right="".join(c for c in result if c in second and c not in common),
        inner="".join(c for c in first if c in common and c not in result),
    )


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Einsum. Raises RewriteNotApplicable."""
    inputs = list(b.node.inputs)
    typed(*inputs)
    if len(inputs) > 2:
        raise RewriteNotApplicable(f"it has {len(inputs)} operands; this pass expands one or two")
    equation = parse(text(b.node, "equation"), [len(t.shape) for t in inputs])
    result = equation.result
    operands = [Operand(tensor, letters) for tensor, letters in zip(inputs, equation.terms, strict=True)]
    if len(operands) == 1:
        x = _sum_unused(b, "sum", operands[0], result)
        return b.transpose("order", x.tensor, [x.letters.index(c) for c in result])
    first, second = operands
    _require_equal_sizes(first, second, equation.ellipsis)
    left = _sum_unused(b, "a_sum", first, result + second.letters)
    right = _sum_unused(b, "b_sum", second, result + first.letters)
    letters = groups(left.letters, right.letters, result)
    if letters.inner and (letters.left or letters.right):
        return _build_matmul(b, left, right, letters, result)
    return _build_mul(b, left, right, letters, result)


def _require_equal_sizes(first: Operand, second: Operand, ellipsis: str) -> None:
    """Raise RewriteNotApplicable if a common letter has two sizes; letters of the ellipsis may broadcast."""
    for letter in sorted(set(first.letters) & set(second.letters) - set(ellipsis)):
        sizes = [operand.tensor.shape[operand.letters.index(letter)] for operand in (first, second)]
        if all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
            raise RewriteNotApplicable(f"letter '{letter}' is {sizes[0]} in one operand and {sizes[1]} in the other")


def _sum_unused(b: Builder, role: str, operand: Operand, used: str) -> Operand:
    """The operand summed over the letters that are not in `used`."""
    axes = [axis for axis, letter in enumerate(operand.letters) if letter not in used]
    if not axes:
        return operand
    total = b.reduce("ReduceSum", role, operand.tensor, axes, keepdims=False)
    return Operand(total, "".join(letter for letter in operand.letters if letter in used))


def _aligned(b: Builder, role: str, operand: Operand, order: str) -> gs.Tensor:
    """The operand with its axes in this order of letters, and axes of size 1 for letters that it lacks."""
    letters = operand.letters
    x = b.transpose(f"{role}_order", operand.tensor, [letters.index(c) for c in order if c in letters])
    return b.unsqueeze(f"{role}_wide", x, [axis for axis, letter in enumerate(order) if letter not in letters])


def _build_mul(b: Builder, left: Operand, right: Operand, letters: Groups, result: str) -> gs.Tensor:
    """The product as a broadcast Mul, summed over the inner letters."""
    order = result + letters.inner
    y: gs.Tensor = b.op("Mul", "product", _aligned(b, "a", left, order), _aligned(b, "b", right, order))
    inner_axes = range(len(result), len(order))
    return b.reduce("ReduceSum", "inner", y, list(inner_axes), keepdims=False) if letters.inner else y


def _build_matmul(b: Builder, left: Operand, right: Operand, letters: Groups, result: str) -> gs.Tensor:
    """The product as a MatMul between Reshapes, transposed to the order of the result."""
    if _is_transposed(letters, result):
        left, right = right, left
        letters = Groups(letters.batch, letters.right, letters.left, letters.inner)
    batch, inner = letters.batch, letters.inner
    x = _aligned(b, "a", left, batch + letters.left + inner)
    w = _aligned(b, "b", right, batch + inner + letters.right)
    keeps_left = not batch and len(letters.left) > 1  # MatMul treats the left axes as its batch
    left_runs = list(letters.left) if keeps_left else [letters.left]
    x_merged = _merged(b, "a_flat", x, [*batch, *left_runs, inner])
    w_merged = _merged(b, "b_flat", w, [*batch, inner, letters.right])
    y: gs.Tensor = b.op("MatMul", "product", x_merged, w_merged)
    if (len(letters.left) != 1 and not keeps_left) or len(letters.right) != 1:
        y = b.reshape("apart", y, _result_sizes(x, w, y, letters, keeps_left))
    order = batch + letters.left + letters.right
    return b.transpose("order", y, [order.index(c) for c in result])


def _is_transposed(letters: Groups, result: str) -> bool:
    """Whether the result has the right letters directly after the batch: swapped operands then save the Transpose."""
    return bool(letters.batch and letters.left and letters.right) and result.startswith(letters.batch + letters.right)


def _result_sizes(
    x: gs.Tensor, w: gs.Tensor, y: gs.Tensor, letters: Groups, keeps_left: bool
) -> list[int | Axis | list[int | Axis]]:
    """The size of each batch, left and right letter, from tensors that have the letter as an axis of its own.

    x: (batch, left, inner). w: (batch, inner, right). y: the MatMul, with merged left letters unless `keeps_left`.
    """
    batch, left, inner = len(letters.batch), len(letters.left), len(letters.inner)
    separate_in_y = batch + left if keeps_left else batch
    sizes: list[int | Axis | list[int | Axis]] = [(y, axis) for axis in range(separate_in_y)]
    sizes += [(x, axis) for axis in range(separate_in_y, batch + left)]
    return sizes + [(w, batch + inner + i) for i in range(len(letters.right))]


def _merged(b: Builder, role: str, x: gs.Tensor, runs: Sequence[str]) -> gs.Tensor:
    """`x` with each of these runs of letters merged into one axis; an empty run becomes an axis of size 1."""
    if all(len(run) == 1 for run in runs):
        return x
    sizes: list[int | Axis | list[int | Axis]] = []
    axis = 0
    for run in runs:
        sizes.append([(x, axis + i) for i in range(len(run))])
        axis += len(run)
    return b.reshape(role, x, sizes)
