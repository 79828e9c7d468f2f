"""Made-up copies of a PostgreSQL database that exist in a query alone.

A role that may only read can make no tables, so each copy is a WITH clause in which every
table is a list of rows and every view its own SELECT, all under the names that the query
uses; names with a schema are rewritten. Real tables know one thing that such lists do not:
that a primary key in GROUP BY groups the whole row. Where the server misses that, the
column it names is added there, which changes no group. Pure text; asks no server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from verifiers.postgres_catalog import Catalog, Relation
from verifiers.postgres_faults import GroupingError
from verifiers.postgres_text import Token, grouping, literal, quoted, single
from verifiers.sql_session import RefusedError
from verifiers.sql_tables import Table

TextRow = tuple[str | None, ...]

_AFTER_TABLE = frozenset(
    [
        "where",
        "group",
        "order",
        "having",
        "limit",
        "offset",
        "fetch",
        "union",
        "intersect",
        "except",
        "join",
        "inner",
        "left",
        "right",
        "full",
        "cross",
        "natural",
        "on",
        "using",
        "window",
        "for",
        "tablesample",
        "when",
        "set",
        "returning",
    ]
)
_COLUMN = re.compile(r"[\"«»„“]([^\"«»„“”]+)\.([^\"«»„“”.]+)[\"«»“”]")


class Shadowed:
    """A query whose tables are names of a WITH clause; `needed` are those relations, and
    `bare` those named without their schema."""

    def __init__(self, text: str, needed: Collection[int], bare: Collection[int]) -> None:
        self.text, self.needed, self.bare = text, frozenset(needed), frozenset(bare)

    def regroup(self, error: GroupingError) -> None:
        """Group by the column that the server misses. Raises RefusedError."""
        tokens = single(self.text)
        found = _COLUMN.search(str(error))
        place = found and grouping(tokens, error.position, found[1])
        if not found or not place:
            raise RefusedError(f"cannot be asked of made-up copies of the database: {error}")
        column = f" {quoted(found[1])}.{quoted(found[2])},"
        self.text = self.text[:place] + column + self.text[place:]


class Shadows:
    """Puts queries in terms of what stands for a catalog's relations."""

    def __init__(self, catalog: Catalog) -> None:
        self._relations = {relation.oid: relation for relation in catalog.relations}
        self._qualified = {(r.schema, r.name): r for r in catalog.relations}
        self._visible = {r.name: r for r in catalog.relations if r.visible}
        self.views = {
            r.oid: self.shadow(r.definition, single(r.definition))
            for r in catalog.relations
            if r.definition is not None
        }

    def shadow(self, sql: str, tokens: Sequence[Token]) -> Shadowed:
        """The query of these tokens, with no name left that a schema qualifies."""
        pieces: list[str] = []
        needed: set[int] = set()
        bare: set[int] = set()
        end = tokens[0].start
        skip = -1
        for number, token in enumerate(tokens):
            follows_dot = number > 0 and tokens[number - 1].says(".")
            if number <= skip or not token.named or follows_dot:
                continue
            relation = self._named(tokens, number)
            if relation is None:
                if token.text in self._visible:
                    bare.add(self._visible[token.text].oid)
                continue
            last = tokens[number + 2]
            pieces.append(sql[end : token.start])
            if number + 3 < len(tokens) and tokens[number + 3].says("."):
                pieces.append(quoted(relation.name))
            else:
                needed.add(relation.oid)
                pieces.append(quoted(_stand_in(relation.oid)))
                if not _has_alias(tokens, number):
                    pieces.append(f" AS {quoted(relation.name)}")
            end, skip = last.end, number + 2
        pieces.append(sql[end : tokens[-1].end])
        return Shadowed("".join(pieces), needed | bare, bare)

    def _named(self, tokens: Sequence[Token], number: int) -> Relation | None:
        """The relation that `schema.name` at this place names."""
        if number + 2 >= len(tokens) or not tokens[number + 1].says("."):
            return None
        if number + 3 < len(tokens) and tokens[number + 3].says("("):
            return None
        return self._qualified.get((tokens[number].text, tokens[number + 2].text))

    def clause(self, query: Shadowed, rows: Mapping[int, str]) -> str:
        """The WITH clause for a query; `rows` has the SELECT that gives a table's rows."""
        parts = [
            f"{quoted(self._relations[oid].name)} AS (SELECT * FROM {quoted(_stand_in(oid))})"
            for oid in sorted(query.bare)
        ]
        for oid in self._closure(query.needed):
            relation, name = self._relations[oid], quoted(_stand_in(oid))
            if relation.definition is not None:
                parts.append(f"{name} AS (\n{self.views[oid].text}\n)")
            elif relation.parent is not None:
                columns = ", ".join(quoted(column.name) for column in relation.columns)
                parts.append(
                    f"{name} AS (SELECT {columns} FROM {quoted(_stand_in(relation.parent))}"
                    f" AS {quoted(relation.name)} WHERE {relation.condition or 'true'})"
                )
            else:
                parts.append(f"{name} AS MATERIALIZED ({rows[oid]})")
        return f"WITH RECURSIVE {', '.join(parts)} " if parts else ""

    def _closure(self, oids: Iterable[int]) -> list[int]:
        found: dict[int, None] = {}
        left = sorted(oids)
        while left:
            oid = left.pop()
            if oid in found:
                continue
            found[oid] = None
            parent = self._relations[oid].parent
            left += self.views[oid].needed if oid in self.views else ()
            left += () if parent is None else (parent,)
        return sorted(found)


