"""What the SQL judge needs of a database engine, whichever it is.

An `Engine` is one database, opened so that nothing can change it; a `Session` runs single
SELECTs on it or on a made-up copy of it, within limits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from verifiers.fuzz import Table
from verifiers.resultset import Row

MAX_ROWS = 200_000
MAX_BYTES = 32 * 2**20


class QueryError(Exception):
    """The query cannot be run; the message is the engine's."""


class RefusedError(QueryError):
    """The query is no single SELECT, or asks for what no query here may do."""


class TooSlowError(QueryError):
    """The query's time is up."""


class TooLargeError(QueryError):
    """The query's memory or result is beyond its limit."""


class UnavailableError(Exception):
    """The database cannot be opened, read or reached: no fault of the query's."""


@dataclass(frozen=True, slots=True)
class Result:
    """Columns and plain rows of a query; `whole` is False when more rows were left unread."""

    width: int
    rows: list[Row]
    whole: bool


class Budget:
    """CPU seconds of this thread that several queries share, and wall seconds for the engines
    that work elsewhere."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cpu, self._wall = time.thread_time(), time.monotonic()

    @property
    def cpu_left(self) -> float:
        """CPU seconds left; not above zero when the time is up."""
        return self._seconds - (time.thread_time() - self._cpu)

    @property
    def wall_left(self) -> float:
        """Wall seconds left."""
        return self._seconds - (time.monotonic() - self._wall)


class Session(Protocol):
    """One database that answers queries."""

    def run(self, sql: str, budget: Budget, *, rows: int = MAX_ROWS) -> Result:
        """At most `rows` rows of a single SELECT.

        Raises QueryError and its kinds, and UnavailableError.
        """
        ...

    def run_otherwise(self, sql: str, budget: Budget) -> Result:
        """`run` with whatever order SQL leaves open turned round, as far as the engine can."""
        ...


class Engine(Protocol):
    """One database and the means to copy its form."""

    @property
    def dialect(self) -> str:
        """The parser's name for its SQL."""
        ...

    @property
    def base(self) -> Session:
        """The database as it is."""
        ...

    @property
    def tables(self) -> Sequence[Table]:
        """Its tables."""
        ...

    def samples(self) -> Mapping[str, Sequence[Row]]:
        """Some rows of every table."""
        ...

    def copy(self, rows: Mapping[str, Sequence[Row]]) -> Session:
        """A database of the same form with these rows; an engine may leave out those that break a rule."""
        ...
