"""Queries that differ from a gold query in one place: most of them wrong.

A made-up database is worth keeping when some of them fail on it.
"""

# The parser's classes are built dynamically and have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

sqlglot: Any = import_module("sqlglot")
exp: Any = sqlglot.exp

MAX_MUTANTS = 48

_FLIPS: dict[Any, tuple[Any, ...]] = {
    exp.GT: (exp.GTE, exp.LT),
    exp.GTE: (exp.GT, exp.LT),
    exp.LT: (exp.LTE, exp.GT),
    exp.LTE: (exp.LT, exp.GT),
    exp.EQ: (exp.NEQ, exp.GTE, exp.LTE),
    exp.NEQ: (exp.EQ, exp.GT, exp.LT),
    exp.And: (exp.Or,),
    exp.Or: (exp.And,),
    exp.Add: (exp.Sub,),
    exp.Sub: (exp.Add,),
    exp.Mul: (exp.Add,),
    exp.Div: (exp.Mul,),
    exp.Union: (exp.Except, exp.Intersect),
    exp.Except: (exp.Intersect,),
    exp.Intersect: (exp.Union,),
}
_AGGREGATES = (exp.Sum, exp.Avg, exp.Min, exp.Max)


def mutants(tree: Any, dialect: str) -> Iterator[str]:
    """At most MAX_MUTANTS queries; some may mean the same after all."""
    original = tree.sql(dialect)
    seen = {original}
    nodes = list(tree.walk())
    for index, node in enumerate(nodes):
        for change in _changes(node):
            if len(seen) > MAX_MUTANTS:
                return
            copy = tree.copy()
            target = next(n for i, n in enumerate(copy.walk()) if i == index)
            try:
                changed = change(target)
                sql = (changed if target is copy and changed is not None else copy).sql(dialect)
            except (sqlglot.errors.SqlglotError, ValueError, AttributeError, TypeError):
                continue  # a change that makes no sense here is no mutant
            if sql not in seen:
                seen.add(sql)
                yield sql


def _changes(node: Any) -> Iterator[Any]:
    for other in _FLIPS.get(type(node), ()):
        yield lambda n, other=other: n.replace(other(**n.args))
    if isinstance(node, exp.And | exp.Or):
        yield lambda n: n.replace(n.this)
        yield lambda n: n.replace(n.expression)
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        yield lambda n: n.replace(exp.Literal.number(int(n.name) + 1))
        yield lambda n: n.replace(exp.Literal.number(max(0, int(n.name) - 1)))
    if isinstance(node, _AGGREGATES):
        for other in _AGGREGATES:
            if not isinstance(node, other):
                yield lambda n, other=other: n.replace(other(this=n.this))
    if isinstance(node, exp.Count):
        if isinstance(node.this, exp.Distinct):
            yield lambda n: n.set("this", n.this.expressions[0])
        elif isinstance(node.this, exp.Star):
            columns = node.root().find_all(exp.Column)
            for name in dict.fromkeys(column.sql() for column in columns):
                yield lambda n, name=name: n.set("this", sqlglot.parse_one(name))
        else:
            yield lambda n: n.set("this", exp.Distinct(expressions=[n.this]))
            yield lambda n: n.set("this", exp.Star())
    if isinstance(node, exp.Select):
        yield lambda n: n.set("distinct", None if n.args.get("distinct") else exp.Distinct())
        for clause in ("where", "having"):
            if node.args.get(clause):
                yield lambda n, clause=clause: n.set(clause, None)
    if isinstance(node, exp.Join) and node.args.get("kind") != "CROSS":
        yield lambda n: n.set("side", None if n.args.get("side") else "LEFT")
    if isinstance(node, exp.Ordered):
        yield lambda n: n.set("desc", not n.args.get("desc"))
    if isinstance(node, exp.Union):
        yield lambda n: n.set("distinct", not n.args.get("distinct"))
    if isinstance(node, exp.Not):
        yield lambda n: n.replace(n.this)
    if isinstance(node, exp.Is):
        yield lambda n: n.replace(exp.Not(this=n.copy()))
    if isinstance(node, exp.Like):
        yield lambda n: n.replace(exp.EQ(this=n.this, expression=n.expression))
