"""PostgreSQL for the SQL judge: the user's database, read by a role that can only read.

The made-up copies live inside the queries (`postgres_copies`); the link sees to limits and
lost connections, the policy to who asks what. Whatever fails on the way to the server is
`UnavailableError`, never the query's fault. Only ever use it in a worker process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg

from verifiers import postgres_catalog, postgres_policy
from verifiers.postgres_catalog import Opaque, Relation
from verifiers.postgres_copies import (
    Shadowed,
    Shadows,
    TextRow,
    fitting,
    lawful,
    select,
)
from verifiers.postgres_faults import GroupingError, MeaningError
from verifiers.postgres_link import PostgresLink
from verifiers.postgres_text import quoted, single
from verifiers.resultset import Row
from verifiers.sql_session import MAX_ROWS, Budget, QueryError, RefusedError, Result
from verifiers.sql_tables import Table

SAMPLE = 200
MAX_SAMPLED = 2_000
"""Bytes of a row that copies may be made from."""
OWN_S = 3.0
"""Seconds for a query of our own."""
SAMPLES_S = 10.0
"""Seconds for all samples; copies do without the rest."""
MAX_REGROUPED = 40
FRESH_S = 5.0
"""Seconds for which a schema, once read, is not read again."""


class _Asked(NamedTuple):
    """A query as the database itself is asked, and as its copies are."""

    text: str
    shadowed: Shadowed


class PostgresSession:
    """The database itself."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._engine = engine

    def run(self, sql: str, budget: Budget, *, rows: int = MAX_ROWS) -> Result:
        """At most `rows` rows of a single SELECT. See `Session.run`."""
        return self._engine.link.run(self._engine.asked(sql).text, budget.left, rows)

    def run_otherwise(self, sql: str, budget: Budget) -> Result:
        """`run` without the server's favourite plans."""
        asked = self._engine.asked(sql)
        return self._engine.link.run(asked.text, budget.left, MAX_ROWS, otherwise=True)


class PostgresCopy:
    """A made-up copy: `selects` gives each table's rows by its oid."""

    def __init__(self, engine: PostgresEngine, rows: Mapping[int, Sequence[TextRow]]) -> None:
        self._engine, self._rows = engine, rows
        self._selects = engine.selects(rows)

    def run(self, sql: str, budget: Budget, *, rows: int = MAX_ROWS) -> Result:
        """At most `rows` rows of a single SELECT. See `Session.run`."""
        return self._engine.run_on(self._selects, sql, budget, rows)

    def run_otherwise(self, sql: str, budget: Budget) -> Result:
        """`run` with the rows backwards and without the server's favourite plans."""
        turned = {oid: list(rows)[::-1] for oid, rows in self._rows.items()}
        selects = self._engine.selects(turned)
        return self._engine.run_on(selects, sql, budget, MAX_ROWS, otherwise=True)


