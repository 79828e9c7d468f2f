"""One connection to a PostgreSQL server, over which nothing can be written or stay.

Every query runs in a read-only transaction of its own, under limits set for it alone, as a
server-side cursor, which the server's grammar allows for a single SELECT only; then all is
rolled back. A query that is late is the query's fault, a server that is gone is not: it is
asked again over a new connection, then `UnavailableError`. Knows no schema.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, errors

from verifiers.postgres_faults import TOO_LARGE, LostError, fault
from verifiers.postgres_values import adapt
from verifiers.sql_session import (
    Fetch,
    QueryError,
    Result,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)

SECRETS = "STROP_SQL_"
"""Environment variables of this prefix hold connection strings: `$STROP_SQL_SHOP`."""
ALLOW = "STROP_SQL_ALLOW"
"""Environment variable: hosts that tasks may name themselves, `db.internal,/run/postgresql`."""
_KEYWORDS = frozenset({
    "host", "port", "dbname", "user", "sslmode", "options", "connect_timeout",
    "application_name",
})  # fmt: skip
"""What a task's own connection string may set: nothing that names a file, a service or an
address beside the host."""
CONNECT_S = 5.0
GRACE_S = 1.0
"""What the server may be late in ending a query, before the connection is cut."""
MAX_ROW = 2**20
"""Bytes of one row; checked by the server, before it is sent."""
MIN_VERSION = 130_000
_BEGIN = (
    "BEGIN READ ONLY; SET LOCAL statement_timeout = {ms}; SET LOCAL lock_timeout = {half};"
    " SET LOCAL idle_in_transaction_session_timeout = 10000;"
    " SET LOCAL standard_conforming_strings = on; SET LOCAL client_encoding = 'UTF8';"
    " SET LOCAL work_mem = '16MB'; SET LOCAL max_parallel_workers_per_gather = 0;"
    " SET LOCAL jit = off; SET LOCAL cursor_tuple_fraction = 1; SET LOCAL extra_float_digits = 1;"
    " SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres';"
    " SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content'"
)
# The inner SELECT is fenced, so that measuring a row does not compute it twice.
_CURSOR = (
    "DECLARE strop NO SCROLL CURSOR FOR {shadows}SELECT * FROM (SELECT * FROM (\n{query}\n) AS"
    " strop OFFSET 0) AS strop WHERE CASE WHEN pg_column_size(strop.*) <= "
    f"{MAX_ROW} THEN true ELSE ('{TOO_LARGE}' || pg_column_size(strop.*))::boolean END"
)
_FILES = "; SET LOCAL temp_file_limit = '256MB'"
_OTHERWISE = "; SET LOCAL enable_hashagg = off; SET LOCAL enable_hashjoin = off"

T = TypeVar("T")


class PostgresLink:
    """A database by its connection string, or by the name of the variable that holds it.

    `admit` looks at every new connection and may refuse it. Raises UnavailableError.
    """

    def __init__(self, database: str, admit: Callable[[psycopg.Connection[Any]], None]) -> None:
        self._conninfo, self._admit = _conninfo(database), admit
        self.name = _described(self._conninfo)
        self._connection: psycopg.Connection[Any] | None = None
        self._worked = 0.0
        self._begin = _BEGIN

    def worked(self) -> float:
        """Seconds that the server has worked on queries, without the way there and back."""
        return self._worked

    def run(
        self, query: str, seconds: float, rows: int, *, shadows: str = "", otherwise: bool = False
    ) -> Result:
        """At most `rows` rows of a single SELECT, in which the names that `shadows` (a WITH
        clause) defines stand for those of the database.

        `otherwise` forbids the server its favourite plans. Raises QueryError and its kinds,
        UnavailableError.
        """
        declare = _CURSOR.format(shadows=shadows, query=query)
        offset = len(_CURSOR.partition("{query}")[0].format(shadows=shadows))
        if seconds <= 0:
            raise TooSlowError("out of time")

        def ask(connection: psycopg.Connection[Any]) -> Result:
            # Binary, for the extended protocol: it takes one statement only.
            connection.execute(declare.encode(), binary=True)
            return _fetch(connection, rows, time.monotonic() + seconds)

        return self.use(ask, seconds, settings=_OTHERWISE if otherwise else "", offset=offset)

    def use(
        self,
        task: Callable[[psycopg.Connection[Any]], T],
        seconds: float,
        *,
        settings: str = "",
        offset: int = 0,
    ) -> T:
        """What a task makes of the connection, in a read-only transaction of its own.

        Raises QueryError and its kinds (their positions counted from `offset`),
        UnavailableError.
        """
        for last in (False, True):
            try:
                return self._use(task, seconds, settings, offset)
            except LostError as error:
                self.close()
                if last:
                    raise UnavailableError(f"{self.name} does not answer: {error}") from None
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connection; the next query opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _use(
        self,
        task: Callable[[psycopg.Connection[Any]], T],
        seconds: float,
        settings: str,
        offset: int,
    ) -> T:
        connection = self._connected()
        watch = _Watch(connection, seconds + GRACE_S)
        ms = max(2, int(seconds * 1e3))
        started = began = time.monotonic()
        try:
            connection.execute((self._begin.format(ms=ms, half=ms // 2) + settings).encode())
            began = time.monotonic()
            return task(connection)
        except psycopg.Error as error:
            if watch.cut:
                raise self._late() from None
            raise fault(error, offset, time.monotonic() - began < 0.8 * seconds) from None
        except UnicodeError as error:
            raise QueryError(f"text that is no UTF-8: {error}") from None
        except MemoryError:
            raise TooLargeError("out of memory") from None
        finally:
            self._worked += max(0.0, (time.monotonic() - began) - (began - started))
            try:
                connection.execute(b"ROLLBACK")
            except psycopg.Error:
                connection.close()  # and the server rolls back
            watch.end()

    def _late(self) -> Exception:
        """A cut connection: the query's fault where the server still answers."""
        self.close()
        try:
            self._connected()
        except UnavailableError as error:
            return error
        return TooSlowError("out of time, and not to be interrupted")

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        """A new connection. Names are looked up without a deadline: hence a thread."""
        made: list[psycopg.Connection[Any]] = []
        failed: list[Exception] = []
        given_up = threading.Event()

        def connect() -> None:
            try:
                connection = psycopg.connect(
                    self._conninfo, autocommit=True, prepare_threshold=None
                )
                made.append(connection)
                if given_up.is_set():
                    connection.close()
            except (psycopg.Error, UnicodeError, OSError) as error:
                failed.append(error)

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(CONNECT_S)
        if not made:
            given_up.set()
            reason = failed[0] if failed else f"not within {CONNECT_S:g} s"
            raise UnavailableError(f"no connection to {self.name}: {reason}")
        (connection,) = made
        watch = _Watch(connection, CONNECT_S)
        try:
            if connection.info.server_version < MIN_VERSION:
                raise UnavailableError(f"{self.name} is older than PostgreSQL 13")
            self._admit(connection)
            self._limit_files(connection)
            adapt(connection)
        except psycopg.Error as error:
            connection.close()
            raise UnavailableError(f"{self.name}: {error}") from None
        except UnavailableError:
            connection.close()
            raise
        finally:
            watch.end()
        return connection

    def _limit_files(self, connection: psycopg.Connection[Any]) -> None:
        """Bound temporary files where the role may; few may, and the time limit holds too."""
        try:
            connection.execute(f"BEGIN{_FILES}; ROLLBACK".encode())
            self._begin = _BEGIN + _FILES
        except errors.InsufficientPrivilege:
            connection.execute(b"ROLLBACK")
            self._begin = _BEGIN


