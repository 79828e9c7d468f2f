"""What a gold query asks for, read from its syntax tree.

How its rows are ordered and cut, which values its predicates compare with which columns,
which columns it joins: what is needed to compare answers fairly and to make databases on which a wrong answer shows. Reads the gold
query alone, never a model's. Knows the names of tables and columns, runs nothing.
"""

# The parser's classes are built dynamically and have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Any

from verifiers.gold_mutants import mutants

sqlglot: Any = import_module("sqlglot")
exp: Any = sqlglot.exp

Place = tuple[str, str]
"""Table and column, in lower case."""

MAX_SIZE = 400


@dataclass(frozen=True, slots=True)
class Keyed:
    """The gold query without its limit, with its sort keys: in `positions`, or as the last
    `extra` columns; [`start`, `stop`) is what the limit leaves."""

    sql: str
    positions: tuple[int, ...]
    extra: int
    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class GoldQuery:
    """`values` and `patterns` are compared with that column; `joined` columns with each other;
    `sizes` are limits and counts, which groups and results must reach; `mutants` are other
    queries, most of them wrong."""

    ordered: bool
    keyed: Keyed | None = None
    tables: frozenset[str] = frozenset()
    columns: frozenset[Place] = frozenset()
    values: Mapping[Place, tuple[Any, ...]] = field(default_factory=dict[Place, tuple[Any, ...]])
    patterns: Mapping[Place, tuple[str, ...]] = field(default_factory=dict[Place, tuple[str, ...]])
    joined: tuple[tuple[Place, Place], ...] = ()
    sizes: tuple[int, ...] = ()
    mutants: tuple[str, ...] = ()


def read(sql: str, dialect: str, schema: Mapping[str, Sequence[str]]) -> GoldQuery:
    """What the query asks of tables whose columns are `schema` (both in lower case).

    A query that the parser does not know is still ordered or not; no more is said of it.
    """
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return GoldQuery(_looks_ordered(sql))
    names = _Names(tree, schema)
    values, patterns, joined, sizes = _predicates(tree, names)
    return GoldQuery(
        ordered=tree.args.get("order") is not None,
        keyed=_keyed(tree, dialect),
        tables=frozenset(names.tables),
        columns=frozenset(place for c in tree.find_all(exp.Column) for place in names.places(c)),
        values=values,
        patterns=patterns,
        joined=joined,
        sizes=sizes,
        mutants=tuple(mutants(tree, dialect)),
    )


