"""Expressions worked out without `exec`: literals, operators and a few builtins on exact builtin
types; only the calls of functions under test go to the candidate.

`Evaluation` raises NotPlainError when an answer is more than modest plain data: a judge behind
walls works those out. What may stand in an expression is for verifiers/plain_tests.py to say.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from verifiers.sandbox.candidate import Candidate

MAX_BITS = 4_096
"""Of an integer that is multiplied or divided."""


class NotPlainError(Exception):
    """A value that is no plain data, or arithmetic that may have no end."""


_CONTAINERS = (list, tuple, set, frozenset)
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_Binary = Callable[[Any, Any], Any]
COMPARISONS: Mapping[type[ast.cmpop], _Binary] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
ARITHMETIC: Mapping[type[ast.operator], _Binary] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
}
SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
BUILTINS: Mapping[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        *(abs, all, any, bool, float, int, len, list, max, min, set, sorted, str, sum, tuple),
        frozenset,
    )
}


class Evaluation:
    """Works out expressions that `read` found, with one candidate's functions."""

    def __init__(self, candidate: Candidate, entry_point: str) -> None:
        self._candidate, self._entry_point = candidate, entry_point

    def value(self, node: ast.expr) -> Any:
        """The value of an expression. Raises NotPlainError, and what Python or the candidate
        raises."""
        match node:
            case ast.Constant(value):
                return value
            case ast.List(elements):
                return self._values(elements)
            case ast.Tuple(elements):
                return tuple(self._values(elements))
            case ast.Set(elements):
                return set(self._values(elements))
            case ast.Dict(keys, values):
                present = [key for key in keys if key is not None]
                return dict(zip(self._values(present), self._values(values), strict=True))
            case ast.UnaryOp(sign, operand):
                return SIGNS[type(sign)](self.value(operand))
            case ast.BinOp(left, operation, right):
                return ARITHMETIC[type(operation)](*self._numbers(left, right))
            case ast.BoolOp(ast.And(), values):
                return self._first(values, False)
            case ast.BoolOp(_, values):
                return self._first(values, True)
            case ast.Compare(left, operations, others):
                return self._compared(left, operations, others)
            case ast.Call():
                return self._called(node)
            case _:
                raise NotPlainError(ast.unparse(node))

    def calls(self, asserted: ast.expr) -> list[tuple[str, list[Any], dict[str, Any]]] | None:
        """The calls of the candidate that an assertion makes in any case, in their order; None
        when that cannot be told before it is worked out."""
        found: list[tuple[str, list[Any], dict[str, Any]]] = []
        for node in _in_order(asserted):
            match node:
                case ast.BoolOp() | ast.Compare(ops=[_, _, *_]):
                    return None
                case ast.Call(ast.Name(name)) if name == self._entry_point or name not in BUILTINS:
                    given = (*node.args, *(keyword.value for keyword in node.keywords))
                    if any(isinstance(n, ast.Call | ast.BinOp) for a in given for n in ast.walk(a)):
                        return None
                    keywords = {str(k.arg): self.value(k.value) for k in node.keywords}
                    found.append((name, self._values(node.args), keywords))
                case _:
                    pass
        return found

    def _values(self, nodes: Sequence[ast.expr]) -> list[Any]:
        return [self.value(node) for node in nodes]

    def _first(self, nodes: Sequence[ast.expr], wanted: bool) -> Any:
        """What `and` and `or` give: the first operand that decides, else the last."""
        value: Any = None
        for node in nodes:
            value = self.value(node)
            if bool(value) is wanted:
                break
        return value

    def _numbers(self, *nodes: ast.expr) -> list[Any]:
        values = self._values(nodes)
        for value in values:
            if type(value) not in (int, float) or (
                type(value) is int and value.bit_length() > MAX_BITS
            ):
                raise NotPlainError("arithmetic on what is no modest number")
        return values

    def _compared(
        self, left: ast.expr, operations: Sequence[ast.cmpop], others: Sequence[ast.expr]
    ) -> Any:
        value, result = self.value(left), True
        for operation, other in zip(operations, others, strict=True):
            right = self.value(other)
            result = COMPARISONS[type(operation)](value, right)
            if not result:
                break
            value = right
        return result

    def _called(self, call: ast.Call) -> Any:
        arguments = self._values(call.args)
        keywords = {str(k.arg): self.value(k.value) for k in call.keywords}
        match call.func:
            case ast.Name(name) if name in BUILTINS and name != self._entry_point:
                return BUILTINS[name](*arguments)
            case ast.Name(name):
                result = self._candidate.named(name, arguments, keywords)
            case _:
                return math.isclose(*arguments, **keywords)
        if not is_plain_data(result):
            raise NotPlainError(f"a {type(result).__name__}")
        return result


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
    yield node


def is_plain_data(value: Any) -> bool:
    """Whether a value is of the builtin types that a literal can have, all through."""
    if type(value) in _CONTAINERS:
        return all(map(is_plain_data, value))
    if type(value) is dict:
        items = cast("dict[Any, Any]", value)
        return all(map(is_plain_data, (*items.keys(), *items.values())))
    return type(value) in _SCALARS


def why_not(evaluation: Evaluation, asserted: ast.expr) -> str:
    """Why an assertion does not hold; empty when it does. Raises as `Evaluation.value`."""
    match asserted:
        case ast.Compare(left, [ast.Eq()], [right]):
            found, wanted = evaluation.value(left), evaluation.value(right)
            holds = found == wanted
            said = "" if holds else f"{_shown(found)} is not {_shown(wanted)}"
        case _:
            holds = bool(evaluation.value(asserted))
            said = "" if holds else ast.unparse(asserted)[:200]
    return "" if holds else f"AssertionError: {said}"


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:  # an integer of too many digits
        return f"a {type(value).__name__} too long to show"
