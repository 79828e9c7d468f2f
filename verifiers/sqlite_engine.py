"""SQLite without teeth: one SELECT on a file that nobody can change.

The file is opened read-only and immutable by URI. An authorizer allows reading columns and
a list of known functions and denies everything else (attach, pragma, writes, extensions);
run-time limits bound lengths, depths and the size of programs, a hard limit bounds SQLite's
heap for the whole process, and a progress handler ends what takes too long. Only ever use
it in a worker process: what one function call does, nothing but a kill can stop.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from verifiers.resultset import Row, plain
from verifiers.sql_session import (
    MAX_BYTES,
    MAX_ROWS,
    Budget,
    QueryError,
    RefusedError,
    Result,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)
from verifiers.sql_tables import Column, ForeignKey, Table

HEAP_LIMIT = 128 * 2**20
SAMPLE = 200
_STEPS = 5_000
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2**20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_FUNCTIONS = frozenset(
    re.findall(
        r"\S+",
        """
        abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws
        cos cosh count cume_dist current_date current_time current_timestamp date datetime degrees
        dense_rank exp first_value floor format glob group_concat hex if ifnull iif instr json
        json_array json_array_length json_each json_extract json_group_array json_group_object
        json_object json_quote json_tree json_type json_valid julianday lag last_value lead length
        like likelihood likely ln log log10 log2 lower ltrim max min mod nth_value ntile nullif
        octet_length percent_rank pi pow power printf quote radians rank replace round row_number
        rtrim sign sin sinh soundex sqrt strftime string_agg substr substring sum tan tanh time
        timediff total trim trunc typeof unhex unicode unixepoch unlikely upper -> ->>
        """,
    )
)
_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE))


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


class SqliteSession:
    """One connection that reads and no more."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._budget: Budget | None = None
        self._late = False
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        for pragma in ("hard_heap_limit", "soft_heap_limit"):
            connection.execute(f"PRAGMA {pragma} = {HEAP_LIMIT}")
        for pragma in ("temp_store = MEMORY", "query_only = ON", "trusted_schema = OFF",
                       "cell_size_check = ON", "mmap_size = 0", "cache_size = -8000"):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
        connection.set_progress_handler(self._tick, _STEPS)
        connection.set_authorizer(_authorize)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _tick(self) -> int:
        self._late = self._budget is not None and self._budget.left <= 0
        return int(self._late)

    def run(self, sql: str, budget: Budget, *, rows: int = MAX_ROWS) -> Result:
        """At most `rows` rows of a single SELECT. See `Session.run`."""
        self._budget, self._late = budget, False
        if budget.left <= 0:
            raise TooSlowError("out of time")
        cursor = None
        try:
            cursor = self._connection.execute(sql)
            try:
                return _fetch(cursor, rows)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
            self._connection.text_factory = _escaped  # slower, and rarely needed
            cursor = self._connection.execute(sql)
            return _fetch(cursor, rows)
        except sqlite3.Warning as error:  # two statements, before Python 3.12
            raise RefusedError(str(error)) from None
        except MemoryError:
            raise TooLargeError("out of memory") from None
        except (sqlite3.Error, UnicodeError, ValueError, OverflowError) as error:
            raise self._fault(error) from None
        finally:
            if cursor is not None:
                cursor.close()
            self._budget = None

    def _fault(self, error: Exception) -> Exception:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if self._late or code == sqlite3.SQLITE_INTERRUPT:
            return TooSlowError("out of time")
        if code == sqlite3.SQLITE_AUTH or "prohibited" in text or "not authorized" in text:
            return RefusedError(text)
        if code == sqlite3.SQLITE_READONLY or "one statement at a time" in text:
            return RefusedError(text)
        if code in (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG):
            return TooLargeError(text)
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
                    sqlite3.SQLITE_CANTOPEN):  # fmt: skip
            return UnavailableError(text)
        return QueryError(text)

    def run_otherwise(self, sql: str, budget: Budget) -> Result:
        """`run` while SQLite walks tables and indices backwards where no order is asked for."""
        self._pragma("reverse_unordered_selects = ON")
        try:
            return self.run(sql, budget)
        finally:
            self._pragma("reverse_unordered_selects = OFF")

    def _pragma(self, pragma: str) -> None:
        self._connection.set_authorizer(None)
        self._connection.execute(f"PRAGMA {pragma}")
        self._connection.set_authorizer(_authorize)


