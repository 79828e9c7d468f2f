"""Databases made up to tell queries apart.

From a schema, sample rows and what the gold query compares, `generate` makes the rows of
one small database: every key holds, foreign keys lead somewhere, and columns that the gold
query reads take the values its predicates name, their neighbours, NULL where it is allowed,
and few enough others that joins meet and groups fill. Pure and deterministic for a given
random generator; knows no engine.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from verifiers.gold_query import GoldQuery, Place

Row = tuple[Any, ...]

MAX_ROWS = 150
MIN_POOL = 12
MAX_LENGTH = 400
"""Of texts made because the gold may compare a length."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as its table declares it."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that name a row of `parent`, by their positions there."""

    columns: tuple[int, ...]
    parent: str
    parent_columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that rows can be put into; `unique` has column positions, the primary key first."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[tuple[int, ...], ...] = ()
    foreign: tuple[ForeignKey, ...] = ()


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
                wanted = self.gold.values.get(place, ())
                exact += _cast_all(wanted, values, column.type)
                patterns = self.gold.patterns.get(place, ())
                named |= dict.fromkeys(_neighbours(wanted, patterns, values, column.type))
            spare = list(known)
            if len(spare) < MIN_POOL:
                spare += [v for v in _invented(columns[0][0].columns[columns[0][1]], spare)
                          if v not in known]  # fmt: skip
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
            random.choice(_invented(column, ()) or [None]) for column in table.columns
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


def _neighbours(
    values: Sequence[Any], patterns: Sequence[str], sample: Sequence[Any], declared: str
) -> list[Any]:
    """The values that predicates name, and those beside them, in the type of the column."""
    present = [value for value in sample if value is not None][:50]
    texts = [value for value in present if isinstance(value, str) and value]
    found: list[Any] = []
    for value in values:
        if isinstance(value, int | float):
            step = 1 if isinstance(value, int) else 10.0 ** -_places(value)
            found += [value, value - step, value + step, value + 1, value // 2, value * 2]
            if texts and value == int(value) and 0 < value <= MAX_LENGTH:  # a length, perhaps
                lengths = range(max(1, int(value) - 1), int(value) + 4)
                found += [(text * (size // len(text) + 1))[:size]
                          for text, size in zip(texts, lengths, strict=False)]  # fmt: skip
        else:
            found += _texts_near(value, present)
    for pattern in patterns:
        found += _texts_like(pattern)
    return list(dict.fromkeys(_cast_all(found, present, declared)))


def _cast_all(values: Iterable[Any], sample: Sequence[Any], declared: str) -> list[Any]:
    present = [value for value in sample if value is not None][:50]
    kind = _kind(present, declared)
    cast = (_cast(value, kind, present) for value in values)
    return [value for value in cast if value is not None]


def _places(value: float) -> int:
    text = repr(value)
    return len(text.partition(".")[2]) if "e" not in text else 2


_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")


def _texts_near(value: str, present: Sequence[Any]) -> list[str]:
    found = [value, value.upper(), value.lower(), f"{value}a", value[:-1], f" {value}"]
    dates = [text for text in present if isinstance(text, str | dt.date) and _DATE.match(str(text))]
    if match := _DATE.match(value):
        try:
            day = dt.date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            return found
        tails = {str(text)[10:] for text in dates[:3]} | {value[10:]}
        near = [day + dt.timedelta(days) for days in (-1, 0, 1, 31, -366) if day.year > 2]
        return [f"{date}{tail}" for date in near for tail in sorted(tails)]
    if dates and value.isdigit() and len(value) == 4:
        years = [f"{int(value) + step:04d}" for step in (-1, 0, 1)]
        return [year + str(text)[4:] for text in dates[:6] for year in years]
    if dates and value.isdigit() and len(value) == 2:
        return [str(text)[:5] + value + str(text)[7:] for text in dates[:6]]
    if re.fullmatch(r"\d{4}-\d\d", value):
        return [value + str(text)[7:] for text in dates[:6]]
    if present and all(isinstance(text, str) for text in present):
        longer = [text for text in present if len(text) > len(value)][:3]
        found += [value + text[len(value) :] for text in longer]
    return found


def _texts_like(pattern: str) -> list[str]:
    """Texts that a LIKE or GLOB pattern matches, and texts that it just does not."""
    core = pattern.replace("*", "%").replace("?", "_").replace("_", "q")
    pieces = [piece for piece in core.split("%") if piece]
    joined = "".join(pieces)
    full = core.replace("%", "")
    found = [full, core.replace("%", "Zz"), joined.upper(), joined.lower(), joined[:-1], joined[1:]]
    return [*found, f"Zz{joined}", f"{joined}Zz", f"Zz{joined}Zz", *pieces]


def _kind(present: Sequence[Any], declared: str) -> str:
    for kind, types in (
        ("integer", (int,)),
        ("decimal", (Decimal,)),
        ("number", (int, float)),
        ("text", (str,)),
        ("datetime", (dt.datetime,)),
        ("date", (dt.date,)),
    ):
        if present and all(isinstance(v, types) and not isinstance(v, bool) for v in present):
            return kind
    if present:
        return "other"
    name = declared.upper()
    if name.endswith("]") or name.startswith(("STRUCT", "MAP", "UNION")):
        return "other"
    if "INT" in name:
        return "integer"
    if "TIMESTAMP" in name:
        return "datetime"
    if name == "DATE":
        return "date"
    if any(part in name for part in ("NUM", "DEC")):
        return "decimal"
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return "number"
    return "text" if any(p in name for p in ("CHAR", "TEXT", "CLOB", "DATE")) else "other"


def _cast(value: Any, kind: str, present: Sequence[Any]) -> Any:
    try:
        match kind:
            case "integer":
                number = float(value)
                return int(number) if number.is_integer() else None
            case "decimal":
                return Decimal(str(value))
            case "number":
                return float(value) if isinstance(value, str) else value
            case "text":
                return str(value) if isinstance(value, str) or present else None
            case "datetime":
                return dt.datetime.fromisoformat(value)
            case "date":
                return dt.date.fromisoformat(value[:10])
            case _:
                return None
    except (ValueError, TypeError, ArithmeticError):
        return None


def _invented(column: Column, known: Sequence[Any]) -> list[Any]:
    """Values for a column of which too few are known."""
    kind = _kind(list(known), column.type)
    day = dt.datetime(2020, 1, 1)
    match kind:
        case "integer":
            return [0, 1, 2, 3, 5, 10, 11, 20, 50, 99, 100, 1000]
        case "number":
            return [0.0, 0.5, 1.0, 1.5, 2.0, 3.25, 9.99, 10.0, 20.0, 50.5, 100.0, 1000.0]
        case "decimal":
            return [Decimal(text) for text in ("0", "0.5", "1", "1.5", "2", "9.99", "10", "100")]
        case "datetime":
            return [day + dt.timedelta(days=97 * n, hours=n) for n in range(12)]
        case "date":
            return [(day + dt.timedelta(days=97 * n)).date() for n in range(12)]
        case "text":
            return ["", "a", "A", "b", "ab", "abc", "Alpha", "Beta", "Gamma", "x y", "zeta", "1"]
        case _:
            return list(known)
