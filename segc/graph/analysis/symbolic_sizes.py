"""Estimates and lower bounds of symbolic sizes such as '((H - 1)//4) + 1'."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

SIDE = 1024  # the value assumed for every symbol
Range = tuple[float, float]  # both ends included
ANYTHING: Range = (-math.inf, math.inf)
# functions of SymPy that torch.export writes
_ROUNDED: dict[str, Callable[[float], int]] = {
    "CeilToInt": math.ceil, "FloorToInt": math.floor, "RoundToInt": round, "TruncToInt": math.trunc,
    "ceiling": math.ceil, "floor": math.floor,
}  # fmt: skip


def estimate(size: Any, side: int = SIDE) -> int | None:
    """A number as it is, or the value of an expression in which every symbol is `side`; for cost estimates.

    None if the size is unknown, is not such an expression, or its value is not a whole number of at least 1.
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
    """A lower bound of the size for all symbols of at least 1, not necessarily tight; 0 if nothing is known."""
    if isinstance(size, str):
        low, _ = _bounds(size, (1, math.inf))
        return max(0, math.floor(low)) if math.isfinite(low) else 0
    try:
        return operator.index(size)
    except TypeError:
        return 0


def _bounds(size: str, symbol: Range) -> Range:
    """Bounds of an expression whose symbols are all in the range `symbol`; ANYTHING if it is not an expression."""
    try:
        return _range(ast.parse(size, mode="eval").body, symbol)
    except SyntaxError:
        return ANYTHING


def _range(node: ast.expr, symbol: Range) -> Range:
    """Bounds of a syntax tree, by interval arithmetic."""
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
