"""How large a symbolic size is about: enough to tell which of two spellings has less to compute."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

SIDE = 1024  # stands for every symbol
_OPS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip


def estimate(size: Any, side: int = SIDE) -> int | None:
    """The number itself, or what an expression like '((H - 1)//4) + 1' is when every symbol is `side`.

    None for what is unknown, is no such expression, or is less than 1 there.
    """
    if isinstance(size, str):
        try:
            size = _value(ast.parse(size, mode="eval").body, side)
        except (SyntaxError, ValueError, ZeroDivisionError):
            return None
    try:
        number = operator.index(size)
    except TypeError:
        return None
    return number if number > 0 else None


def _value(node: ast.expr, side: int) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return side
    if isinstance(node, ast.BinOp) and type(node.op) in _OPS:
        return _OPS[type(node.op)](_value(node.left, side), _value(node.right, side))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, side)
    raise ValueError(ast.dump(node))