def _looks_ordered(sql: str) -> bool:
    text = re.sub(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    while (flat := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = flat
    return re.search(r"\border\s+by\b", text, re.IGNORECASE) is not None


class _Names:
    """Which columns of which tables a name in the query may stand for."""

    def __init__(self, tree: Any, schema: Mapping[str, Sequence[str]]) -> None:
        self.schema = schema
        self.aliases: dict[str, str] = {}
        defined = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
        views = False
        for table in tree.find_all(exp.Table):
            bare, qualified = table.name.lower(), f"{table.db}.{table.name}".lower()
            name = qualified if qualified in schema else bare
            if name in schema:
                self.aliases[table.alias_or_name.lower()] = name
            elif bare not in defined:
                views = True
        # A view may read any table.
        self.tables = set(schema) if views else set(self.aliases.values())
        self.expressions = {
            alias.alias.lower(): alias.this
            for alias in tree.find_all(exp.Alias)
            if not isinstance(alias.this, exp.Column) or alias.alias.lower() != alias.this.name
        }

    def places(self, column: Any, depth: int = 0) -> list[Place]:
        name, table = column.name.lower(), self.aliases.get(column.table.lower())
        if table is not None:
            return [(table, name)] if name in self.schema[table] else []
        found = [(table, name) for table in self.tables if name in self.schema[table]]
        if not found and depth < 3 and name in self.expressions:
            inner = self.expressions[name].find_all(exp.Column)
            found = [place for c in inner for place in self.places(c, depth + 1)]
        return found


_COMPARISONS = (
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Like),
    *(exp.ILike, exp.Glob, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Case),
)
_PATTERNS = (exp.Like, exp.ILike, exp.Glob)
_COUNTS = (exp.Count, exp.CountIf)


def _predicates(
    tree: Any, names: _Names
) -> tuple[
    dict[Place, tuple[Any, ...]],
    dict[Place, tuple[str, ...]],
    tuple[tuple[Place, Place], ...],
    tuple[int, ...],
]:
    values: dict[Place, list[Any]] = {}
    patterns: dict[Place, list[str]] = {}
    joined: list[tuple[Place, Place]] = []
    sizes: list[int] = []
    for node in tree.find_all(*_COMPARISONS):
        sides = [_own(child) for child in node.iter_expressions()]
        columns = [[p for n in side if isinstance(n, exp.Column) for p in names.places(n)]
                   for side in sides]  # fmt: skip
        literals = [_value(n) for side in sides for n in side if isinstance(n, exp.Literal)]
        if any(isinstance(n, _COUNTS) for side in sides for n in side):
            sizes += [abs(int(v)) for v in literals if isinstance(v, int | float)]
        for place in {place for side in columns for place in side}:
            if isinstance(node, _PATTERNS):
                patterns.setdefault(place, []).extend(str(v) for v in literals)
            else:
                values.setdefault(place, []).extend(literals)
        if not isinstance(node, exp.Case):
            occupied = [side for side in columns if side]
            joined += [(a, b) for x, y in pairwise(occupied)
                       for a in x for b in y]  # fmt: skip
            query = node.args.get("query")
            if columns and query is not None:
                joined += [(a, b) for a in columns[0] for b in _projected(query, names)]
    for join in tree.find_all(exp.Join):
        for using in join.args.get("using") or ():
            shared = [(t, using.name.lower()) for t in names.tables
                      if using.name.lower() in names.schema[t]]  # fmt: skip
            joined += list(pairwise(shared))
    for node in tree.find_all(exp.Limit, exp.Offset):
        if isinstance(node.expression, exp.Literal) and not node.expression.is_string:
            sizes.append(int(float(node.expression.name)))
    return (
        {place: tuple(dict.fromkeys(found)) for place, found in values.items()},
        {place: tuple(dict.fromkeys(found)) for place, found in patterns.items()},
        tuple(dict.fromkeys(joined)),
        tuple(sorted({size for size in sizes if 0 < size <= MAX_SIZE})),
    )


def _own(node: Any) -> list[Any]:
    """The nodes below this one, without those of subqueries."""
    return list(node.walk(prune=lambda n: isinstance(n, exp.Query)))


def _projected(query: Any, names: _Names) -> list[Place]:
    select = query.find(exp.Select)
    if select is None:
        return []
    return [p for e in select.expressions for c in _own(e) if isinstance(c, exp.Column)
            for p in names.places(c)]  # fmt: skip


def _value(literal: Any) -> Any:
    if literal.is_string:
        return literal.name
    number = float(literal.name)
    exact = number.is_integer() and "." not in literal.name and abs(number) < 2**62
    return int(literal.name) if exact and literal.name.isdigit() else number


def _keyed(tree: Any, dialect: str) -> Keyed | None:
    order = tree.args.get("order")
    if order is None:
        return None
    start, limit = _count(tree, "offset"), _count(tree, "limit")
    if start is None or limit is None:
        return None
    stop = None if limit < 0 else start + limit
    query = tree.copy()
    query.set("limit", None)
    query.set("offset", None)
    keys = [ordered.this for ordered in query.args["order"].expressions]
    projections = query.expressions if isinstance(query, exp.Select) else query.selects
    aliases = {p.alias_or_name.lower(): n for n, p in enumerate(projections)}
    positions = [_position(key, projections, aliases) for key in keys]
    known = tuple(position for position in positions if position is not None)
    if len(known) == len(keys):
        return Keyed(query.sql(dialect), known, 0, start, stop)
    if not isinstance(query, exp.Select) or query.args.get("distinct"):
        return None
    for key, position in zip(keys, positions, strict=True):
        added = key if position is None else projections[position].unalias()
        query.append("expressions", added.copy())
    return Keyed(query.sql(dialect), (), len(keys), start, stop)


def _count(tree: Any, name: str) -> int | None:
    """A literal limit or offset; -1 for no limit, None for what is no literal."""
    clause = tree.args.get(name)
    if clause is None:
        return -1 if name == "limit" else 0
    literal: Any = clause.expression if isinstance(clause, exp.Limit | exp.Offset) else None
    if not isinstance(literal, exp.Literal) or not literal.name.isdigit():
        return None
    return int(literal.name)


def _position(key: Any, projections: Sequence[Any], aliases: Mapping[str, int]) -> int | None:
    if any(isinstance(p, exp.Star) or p.find(exp.Star) is p.this for p in projections):
        return None
    if isinstance(key, exp.Literal) and key.name.isdigit():
        position = int(key.name) - 1
        return position if position < len(projections) else None
    if isinstance(key, exp.Column) and not key.table:
        return aliases.get(key.name.lower())
    return next((n for n, p in enumerate(projections) if p.unalias() == key), None)