class PostgresEngine:
    """A database by its connection string, or by the name of the environment variable that
    holds it. Raises UnavailableError."""

    dialect = "postgres"

    def __init__(self, database: str) -> None:
        self.link = PostgresLink(database, postgres_policy.admit)
        self.clock = self.link.worked
        self.base = PostgresSession(self)
        self._rows_state: str | None = None
        self._version = 0
        self._read()

    def _read(self) -> None:
        self._read_at = time.monotonic()
        self._catalog = self.link.use(postgres_catalog.read, OWN_S)
        self._forbidden = self.link.use(postgres_policy.forbidden, OWN_S)
        self._names = self._catalog.names
        self._stored = {r.key: r for r in self._catalog.relations if r.stored}
        self.tables: Sequence[Table] = self._catalog.tables
        self._shadows = Shadows(self._catalog)
        self.asked = lru_cache(maxsize=512)(self._asked)
        self._samples = {
            key: self._sample(relation)
            for key, relation in self._stored.items()
            if time.monotonic() - self._read_at < SAMPLES_S
        }
        self._regroup_views()

    def _regroup_views(self) -> None:
        empty = self.selects({})
        for view in self._shadows.views.values():
            if any(token.says("group") for token in single(view.text)):
                try:
                    self._run_shadowed(empty, view, Budget(OWN_S, self.clock), 0)
                except QueryError:
                    continue  # a query that uses this view says so

    def state(self) -> tuple[int, str]:
        """What changes when the tables do, and when any row may have."""
        rows_state = self.link.use(_snapshot, OWN_S)
        if rows_state != self._rows_state and time.monotonic() - self._read_at > FRESH_S:
            before = self._catalog, self._forbidden
            self._read()
            self._version += before != (self._catalog, self._forbidden)
        self._rows_state = rows_state
        return self._version, rows_state

    def _asked(self, sql: str) -> _Asked:
        tokens = single(sql)
        postgres_policy.screen(tokens, self._forbidden, self._names)
        text = sql[tokens[0].start : tokens[-1].end]
        return _Asked(text, self._shadows.shadow(sql, tokens))

    def run_on(
        self,
        selects: Mapping[int, str],
        sql: str,
        budget: Budget,
        rows: int,
        *,
        otherwise: bool = False,
    ) -> Result:
        """At most `rows` rows of a single SELECT on tables whose rows `selects` gives."""
        return self._run_shadowed(selects, self.asked(sql).shadowed, budget, rows, otherwise)

    def _run_shadowed(
        self,
        selects: Mapping[int, str],
        query: Shadowed,
        budget: Budget,
        rows: int,
        otherwise: bool = False,
    ) -> Result:
        for _ in range(MAX_REGROUPED):
            clause = self._shadows.clause(query, selects)
            try:
                return self.link.run(
                    query.text, budget.left, rows, shadows=clause, otherwise=otherwise
                )
            except GroupingError as error:
                query.regroup(error)
            except MeaningError as error:
                raise RefusedError(
                    f"cannot be asked of made-up copies of the database: {error}"
                ) from None
        raise RefusedError("groups by too many columns that it does not name")

    def selects(self, rows: Mapping[int, Sequence[TextRow]]) -> dict[int, str]:
        """For each table a SELECT of its rows."""
        return {r.oid: select(r, rows.get(r.oid, ())) for r in self._stored.values()}

    def samples(self) -> Mapping[str, Sequence[Row]]:
        """The first rows of every table that may be read."""
        return self._samples

    def _sample(self, relation: Relation) -> list[Row]:
        if not relation.readable or not relation.own:
            return []
        columns = ", ".join(
            quoted(column.name) + ("" if column.plain else "::text") for column in relation.own
        )
        table = f"{quoted(relation.schema)}.{quoted(relation.name)}"
        query = (
            f"SELECT {columns} FROM (SELECT * FROM {table} LIMIT {5 * SAMPLE}) AS t"
            f" WHERE pg_column_size(t.*) < {MAX_SAMPLED} LIMIT {SAMPLE}"
        )
        try:
            rows = self.link.use(lambda c: c.execute(query.encode()).fetchall(), OWN_S)
        except QueryError:  # too slow, or hidden after all: copies do without
            return []
        return [
            tuple(
                value if column.plain or value is None else Opaque(value)
                for column, value in zip(relation.own, row, strict=True)
            )
            for row in rows
        ]

    def copy(self, rows: Mapping[str, Sequence[Row]]) -> PostgresCopy:
        """A copy with these rows, less those that break a rule."""
        texts = {
            self._stored[key].oid: [tuple(map(_text, row)) for row in made]
            for key, made in rows.items()
        }
        fitting = self._fitting(texts)
        kept = lawful(self.tables, {key: fitting[r.oid] for key, r in self._stored.items()})
        return PostgresCopy(self, {self._stored[key].oid: found for key, found in kept.items()})

    def _fitting(self, rows: Mapping[int, Sequence[TextRow]]) -> dict[int, list[TextRow]]:
        """The rows that fit the types and checks of their tables, as these would hold them."""
        relations = {r.oid: r for r in self._stored.values()}
        queries = {oid: fitting(relations[oid], made) for oid, made in rows.items()}

        def ask(connection: psycopg.Connection[Any]) -> dict[int, list[TextRow]]:
            return {
                oid: connection.execute(query.encode()).fetchall() if query else []
                for oid, query in queries.items()
            }

        try:
            return self.link.use(ask, OWN_S)
        except QueryError:  # some value fits no column: find out which
            if len(rows) > 1:
                parts = [self._fitting({oid: made}) for oid, made in rows.items()]
                return {oid: found for part in parts for oid, found in part.items()}
            ((oid, made),) = rows.items()
            middle = len(made) // 2
            halves = (made[:middle], made[middle:]) if middle else ()
            return {oid: [row for half in halves for row in self._fitting({oid: half})[oid]]}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Decimal | float | int):  # booleans too
        return str(value).lower()
    return str(value).replace("\0", "")


def _snapshot(connection: psycopg.Connection[Any]) -> str:
    """Every transaction that writes anywhere in the server changes it."""
    (found,) = connection.execute(b"SELECT pg_current_snapshot()::text").fetchall()
    return found[0]
