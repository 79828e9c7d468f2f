"""Tests that say no more than plain data does, read once and worked out without `exec`.

`assert sorted(f([2, 1])) == [1, 2]` needs no interpreter of its own: its literals, operators
and a few builtins are evaluated here, on exact builtin types, and only the call of `f` goes
to the candidate. `read` says None of tests that say more; `Evaluation` raises NotPlainError
when an answer is more than plain data. Both belong to a judge behind walls.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from verifiers.sandbox.candidate import Candidate

MAX_BITS = 4_096
"""Of an integer that is multiplied or divided."""


class NotPlainError(Exception):
    """A value that is no plain data, or arithmetic that may have no end."""


_CONTAINERS = (list, tuple, set, frozenset)
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_Binary = Callable[[Any, Any], Any]
_COMPARISONS: Mapping[type[ast.cmpop], _Binary] = {
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
_ARITHMETIC: Mapping[type[ast.operator], _Binary] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BUILTINS: Mapping[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        *(abs, all, any, bool, float, int, len, list, max, min, set, sorted, str, sum, tuple),
        frozenset,
    )
}
_CHECK = "check"


@lru_cache(maxsize=1024)
def read(
    tests: tuple[str, ...], entry_point: str, setup: str = ""
) -> tuple[tuple[ast.expr, ...], ...] | None:
    """What each test asserts, in order; None when one of them says more than plain data.

    A setup may import, as long as the tests do not call what it imports.
    """
    imported = _imported(setup)
    if imported is None:
        return None
    found: list[tuple[ast.expr, ...]] = []
    for test in tests:
        body = ast.parse(test).body
        alias = ""
        match [part for part in body if not _says_nothing(part)]:
            case [ast.FunctionDef() as check, *calls] if entry_point and _is_check(check):
                if not all(_calls_check(part, entry_point) for part in calls) or len(calls) > 1:
                    return None
                alias = check.args.args[0].arg
                statements = [part for part in check.body if not _says_nothing(part)]
            case statements:
                pass
        asserted = [part.test for part in statements if isinstance(part, ast.Assert)]
        if len(asserted) < len(statements):
            return None
        names = {alias: entry_point} if alias else {}
        for expression in asserted:
            for node in ast.walk(expression):
                if isinstance(node, ast.Name):
                    node.id = names.get(node.id, node.id)
        if not all(_is_plain(expression, entry_point) for expression in asserted):
            return None
        if any(isinstance(n, ast.Name) and n.id in imported for e in asserted for n in ast.walk(e)):
            return None
        found.append(tuple(asserted))
    return tuple(found)


@lru_cache(maxsize=1024)
def lacks_call(test: str) -> bool:
    """HumanEval's tests define `check(candidate)` and leave the call to the runner."""
    body = ast.parse(test).body
    called = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _CHECK
        for part in body
        if isinstance(part, ast.Expr)
        for node in ast.walk(part)
    )
    defined = any(isinstance(part, ast.FunctionDef) and part.name == _CHECK for part in body)
    return defined and not called


@lru_cache(maxsize=1024)
def named(tests: tuple[str, ...], setup: str) -> str:
    """The entry point of tests that name nothing but builtins: the one all of them call.

    `sum` is Python's own in `sum(f(2))`, and the candidate's when no test names anything
    else. Empty when there is another name, or no single one.
    """
    trees = [ast.parse(test) for test in tests]
    nodes = [node for tree in (ast.parse(setup), *trees) for node in ast.walk(tree)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    if any(name not in dir(builtins) for name in names):
        return ""
    called = [
        {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for tree in trees
    ]
    common = set[str].intersection(*called)
    return common.pop() if len(common) == 1 else ""


def _imported(setup: str) -> frozenset[str] | None:
    """Names that the imports of a setup bind, but for `math`; None when it does more."""
    found: set[str] = set()
    for part in ast.parse(setup).body:
        if not isinstance(part, ast.Import | ast.ImportFrom):
            return None
        names = [(alias.asname or alias.name.split(".")[0], alias.name) for alias in part.names]
        if any(name == "*" for name, _ in names):
            return None
        found |= {name for name, module in names if name != "math" or module != "math"}
    return frozenset(found)


def _says_nothing(part: ast.stmt) -> bool:
    """A docstring, `pass`, or a literal under a name in capitals: HumanEval's METADATA."""
    match part:
        case ast.Pass() | ast.Expr(ast.Constant()):
            return True
        case ast.Assign([ast.Name(name)], value) if name.isupper():
            return all(isinstance(node, _DATA) for node in ast.walk(value))
        case _:
            return False


_DATA = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Set, ast.Load)


def _is_check(function: ast.FunctionDef) -> bool:
    match function.args:
        case ast.arguments(
            posonlyargs=[], args=[_], vararg=None, kwonlyargs=[], kwarg=None, defaults=[]
        ):
            return function.name == _CHECK and not function.decorator_list
        case _:
            return False


def _calls_check(part: ast.stmt, entry_point: str) -> bool:
    match part:
        case ast.Expr(ast.Call(ast.Name(name), [ast.Name(argument)], [])):
            return (name, argument) == (_CHECK, entry_point)
        case _:
            return False


def _is_plain(node: ast.expr, entry_point: str) -> bool:
    def all_plain(*nodes: ast.expr | None) -> bool:
        return all(part is not None and _is_plain(part, entry_point) for part in nodes)

    match node:
        case ast.Constant(value):
            return value is not Ellipsis
        case ast.List(elements) | ast.Tuple(elements) | ast.Set(elements):
            return all_plain(*elements)
        case ast.Dict(keys, values):
            return all_plain(*keys, *values)
        case ast.UnaryOp(sign, operand):
            return type(sign) in _SIGNS and all_plain(operand)
        case ast.BinOp(left, operation, right):
            return type(operation) in _ARITHMETIC and all_plain(left, right)
        case ast.BoolOp(_, values):
            return all_plain(*values)
        case ast.Compare(left, operations, others):
            return all(type(o) in _COMPARISONS for o in operations) and all_plain(left, *others)
        case ast.Call(_, arguments, keywords):
            named_plainly = all(k.arg is not None and all_plain(k.value) for k in keywords)
            return all_plain(*arguments) and named_plainly and _is_known(node, entry_point)
        case _:
            return False


def _is_known(call: ast.Call, entry_point: str) -> bool:
    match call.func:
        case ast.Name(name) if name == entry_point:
            return True
        case ast.Name(name) if name in _BUILTINS:
            return not call.keywords
        case ast.Name(name):
            # With an entry point, other names may be the prompt's or the task's own.
            return not entry_point and not hasattr(builtins, name) and name[:2] != "__"
        case ast.Attribute(ast.Name("math"), "isclose"):
            return entry_point != "math"
        case _:
            return False


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
                return _SIGNS[type(sign)](self.value(operand))
            case ast.BinOp(left, operation, right):
                return _ARITHMETIC[type(operation)](*self._numbers(left, right))
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
                case ast.Call(ast.Name(name)) if name == self._entry_point or name not in _BUILTINS:
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
            result = _COMPARISONS[type(operation)](value, right)
            if not result:
                break
            value = right
        return result

    def _called(self, call: ast.Call) -> Any:
        arguments = self._values(call.args)
        keywords = {str(k.arg): self.value(k.value) for k in call.keywords}
        match call.func:
            case ast.Name(name) if name in _BUILTINS and name != self._entry_point:
                return _BUILTINS[name](*arguments)
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
