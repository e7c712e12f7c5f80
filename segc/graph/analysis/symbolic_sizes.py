"""What is known of a symbolic size such as '((H - 1)//4) + 1': about how large it is, and how small it can be."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

SIDE = 1024  # stands for every symbol
Range = tuple[float, float]  # both ends included
ANYTHING: Range = (-math.inf, math.inf)
# names of SymPy's that torch.export writes
_ROUNDED: dict[str, Callable[[float], int]] = {
    "CeilToInt": math.ceil, "FloorToInt": math.floor, "RoundToInt": round, "TruncToInt": math.trunc,
    "ceiling": math.ceil, "floor": math.floor,
}  # fmt: skip


def estimate(size: Any, side: int = SIDE) -> int | None:
    """The number itself, or what an expression is when every symbol is `side`: to tell which of two spellings has less
    to compute.

    None for what is unknown, is no such expression, is no whole number there, or is less than 1.
    """
    if isinstance(size, str):
        low, high = _bounds(size, (side, side))
        if low != high or not float(low).is_integer():
            return None
        size = int(low)
    try:
        number = operator.index(size)
    except TypeError:
        return None
    return number if number > 0 else None


def least(size: Any) -> int:
    """A number that the size is never below, whatever its symbols, which are 1 or more. The size need not reach it.

    0 where nothing is known. A number is its own bound.
    """
    if isinstance(size, str):
        low, _ = _bounds(size, (1, math.inf))
        return max(0, math.floor(low)) if math.isfinite(low) else 0
    try:
        return operator.index(size)
    except TypeError:
        return 0


def _bounds(size: str, symbol: Range) -> Range:
    """Of an expression whose symbols are all in `symbol`; ANYTHING for what is none."""
    try:
        return _range(ast.parse(size, mode="eval").body, symbol)
    except SyntaxError:
        return ANYTHING


def _range(node: ast.expr, symbol: Range) -> Range:
    """Bounds by interval arithmetic."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value, node.value
    if isinstance(node, ast.Name):
        return symbol
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        low, high = _range(node.operand, symbol)
        return -high, -low
    if isinstance(node, ast.BinOp):
        return _combined(type(node.op), _range(node.left, symbol), _range(node.right, symbol))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _called(node.func.id, [_range(argument, symbol) for argument in node.args])
    return ANYTHING


def _combined(op: type[ast.operator], a: Range, b: Range) -> Range:
    if op is ast.Add:
        return a[0] + b[0], a[1] + b[1]
    if op is ast.Sub:
        return a[0] - b[1], a[1] - b[0]
    if op is ast.Mult:
        corners = [x * y if x and y else 0 for x in a for y in b]  # 0 times anything is 0, also at infinity
        return min(corners), max(corners)
    if op in (ast.FloorDiv, ast.Div) and b[0] == b[1] and b[0] > 0:
        low, high = a[0] / b[0], a[1] / b[0]
        return (_whole(low, math.floor), _whole(high, math.floor)) if op is ast.FloorDiv else (low, high)
    return ANYTHING


def _called(name: str, given: list[Range]) -> Range:
    if name in ("Max", "Min") and given:
        pick = max if name == "Max" else min
        return pick(low for low, _ in given), pick(high for _, high in given)
    if name in ("IntTrueDiv", "FloatTrueDiv") and len(given) == 2:
        return _combined(ast.Div, *given)
    if name == "ToFloat" and len(given) == 1:
        return given[0]
    if name in _ROUNDED and len(given) == 1:
        low, high = (_whole(end, _ROUNDED[name]) for end in given[0])
        return low, high
    return ANYTHING


def _whole(value: float, rounded: Callable[[float], int]) -> float:
    return rounded(value) if math.isfinite(value) else value
