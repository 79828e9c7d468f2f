"""Tables as the SQL judge sees them, whichever engine they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A column as its table declares it."""

    name: str
    type: str
    nullable: bool
    values: tuple[Any, ...] = ()
    """Values that fit it besides those it has: the labels of an enum, say."""


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
