"""DuckDB without doors: one SELECT on a file that is attached read-only.

One instance holds the task's database and the made-up copies, each in memory under a name
of its own. External access is off and the configuration locked before any query runs;
statements that are no SELECT are refused by their parsed type; a thread beside interrupts what
takes too long. Only ever use it in a worker process.
"""

from __future__ import annotations

import resource
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from verifiers.resultset import Row
from verifiers.sql_session import (
    MAX_ROWS,
    Budget,
    Fetch,
    QueryError,
    RefusedError,
    Result,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)
from verifiers.sql_tables import Column, ForeignKey, Table

duckdb: Any = import_module("duckdb")  # its types are partial

MEMORY = "100MB"
SAMPLE = 300
_BASE = "base"
_CONFIGURATION = {
    "threads": "1",
    "memory_limit": MEMORY,
    "temp_directory": "",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


class DuckdbSession:
    """One of the databases of an instance."""

    def __init__(self, engine: DuckdbEngine, catalog: str, rows: Mapping[str, Sequence[Row]]):
        self._engine, self._rows = engine, rows
        self.cursor = engine.connection.cursor()
        self.cursor.execute(f"USE {catalog}")

    def run(self, sql: str, budget: Budget, *, rows: int = MAX_ROWS) -> Result:
        """At most `rows` rows of a single SELECT. See `Session.run`."""
        if budget.left <= 0:
            raise TooSlowError("out of time")
        over = threading.Event()
        watching = (self.cursor, budget.for_watchers(), over)
        watch = threading.Thread(target=_interrupt, args=watching, daemon=True)
        try:
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise RefusedError("a single SELECT is asked for")
            watch.start()
            self.cursor.execute(statements[0])
            return self._fetch(rows)
        except duckdb.InterruptException:
            raise TooSlowError("out of time") from None
        except (duckdb.OutOfMemoryException, MemoryError):
            raise TooLargeError("out of memory") from None
        except duckdb.PermissionException as error:
            raise RefusedError(str(error)) from None
        except (duckdb.FatalException, duckdb.InternalException) as error:
            raise UnavailableError(str(error)) from None
        except (duckdb.Error, RuntimeError, ValueError, OverflowError, UnicodeError) as error:
            raise QueryError(str(error)) from None
        finally:
            over.set()

    def _fetch(self, most: int) -> Result:
        if self.cursor.description is None:
            raise RefusedError("the statement gives no rows: a SELECT is asked for")
        fetch, width = Fetch(most), len(self.cursor.description)
        while (result := fetch.take(self.cursor.fetchmany(fetch.asked), width)) is None:
            pass
        return result

    def run_otherwise(self, sql: str, budget: Budget) -> Result:
        """`run` on a twin whose rows were put in backwards."""
        turned = {name: list(rows)[::-1] for name, rows in self._rows.items()}
        return self._engine.copy(turned).run(sql, budget)


class DuckdbEngine:
    """A database file. Raises UnavailableError when it cannot be read."""

    dialect = "duckdb"
    clock = staticmethod(time.thread_time)

    def __init__(self, path: str) -> None:
        _take_reserve()
        place = str(Path(path).absolute()).replace("'", "''")
        try:
            self.connection = duckdb.connect(":memory:", config=_CONFIGURATION)
            self.connection.execute(f"ATTACH '{place}' AS {_BASE} (READ_ONLY)")
            self.connection.execute("SET enable_external_access = false")
            self.connection.execute("SET lock_configuration = true")
            self.base = DuckdbSession(self, _BASE, {})
            self.tables = _tables(self.connection)
            self._views = [
                sql
                for (sql,) in self.connection.execute(
                    "SELECT sql FROM duckdb_views() WHERE NOT internal AND"
                    f" database_name = '{_BASE}' AND schema_name = 'main' ORDER BY view_oid"
                ).fetchall()
            ]
            self._samples = {table.name: self._sample(table) for table in self.tables}
        except (duckdb.Error, RuntimeError) as error:
            raise UnavailableError(f"the database {path} cannot be read: {error}") from None
        self._numbers = count()

    def _sample(self, table: Table) -> list[Row]:
        columns = ", ".join(_quoted(column.name) for column in table.columns)
        found = self.base.cursor.execute(
            f"SELECT {columns} FROM {_quoted(table.name)} LIMIT {SAMPLE}"
        )
        return list(found.fetchall())

    def samples(self) -> Mapping[str, Sequence[Row]]:
        """The first rows of every table."""
        return self._samples

    def copy(self, rows: Mapping[str, Sequence[Row]]) -> DuckdbSession:
        """A database in memory with these rows."""
        catalog = f"copy_{next(self._numbers)}"
        try:
            self.connection.execute(f"ATTACH ':memory:' AS {catalog}")
            session = DuckdbSession(self, catalog, rows)
            weakref.finalize(session, _detach, self.connection, catalog)
            for table in self.tables:  # the rows keep the keys; an index would take 1 MiB
                name = _quoted(table.name)
                session.cursor.execute(f"CREATE TABLE {name} AS FROM {_BASE}.{name} LIMIT 0")
                _insert(session.cursor, table, rows.get(table.name, ()))
            for view in self._views:
                session.cursor.execute(view)
        except duckdb.Error as error:
            raise UnavailableError(f"no copy could be made: {error}") from None
        return session


def _interrupt(cursor: Any, budget: Budget, over: threading.Event) -> None:
    """End a query that is not over when nothing is left of its seconds."""
    while not over.wait(max(budget.left, 0)):
        if budget.left <= 0:
            cursor.interrupt()
            return


def _take_reserve() -> None:
    """Lift the soft limit on address space: DuckDB reserves far more than its memory limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _detach(connection: Any, catalog: str) -> None:
    connection.execute(f"DETACH {catalog}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _insert(cursor: Any, table: Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns = ", ".join(_quoted(column.name) for column in table.columns)
    one = "(" + ", ".join("?" * len(table.columns)) + ")"
    into = f"INSERT INTO {_quoted(table.name)} ({columns}) VALUES "
    cursor.execute(into + ", ".join([one] * len(rows)), [v for row in rows for v in row])


def _tables(connection: Any) -> list[Table]:
    columns: dict[str, list[Column]] = {}
    for table, name, declared, nullable in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns()"
        f" WHERE database_name = '{_BASE}' AND schema_name = 'main' AND NOT internal"
        " AND table_oid IN (SELECT table_oid FROM duckdb_tables()"
        f" WHERE database_name = '{_BASE}') ORDER BY table_oid, column_index"
    ).fetchall():
        columns.setdefault(table, []).append(Column(name, declared, bool(nullable)))
    at = {table: {c.name: i for i, c in enumerate(found)} for table, found in columns.items()}
    unique: dict[str, list[tuple[int, ...]]] = {table: [] for table in columns}
    foreign: dict[str, list[ForeignKey]] = {table: [] for table in columns}
    for table, kind, names, parent, theirs in connection.execute(
        "SELECT table_name, constraint_type, constraint_column_names, referenced_table,"
        " referenced_column_names FROM duckdb_constraints()"
        f" WHERE database_name = '{_BASE}' AND schema_name = 'main' ORDER BY constraint_index"
    ).fetchall():
        own = tuple(at[table][name] for name in names or ())
        if kind in ("PRIMARY KEY", "UNIQUE"):
            unique[table].append(own)
        elif kind == "FOREIGN KEY" and parent in at:
            foreign[table].append(
                ForeignKey(own, parent, tuple(at[parent][name] for name in theirs))
            )
    return [
        Table(name, tuple(found), tuple(dict.fromkeys(unique[name])), tuple(foreign[name]))
        for name, found in columns.items()
    ]
