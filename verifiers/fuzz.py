"""Databases made up to tell queries apart.

From a schema, sample rows and what the gold query compares, `generate` makes the rows of
one small database: every key holds, foreign keys lead somewhere, and columns that the gold
query reads take the values its predicates name, their neighbours, NULL where it is allowed,
and few enough others that joins meet and groups fill. Pure and deterministic for a given
random generator; knows no engine.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from verifiers.fuzz_values import cast_all, invented, neighbours
from verifiers.gold_query import GoldQuery, Place
from verifiers.resultset import Row
from verifiers.sql_tables import Column, ForeignKey, Table

MAX_ROWS = 150
MIN_POOL = 12


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one made-up database: rows a table, how often a read column takes a value that the
    gold names, how often NULL, and how many other values it takes."""

    rows: int
    named: float
    null: float
    variety: int


def shapes(gold: GoldQuery) -> Iterable[Shape]:
    """Ever new shapes, the most telling first."""
    rows = [8, 24, 14, 50, 4, 36, 20, 70]
    named, null, variety = [0.45, 0.7, 0.2, 0.55], [0.12, 0.0, 0.3], [4, 8, 3, 16, 2]
    number = 0
    while True:
        count, some = rows[number % len(rows)], variety[number % len(variety)]
        if gold.sizes:
            size = gold.sizes[number % len(gold.sizes)]
            if number % 3 == 1:
                count = max(count, 2 * size + 3)
            elif number % 3 == 2:  # groups about as large as the query counts
                some = min(some, 4)
                count = max(count, some * (size + 1))
        yield Shape(min(count, MAX_ROWS), named[number % 4], null[number % 3], some)
        number += 1


def generate(
    tables: Sequence[Table],
    samples: Mapping[str, Sequence[Row]],
    gold: GoldQuery,
    shape: Shape,
    random: Random,
) -> dict[str, list[Row]]:
    """Rows for every table, by its name; parents come before their children."""
    return _Maker(tables, samples, gold, shape, random).make()