def _stand_in(oid: int) -> str:
    return f"strop {oid}"


def _has_alias(tokens: Sequence[Token], number: int) -> bool:
    if number > 0 and tokens[number - 1].says("table"):  # TABLE takes none
        return True
    if number + 3 >= len(tokens):
        return False
    after = tokens[number + 3]
    return after.kind == "quoted" or (after.kind == "name" and after.text not in _AFTER_TABLE)


def select(relation: Relation, rows: Sequence[TextRow]) -> str:
    """A SELECT that gives these rows, in the types of a table's columns."""
    own = relation.own
    if not own:
        return "SELECT WHERE false"
    names = ", ".join(f"c{n}" for n in range(len(own)))
    casts = ", ".join(
        f"c{n}::{column.type} AS {quoted(column.name)}" for n, column in enumerate(own)
    )
    listed = rows or [(None,) * len(own)]
    values = ", ".join(f"({', '.join(map(literal, row))})" for row in listed)
    sql = f"SELECT {casts} FROM (VALUES {values}) AS v ({names})" + ("" if rows else " WHERE false")
    if len(own) == len(relation.columns):
        return sql
    columns = ", ".join(
        quoted(column.name)
        if column.made is None
        else f"({column.made})::{column.type} AS {quoted(column.name)}"
        for column in relation.columns
    )
    return f"SELECT {columns} FROM ({sql}) AS {quoted(relation.name)}"


def fitting(relation: Relation, rows: Sequence[TextRow]) -> str:
    """A query for those of the rows that pass a table's checks, as it would hold them; it
    fails where a value does not fit its column. Empty where no row can pass."""
    required = [n for n, column in enumerate(relation.own) if not column.nullable]
    rows = [row for row in rows if not any(row[n] is None for n in required)]
    if not rows or not relation.own:
        return ""
    columns = ", ".join(f"{quoted(column.name)}::text" for column in relation.own)
    checks = "".join(f" AND ({check}) IS NOT FALSE" for check in relation.checks)
    table = f"({select(relation, rows)}) AS {quoted(relation.name)}"
    return f"SELECT {columns} FROM {table} WHERE true{checks}"


def lawful(
    tables: Sequence[Table], rows: Mapping[str, Sequence[TextRow]]
) -> dict[str, list[TextRow]]:
    """The rows without those that repeat a key or whose foreign key leads nowhere."""
    kept: dict[str, list[TextRow]] = {}
    for table in tables:
        found = list(rows.get(table.name, ()))
        for unique in table.unique:
            first: dict[object, TextRow] = {}
            for number, row in enumerate(found):
                key = tuple(row[place] for place in unique)
                first.setdefault(number if None in key else key, row)
            found = list(first.values())
        kept[table.name] = found
    for _ in range(10):
        before = sum(map(len, kept.values()))
        for table in tables:
            for key in table.foreign:
                parents = {
                    tuple(row[place] for place in key.parent_columns)
                    for row in kept.get(key.parent, ())
                }
                kept[table.name] = [
                    row
                    for row in kept[table.name]
                    if None in (own := tuple(row[place] for place in key.columns)) or own in parents
                ]
        if sum(map(len, kept.values())) == before:
            break
    return kept
