"""What tables and views a PostgreSQL database has, from its system catalogs.

Definitions come with every name qualified, as they read under an empty search path.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import psycopg

from verifiers.sql_tables import Column, ForeignKey, Table

_PLAIN = frozenset(
    ("int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "bool",
     "date", "timestamp", "timestamptz")
)  # fmt: skip
"""Types of which new values can be made; of others only those that are there are used."""

_SCHEMAS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
_VISIBLE = "SELECT oid::int8 FROM pg_class WHERE pg_table_is_visible(oid)"
_RELATIONS = f"""
SELECT c.oid::int8, nspname, relname,
    CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
    CASE WHEN relispartition THEN pg_get_partition_constraintdef(c.oid) END,
    (SELECT inhparent::int8 FROM pg_inherits WHERE inhrelid = c.oid AND relispartition),
    has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND {_SCHEMAS} ORDER BY c.oid
"""
_COLUMNS = f"""
SELECT attrelid::int8, attnum, attname, format_type(atttypid, atttypmod), typname, NOT attnotnull,
    CASE WHEN attgenerated <> '' THEN pg_get_expr(adbin, adrelid) END,
    (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum
        WHERE enumtypid = atttypid)
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    JOIN pg_type t ON t.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f') AND {_SCHEMAS}
ORDER BY 1, 2
"""
_UNIQUE = """
SELECT indrelid::int8, (indkey::int2[])[0:indnkeyatts - 1] FROM pg_index
WHERE indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
ORDER BY indisprimary DESC, indexrelid
"""
_CONSTRAINTS = """
SELECT contype::text, conrelid::int8, confrelid::int8, conkey, confkey,
    pg_get_expr(conbin, conrelid)
FROM pg_constraint WHERE convalidated AND contype IN ('c', 'f') AND conrelid <> 0 ORDER BY oid
"""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of which only the text is known."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column; `made` is the expression of a generated one."""

    name: str
    type: str
    plain: bool
    nullable: bool
    made: str | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table; a view, whose `definition` is a SELECT; a partition, which has the rows of
    `parent` that fit its `condition`. `key` is its name for the judge, qualified unless it
    is `visible` without."""

    oid: int
    schema: str
    name: str
    visible: bool
    readable: bool
    columns: tuple[Attribute, ...]
    definition: str | None
    condition: str | None
    parent: int | None
    checks: tuple[str, ...]
    unique: tuple[tuple[int, ...], ...]

    @property
    def key(self) -> str:
        """Its name among the tables that the judge knows."""
        return self.name if self.visible else f"{self.schema}.{self.name}"

    @property
    def stored(self) -> bool:
        """Whether its rows are its own."""
        return self.definition is None and self.parent is None

    @property
    def own(self) -> list[Attribute]:
        """The columns that a row is put in with."""
        return [column for column in self.columns if column.made is None]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that a query may name, and the tables that rows can be made for."""

    relations: tuple[Relation, ...]
    tables: tuple[Table, ...]

    @property
    def names(self) -> frozenset[str]:
        """Of relations and columns."""
        return frozenset(
            name for r in self.relations for name in (r.name, *(c.name for c in r.columns))
        )


def read(connection: psycopg.Connection[Any]) -> Catalog:
    """The catalog as this role sees it; asked in a transaction that is then rolled back."""
    visible = {oid for (oid,) in connection.execute(_VISIBLE.encode())}
    connection.execute(b"SET LOCAL search_path = ''")
    relations = connection.execute(_RELATIONS.encode()).fetchall()
    attributes = connection.execute(_COLUMNS.encode()).fetchall()
    indices = connection.execute(_UNIQUE.encode()).fetchall()
    constraints = connection.execute(_CONSTRAINTS.encode()).fetchall()
    columns: dict[int, list[Attribute]] = defaultdict(list)
    numbers: dict[int, list[int]] = defaultdict(list)
    for oid, number, name, declared, kind, nullable, made, labels in attributes:
        columns[oid].append(
            Attribute(name, declared, kind in _PLAIN, nullable, made, tuple(labels or ()))
        )
        numbers[oid].append(number)
    unique: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for oid, key in indices:
        unique[oid].append(tuple(key))
    checks: dict[int, list[str]] = defaultdict(list)
    for kind, oid, _, _, _, condition in constraints:
        if kind == "c":
            checks[oid].append(condition)
    found = [
        Relation(
            *(oid, schema, name, oid in visible, readable and usable, tuple(columns[oid])),
            *(definition, condition, parent, tuple(checks[oid]), tuple(unique[oid])),
        )
        for oid, schema, name, definition, condition, parent, readable, usable in relations
    ]
    stored = {relation.oid: relation for relation in found if relation.stored}
    # Positions among the columns that a row is put in with.
    places = {
        oid: {
            number: place
            for place, number in enumerate(
                n for n, c in zip(numbers[oid], columns[oid], strict=True) if c.made is None
            )
        }
        for oid in stored
    }
    foreign: dict[int, list[ForeignKey]] = defaultdict(list)
    for kind, oid, parent, own, theirs, _ in constraints:
        if kind == "f" and oid in stored and parent in stored:
            here, there = places[oid], places[parent]
            if all(n in here for n in own) and all(n in there for n in theirs):
                foreign[oid].append(
                    ForeignKey(
                        tuple(here[n] for n in own),
                        stored[parent].key,
                        tuple(there[n] for n in theirs),
                    )
                )
    tables = [
        Table(
            relation.key,
            tuple(Column(c.name, c.type, c.nullable, _values(c)) for c in relation.own),
            tuple(
                tuple(places[oid][n] for n in key)
                for key in dict.fromkeys(relation.unique)
                if all(n in places[oid] for n in key)
            ),
            tuple(foreign[oid]),
        )
        for oid, relation in stored.items()
    ]
    return Catalog(tuple(found), tuple(tables))


def _values(column: Attribute) -> tuple[Any, ...]:
    match column.type:
        case "boolean":
            return False, True
        case "uuid":
            return tuple(Opaque(str(uuid.UUID(int=number))) for number in range(1, 60))
        case _:
            return tuple(map(Opaque, column.labels))