class _Watch:
    """Cuts a connection whose server does not come round."""

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self.cut = False
        self._descriptor = connection.fileno() if not connection.closed else -1
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def _shut(self) -> None:
        self.cut = True
        with suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as line:
            line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()


def _fetch(connection: psycopg.Connection[Any], most: int, deadline: float) -> Result:
    fetch = Fetch(most)
    while True:
        cursor = connection.execute(f"FETCH {fetch.asked} FROM strop".encode())
        result = fetch.take(cursor.fetchall(), len(cursor.description or ()))
        if result is not None:
            return result
        if time.monotonic() > deadline:  # the server counts anew for each batch
            raise TooSlowError("out of time")


def _conninfo(database: str) -> str:
    text, own = database, True
    if database.startswith("$"):
        name, own = database[1:], False
        known = name.startswith(SECRETS) and name != ALLOW
        text = os.environ.get(name, "") if known else ""
        if not text:
            raise UnavailableError(f"the environment has no {name} that names a database")
    try:
        settings = conninfo.conninfo_to_dict(text)
        if own:
            _check_reach(settings)
        # At the start, not by SET: behind a pooler that would stay for others.
        given = settings.get("options") or ""
        return conninfo.make_conninfo(
            text,
            options=f"{given} -c default_transaction_read_only=on".strip(),
            connect_timeout=str(int(CONNECT_S)),
            fallback_application_name="strop",
            client_encoding="UTF8",
            tcp_user_timeout="10000",
        )
    except psycopg.Error as error:
        reason = _masked(error, text)
        raise UnavailableError(f"the connection string cannot be read: {reason}") from None


def _check_reach(settings: Mapping[str, object]) -> None:
    """Raise UnavailableError for a server to which a task's own connection string may not lead."""
    if unknown := sorted(set(settings) - _KEYWORDS):
        raise UnavailableError(
            f"a task's connection string may not set {unknown[0]}; an operator may put it whole "
            f"into an environment variable {SECRETS}..."
        )
    allowed = {host.strip() for host in os.environ.get(ALLOW, "").split(",") if host.strip()}
    for host in str(settings.get("host") or "this machine's socket").split(","):
        if host not in allowed:
            raise UnavailableError(
                f"a task may not name the database server {host!r}: an operator may allow it in "
                f"{ALLOW}, or put the connection string into an environment variable {SECRETS}..."
            )


def _masked(error: Exception, text: str) -> str:
    """A message of libpq's that does not repeat the string, in which a password may stand."""
    return str(error).replace(text, "...").partition('"')[0].strip() or type(error).__name__


def _described(info: str) -> str:
    parts = conninfo.conninfo_to_dict(info)
    return f"the database {parts.get('dbname', '')!r} at {parts.get('host', 'this machine')}"
