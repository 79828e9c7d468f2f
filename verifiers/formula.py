"""Arithmetic over named scores: `0.7 * answer + 0.3 * max(form, style)`, and nothing else.

Numbers, names, `+ - * / ^`, parentheses and a handful of functions; Python's parser reads
them, and whatever else it would read is refused. Nothing is ever compiled or run: the tree
is walked, and every value in it is a finite float, so that no formula is expensive.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

MAX_LENGTH = 2_000
MAX_DEPTH = 50

_FUNCTIONS: Mapping[str, tuple[Callable[..., float], int | None]] = {
    "min": (lambda *values: min(values), None),
    "max": (lambda *values: max(values), None),
    "abs": (math.fabs, 1),
    "floor": (math.floor, 1),
    "ceil": (math.ceil, 1),
    "exp": (math.exp, 1),
    "sqrt": (math.sqrt, 1),
    "log": (math.log, 1),
}
FUNCTIONS = tuple(_FUNCTIONS)
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: math.pow,
}


class FormulaError(ValueError):
    """A text that is no formula, or a formula without a value."""


class Formula:
    """A formula that was read. Raises FormulaError for a text that is none."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise FormulaError(f"a formula of {len(text)} characters; {MAX_LENGTH} are allowed")
        # `^` is the power here; it must also bind as one, which `^` does not in Python.
        if "**" in text:
            raise FormulaError("** is no operator here: write ^")
        try:
            self._body = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise FormulaError(f"{text[:80]!r} is no formula: {error}") from None
        self.names: frozenset[str] = frozenset(_names(self._body, 0))

    def value(self, names: Mapping[str, float]) -> float:
        """The formula's value; every one of `names` must be there. Raises FormulaError."""
        try:
            return _value(self._body, names)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, FormulaError):
                raise
            raise FormulaError(f"has no value: {error}") from None


def _names(node: ast.expr, depth: int) -> list[str]:
    """Names used; raises FormulaError at whatever is no part of a formula."""
    if depth > MAX_DEPTH:
        raise FormulaError(f"a formula nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            _finite(node.value)  # pyright: ignore[reportArgumentType]
            return []
        case ast.Name(id=name):
            if name in _FUNCTIONS:
                raise FormulaError(f"{name} is a function: write {name}(...)")
            return [name]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return _names(operand, depth + 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _names(left, depth + 1) + _names(right, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            wanted = _FUNCTIONS[name][1]
            if not args or (wanted is not None and len(args) != wanted):
                raise FormulaError(f"{name} takes {wanted or 'one or more'} value(s)")
            return [found for arg in args for found in _names(arg, depth + 1)]
        case _:
            said = ast.unparse(node)[:80]
            raise FormulaError(
                f"{said!r} is no part of a formula: it has numbers, names of graders, + - * / ^ "
                f"and {', '.join(FUNCTIONS)}"
            )


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _finite(number)
        case ast.Name(id=name):
            return _finite(names[name])
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, names)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            return _finite(_OPERATORS[type(op)](_value(left, names), _value(right, names)))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _finite(_FUNCTIONS[name][0](*(_value(arg, names) for arg in args)))
        case _:
            raise FormulaError("no part of a formula")


def _finite(number: float) -> float:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise FormulaError("has no value: out of range")
    return value
