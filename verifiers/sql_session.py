"""What the SQL judge needs of a database engine, whichever it is.

An `Engine` is one database, opened so that nothing can change it; a `Session` runs single
SELECTs on it or on a made-up copy of it, within limits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from verifiers.resultset import Row, plain
from verifiers.sql_tables import Table

MAX_ROWS = 200_000
MAX_BYTES = 32 * 2**20
SLACK = 10
"""How many times its seconds a budget lasts on the wall."""


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


class Fetch:
    """Rows that come in batches, made plain, within the limits of a result."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._rows: list[Row] = []

    @property
    def asked(self) -> int:
        """How many rows the next batch should have."""
        return min(64, self._most + 1 - len(self._rows))

    def take(self, batch: Sequence[Sequence[Any]], width: int) -> Result | None:
        """The result, once nothing more is wanted. Raises TooLargeError."""
        ended = len(batch) < self.asked
        for row in batch:
            self._size += 16 * width
            self._size += sum(len(value) for value in row if isinstance(value, str | bytes))
            self._rows.append(tuple(map(plain, row)))
        if self._size > MAX_BYTES:
            raise TooLargeError(f"a result of more than {MAX_BYTES // 2**20} MiB")
        if len(self._rows) > self._most:
            return Result(width, self._rows[: self._most], False)
        return Result(width, self._rows, True) if ended else None


class Budget:
    """Seconds of a clock that several queries share: by default CPU seconds of this thread.

    Where that clock stands still while another works, ten times as long on the wall is the end.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.thread_time) -> None:
        self._seconds, self._clock = seconds, clock
        self._start, self._wall = clock(), time.monotonic()

    @property
    def left(self) -> float:
        """Seconds left; not above zero when the time is up."""
        waited = time.monotonic() - self._wall
        return min(self._seconds - (self._clock() - self._start), SLACK * self._seconds - waited)

    def for_watchers(self) -> Budget:
        """What is left of CPU seconds of this thread, for other threads to ask."""
        mine = time.pthread_getcpuclockid(threading.get_ident())
        return Budget(self.left, lambda: time.clock_gettime(mine))


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
    def clock(self) -> Callable[[], float]:
        """Seconds that queries have cost so far."""
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


class LiveEngine(Engine, Protocol):
    """A database that others may write to meanwhile."""

    def state(self) -> tuple[Hashable, Hashable]:
        """What changes when the tables do, and what when any row may have."""
        ...