class _Maker:
    def __init__(
        self,
        tables: Sequence[Table],
        samples: Mapping[str, Sequence[Row]],
        gold: GoldQuery,
        shape: Shape,
        random: Random,
    ) -> None:
        self.tables = parents_first(tables)
        self.samples, self.gold, self.shape, self.random = samples, gold, shape, random
        self.made: dict[str, list[Row]] = {}
        self.leader = _classes(gold, tables)
        self.named: dict[Place, list[Any]] = {}
        self.exact: dict[Place, list[Any]] = {}
        self.others: dict[Place, list[Any]] = {}
        self._fill_pools()

    def _fill_pools(self) -> None:
        members: dict[Place, list[tuple[Table, int]]] = {}
        for table in self.tables:
            for index, column in enumerate(table.columns):
                place = (table.name.lower(), column.name.lower())
                if place in self.gold.columns or place in self.leader:
                    members.setdefault(self._class(place), []).append((table, index))
        for leader, columns in members.items():
            known: dict[Any, None] = {}
            named: dict[Any, None] = {}
            exact: list[Any] = []
            for table, index in columns:
                column = table.columns[index]
                place = (table.name.lower(), column.name.lower())
                values = [row[index] for row in self.samples.get(table.name, ())]
                known |= dict.fromkeys(
                    v for v in values if v is not None and isinstance(v, Hashable)
                )
                known |= dict.fromkeys(column.values)
                wanted = self.gold.values.get(place, ())
                cast = cast_all(wanted, values, column.type)
                if wanted and not cast:  # of a type that only its own values are known of
                    cast = [value for value in known if str(value) in wanted]
                    named |= dict.fromkeys(cast)
                exact += cast
                patterns = self.gold.patterns.get(place, ())
                named |= dict.fromkeys(neighbours(wanted, patterns, values, column.type))
            spare = list(known)
            if len(spare) < MIN_POOL:
                first = columns[0][0].columns[columns[0][1]]
                spare += [v for v in invented(first.type, spare) if v not in known]
            self.named[leader], self.exact[leader] = list(named), exact
            count = min(self.shape.variety, len(spare))
            self.others[leader] = self.random.sample(spare, count)

    def _class(self, place: Place) -> Place:
        while (above := self.leader.get(place, place)) != place:
            place = above
        return place

    def make(self) -> dict[str, list[Row]]:
        focus = self.gold.tables
        for table in self.tables:
            count = self.shape.rows if table.name.lower() in focus or not focus else 6
            if table.name.lower() in focus and any(
                t.name.lower() in focus and any(f.parent == table.name for f in t.foreign)
                for t in self.tables
                if t is not table
            ):
                count = max(3, count // 3)  # fewer parents than children: groups fill
            self.made[table.name] = self._rows(table, count)
        return self.made

    def _rows(self, table: Table, count: int) -> list[Row]:
        rows: list[Row] = []
        self.made[table.name] = rows
        seen: list[set[Row]] = [set() for _ in table.unique]
        base = list(self.samples.get(table.name, ()))
        for _ in range(count):
            for _attempt in range(4):
                row = self._row(table, base)
                keys = [tuple(row[i] for i in unique) for unique in table.unique]
                if all(
                    None in key or key not in known for key, known in zip(keys, seen, strict=True)
                ):
                    break
            else:
                continue
            for key, known in zip(keys, seen, strict=True):
                known.add(key)
            rows.append(row)
        return rows

    def _row(self, table: Table, base: Sequence[Row]) -> Row:
        random = self.random
        row: list[Any] = list(random.choice(base)) if base else [
            random.choice(column.values or invented(column.type, ()) or [None])
            for column in table.columns
        ]  # fmt: skip
        # Some rows take only values that the gold names, so that all its conditions meet in one.
        share = 0.95 if random.random() < 0.4 else self.shape.named
        single = {unique[0] for unique in table.unique if len(unique) == 1}
        keyed = {index for key in table.foreign for index in key.columns}
        for index, column in enumerate(table.columns):
            place = (table.name.lower(), column.name.lower())
            leader = self._class(place)
            if index in keyed:
                continue
            if leader in self.others:
                row[index] = self._value(leader, column, row[index], share)
            elif column.nullable and random.random() < self.shape.null / 2:
                row[index] = None
            if index in single and isinstance(row[index], int) and random.random() < 0.8:
                row[index] = random.randint(1, 3 * self.shape.rows + 3)
            elif index in single and isinstance(row[index], str) and random.random() < 0.3:
                row[index] = f"{row[index]}{random.randint(1, 99)}"
        for key in table.foreign:
            self._point(table, key, row)
        return tuple(row)

    def _value(self, leader: Place, column: Column, current: Any, share: float) -> Any:
        random, named, others = self.random, self.named[leader], self.others[leader]
        draw = random.random()
        if column.nullable and draw < self.shape.null:
            return None
        if named and random.random() < share:
            exact = self.exact[leader]
            return random.choice(exact if exact and random.random() < 0.5 else named)
        if others and random.random() < 0.9:
            return random.choice(others)
        return random.choice(others) if current is None and others else current

    def _point(self, table: Table, key: ForeignKey, row: list[Any]) -> None:
        """Let the row's foreign key lead to a row; some rows are never led to."""
        parents = self.made.get(key.parent, [])
        nullable = all(table.columns[index].nullable for index in key.columns)
        if parents and not (nullable and self.random.random() < max(0.08, self.shape.null / 2)):
            reach = max(1, len(parents) * 4 // 5)
            parent = self.random.choice(parents[:reach])
            for index, parent_index in zip(key.columns, key.parent_columns, strict=True):
                row[index] = parent[parent_index]
        elif nullable:
            for index in key.columns:
                row[index] = None


def parents_first(tables: Sequence[Table]) -> list[Table]:
    """The tables in an order in which foreign keys lead backwards, as far as there is one."""
    left, ordered = list(tables), list[Table]()
    while left:
        waiting = {table.name for table in left}
        ready = next(
            (
                t
                for t in left
                if all(f.parent == t.name or f.parent not in waiting for f in t.foreign)
            ),
            left[0],
        )
        left.remove(ready)
        ordered.append(ready)
    return ordered


def _classes(gold: GoldQuery, tables: Sequence[Table]) -> dict[Place, Place]:
    """Columns that are compared with each other draw from one pool: a forest of places."""
    leader: dict[Place, Place] = {}

    def find(place: Place) -> Place:
        while (above := leader.get(place, place)) != place:
            place = above
        return place

    for left, right in gold.joined:
        a, b = find(left), find(right)
        leader.setdefault(left, left)
        leader.setdefault(right, right)
        if a != b:
            leader[a] = b
    return leader