def _escaped(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _fetch(cursor: sqlite3.Cursor, most: int) -> Result:
    if cursor.description is None:
        raise RefusedError("the statement gives no rows: a SELECT is asked for")
    width = len(cursor.description)
    rows: list[Row] = []
    size = 0
    for row in cursor:
        if len(rows) == most:
            return Result(width, rows, False)
        size += 16 * width
        for value in row:
            if type(value) is str or type(value) is bytes:
                size += len(value)
        if size > MAX_BYTES:
            raise TooLargeError(f"a result of more than {MAX_BYTES // 2**20} MiB")
        rows.append(row)
    return Result(width, rows, True)


class SqliteEngine:
    """A database file. Raises UnavailableError when it cannot be read."""

    dialect = "sqlite"
    clock = staticmethod(time.thread_time)

    def __init__(self, path: str) -> None:
        uri = f"file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=64)
            self._ddl = [
                (kind, name, sql)
                for kind, name, sql in connection.execute(
                    "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
                )
                if kind in ("table", "view") or (kind == "index" and "UNIQUE" in sql.upper()[:40])
            ]
            self.tables = _tables(connection)
            self._samples = {table.name: _sample(connection, table) for table in self.tables}
        except (sqlite3.Error, UnicodeError) as error:
            raise UnavailableError(f"the database {path} cannot be read: {error}") from None
        self.base = SqliteSession(connection)

    def samples(self) -> Mapping[str, Sequence[Row]]:
        """Rows from both ends of every table."""
        return self._samples

    def copy(self, rows: Mapping[str, Sequence[Row]]) -> SqliteSession:
        """A database in memory with these rows, less those that break a rule."""
        connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=64)
        connection.execute("BEGIN")
        known = {table.name: table for table in self.tables}
        for kind, name, sql in self._ddl:
            if (kind == "table" and name in known) or kind == "index":
                connection.execute(sql)
        for name, table in known.items():
            columns = ", ".join(_quoted(column.name) for column in table.columns)
            marks = ", ".join("?" * len(table.columns))
            connection.executemany(
                f"INSERT OR IGNORE INTO {_quoted(name)} ({columns}) VALUES ({marks})",
                rows.get(name, ()),
            )
        _drop_orphans(connection)
        for kind, _name, sql in self._ddl:
            if kind == "view":
                connection.execute(sql)
        connection.execute("COMMIT")
        return SqliteSession(connection)


def _drop_orphans(connection: sqlite3.Connection) -> None:
    """Delete rows whose foreign key leads nowhere, and then those that led to them."""
    for _ in range(10):
        try:
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.OperationalError:  # a key to columns that are no key: nothing holds it
            return
        if not orphans:
            return
        for name, rowid, *_rest in orphans:
            if rowid is not None:
                connection.execute(f"DELETE FROM {_quoted(name)} WHERE rowid = ?", (rowid,))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(connection: sqlite3.Connection) -> list[Table]:
    names = [
        name
        for name, sql in connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        if not sql.upper().lstrip().startswith("CREATE VIRTUAL")
    ]
    columns = {name: _columns(connection, name) for name in names}
    canonical = {name.lower(): name for name in names}
    return [_table(connection, name, columns, canonical) for name in names]


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    found = connection.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    return [column for column in found if column[6] == 0]  # not hidden, not generated


def _table(
    connection: sqlite3.Connection,
    name: str,
    columns: Mapping[str, list[tuple[Any, ...]]],
    canonical: Mapping[str, str],
) -> Table:
    own = columns[name]
    at = {column[1].lower(): index for index, column in enumerate(own)}
    primary = tuple(
        at[column[1].lower()] for column in sorted(own, key=lambda c: c[5]) if column[5] > 0
    )
    unique = [primary] if primary else []
    for index in connection.execute(f"PRAGMA index_list({_quoted(name)})").fetchall():
        if index[2] and not index[4]:
            parts = connection.execute(f"PRAGMA index_info({_quoted(index[1])})").fetchall()
            if all(part[2] is not None and part[2].lower() in at for part in parts):
                unique.append(tuple(at[part[2].lower()] for part in parts))
    foreign: dict[int, list[tuple[Any, ...]]] = {}
    for key in connection.execute(f"PRAGMA foreign_key_list({_quoted(name)})").fetchall():
        foreign.setdefault(key[0], []).append(key)
    keys: list[ForeignKey] = []
    for parts in foreign.values():
        parent = canonical.get(parts[0][2].lower())
        if parent is None:
            continue
        theirs = {column[1].lower(): index for index, column in enumerate(columns[parent])}
        ranked = sorted((c for c in columns[parent] if c[5] > 0), key=lambda c: c[5])
        names = [p[4] or (ranked[n][1] if n < len(ranked) else "") for n, p in enumerate(parts)]
        if all(n.lower() in theirs for n in names) and all(p[3].lower() in at for p in parts):
            keys.append(
                ForeignKey(
                    tuple(at[part[3].lower()] for part in parts),
                    parent,
                    tuple(theirs[n.lower()] for n in names),
                )
            )
    return Table(
        name,
        tuple(
            Column(column[1], column[2] or "", not column[3] and column[5] == 0) for column in own
        ),
        tuple(dict.fromkeys(unique)),
        tuple(keys),
    )


def _sample(connection: sqlite3.Connection, table: Table) -> list[Row]:
    columns = ", ".join(_quoted(column.name) for column in table.columns)
    query = f"SELECT {columns} FROM {_quoted(table.name)}"
    rows = connection.execute(f"{query} LIMIT {SAMPLE}").fetchall()
    if len(rows) == SAMPLE:
        try:
            rows += connection.execute(f"{query} ORDER BY rowid DESC LIMIT {SAMPLE}").fetchall()
        except sqlite3.OperationalError:  # WITHOUT ROWID has no other end to start from
            return rows
    return [tuple(map(plain, row)) for row in rows]
