"""A PostgreSQL server for tests: Debian's, in a temporary folder, on a Unix socket alone."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

SERVER_USER = "postgres"


def binaries() -> Path | None:
    """Where initdb and its kin are; None when PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    place = shutil.which("initdb")
    return Path(place).resolve().parent if place else None


class PostgresServer:
    """A running server; `kill` it and `start` it again, `stop` it at the end."""

    def __init__(self, home: Path) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="strop-pg-"))
        self._bin = home
        self._home.chmod(0o755)  # workers have no privilege that would lead them to the socket
        # The server refuses to run as root.
        self._home.chmod(0o755)  # a worker comes to the socket as anybody does
        self._as: Sequence[str] = ()
        if os.geteuid() == 0:
            account = pwd.getpwnam(SERVER_USER)
            os.chown(self._home, account.pw_uid, account.pw_gid)
            self._as = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}",
                        "--clear-groups", "--")  # fmt: skip
        self.data = self._home / "data"
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "owner", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip
        self.start()

    def _run(self, program: str, *arguments: str) -> bytes:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments],
            cwd=self._home, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-k {self._home} -c listen_addresses='' -c fsync=off -c autovacuum=off"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "50", "-l", str(self._home / "log"),
                  "-o", options, "start")  # fmt: skip

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "50", "-m", "immediate", "stop")

    def stop(self) -> None:
        """End it and remove its folder."""
        if (self.data / "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self._home)

    @property
    def host(self) -> str:
        """Where it listens: the folder of its socket."""
        return str(self._home)

    def dsn(self, database: str, user: str = "reader", **options: str) -> str:
        """A connection string."""
        return make_conninfo("", host=self.host, dbname=database, user=user, **options)

    def execute(self, database: str, sql: str, *arguments: Any) -> list[Any]:
        """Run SQL as the superuser; the rows of its last statement."""
        with psycopg.connect(self.dsn(database, "owner"), autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str, sql: str, readers: Sequence[str] = ("public",)) -> str:
        """A database made by a script, readable by the role `reader`; its connection string."""
        self.execute("postgres", f"CREATE DATABASE {database}")
        self.execute(database, sql)
        if not self.execute("postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
            self.execute("postgres", "CREATE ROLE reader LOGIN")
        for schema in readers:
            self.execute(database, f"GRANT USAGE ON SCHEMA {schema} TO reader")
            self.execute(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
        self.execute(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # PostgreSQL 14
        return self.dsn(database)

    def dump(self) -> bytes:
        """Everything in all databases, roles and their settings too."""
        text = self._run("pg_dumpall", "-h", str(self._home), "-U", "owner")
        return re.sub(rb"(?m)^\\(un)?restrict .*$", b"", text)

    def fingerprint(self, database: str) -> list[Any]:
        """A checksum of every table, sequence and catalog that holds what somebody made."""
        tables = self.execute(
            database,
            "SELECT oid::regclass::text FROM pg_class WHERE (relkind IN ('r', 'm', 'S') AND"
            " relnamespace::regnamespace::text !~ '^(pg_|information_schema)') OR oid IN"
            " ('pg_class'::regclass, 'pg_attribute'::regclass, 'pg_proc'::regclass,"
            " 'pg_authid'::regclass, 'pg_auth_members'::regclass, 'pg_database'::regclass,"
            " 'pg_db_role_setting'::regclass, 'pg_largeobject'::regclass) ORDER BY 1",
        )
        return self.execute(
            database,
            " UNION ALL ".join(
                f"SELECT '{name.replace(chr(39), chr(39) * 2)}',"
                f" md5(string_agg(ROW(t.*)::text, '|' ORDER BY ROW(t.*)::text)) FROM {name} t"
                for (name,) in tables
            ),
        )

    def idle(self, seconds: float = 20.0) -> bool:
        """Whether, within the time, no session of `reader`'s runs or has a transaction open."""
        deadline = time.monotonic() + seconds
        busy = "SELECT 1 FROM pg_stat_activity WHERE usename = 'reader' AND state <> 'idle'"
        while self.execute("postgres", busy):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def files(self, name: str) -> list[Path]:
        """Files of this name where the server and the judge may write."""
        places = (self._home, Path(tempfile.gettempdir()))
        return [path for place in places for path in place.glob(f"{name}*")]
