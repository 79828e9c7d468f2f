"""Tests that say no more than plain data does, read once and worked out without `exec`.

`assert sorted(f([2, 1])) == [1, 2]` needs no interpreter of its own: its literals, operators
and a few builtins are evaluated by verifiers/plain_values.py, and only the call of `f` goes
to the candidate. `read` says None of tests that say more: those belong to a judge behind walls.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from functools import lru_cache

from verifiers.plain_values import ARITHMETIC, BUILTINS, COMPARISONS, SIGNS

_CHECK = "check"
_MATH = ("math", None)


@lru_cache(maxsize=1024)
def read(
    tests: tuple[str, ...], entry_point: str, setup: str = ""
) -> tuple[tuple[ast.expr, ...], ...] | None:
    """What each test asserts, in order; None when one of them says more than plain data.

    A setup may import, as long as the tests do not call what it imports, and give names to
    constants, which then stand in the tests.
    """
    bound = _bound(setup)
    if bound is None or entry_point in bound:
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
        names = {**bound, alias: ast.Name(entry_point, ast.Load())} if alias else bound
        asserted = _asserted(statements, names, entry_point)
        if asserted is None:
            return None
        found.append(asserted)
    return tuple(found)


def _asserted(
    statements: Sequence[ast.stmt], names: Mapping[str, ast.expr | None], entry_point: str
) -> tuple[ast.expr, ...] | None:
    """What statements assert, in order, what they give names to put in its place; None when they
    do more."""
    meant, found = _Meant(names), list[ast.expr]()
    for part in statements:
        match part:
            case ast.Assign([ast.Name(name)], value) if _is_constant(value) and _is_free(name):
                if name == entry_point:
                    return None
                meant = _Meant({**meant.names, name: value})
            case ast.Assert(expression):
                found.append(meant.visit(expression))
                if meant.met_import or not _is_plain(found[-1], entry_point):
                    return None
            case _:
                return None
    return tuple(found)


class _Meant(ast.NodeTransformer):
    """Puts what names stand for in their place; None is something imported."""

    def __init__(self, names: Mapping[str, ast.expr | None]) -> None:
        self.names = names
        self.met_import = False

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self.names.get(node.id, node)
        self.met_import = self.met_import or value is None
        return node if value is None else value


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


def _bound(setup: str) -> dict[str, ast.expr | None] | None:
    """What the names of a setup stand for: a constant, or None for an import, but for `math`.

    None when the setup does more, or takes a builtin's name.
    """
    found: dict[str, ast.expr | None] = {}
    for part in ast.parse(setup).body:
        match part:
            case ast.Import(aliases):
                others = (alias for alias in aliases if (alias.name, alias.asname) != _MATH)
                found |= {alias.asname or alias.name.split(".")[0]: None for alias in others}
            case ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name: None for alias in aliases}
            case ast.Assign([ast.Name(name)], value) if _is_constant(value):
                found[name] = value
            case _:
                return None
    return found if all(map(_is_free, found)) else None


def _is_free(name: str) -> bool:
    return name != "*" and not hasattr(builtins, name)


def _is_constant(node: ast.expr) -> bool:
    """A literal that nobody can change."""
    match node:
        case ast.Constant() | ast.UnaryOp(ast.USub(), ast.Constant()):
            return True
        case ast.Tuple(elements):
            return all(map(_is_constant, elements))
        case _:
            return False


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
            return type(sign) in SIGNS and all_plain(operand)
        case ast.BinOp(left, operation, right):
            return type(operation) in ARITHMETIC and all_plain(left, right)
        case ast.BoolOp(_, values):
            return all_plain(*values)
        case ast.Compare(left, operations, others):
            return all(type(o) in COMPARISONS for o in operations) and all_plain(left, *others)
        case ast.Call(_, arguments, keywords):
            named_plainly = all(k.arg is not None and all_plain(k.value) for k in keywords)
            return all_plain(*arguments) and named_plainly and _is_known(node, entry_point)
        case _:
            return False


def _is_known(call: ast.Call, entry_point: str) -> bool:
    match call.func:
        case ast.Name(name) if name == entry_point:
            return True
        case ast.Name(name) if name in BUILTINS:
            return not call.keywords
        case ast.Name(name):
            # With an entry point, other names may be the prompt's or the task's own.
            return not entry_point and not hasattr(builtins, name) and name[:2] != "__"
        case ast.Attribute(ast.Name("math"), "isclose"):
            return entry_point != "math"
        case _:
            return False
