"""Who may ask a PostgreSQL database on behalf of a model, and what.

The role must be one that can write nothing, so that a hole anywhere else leads nowhere. Of
what a query names, functions that are volatile (they have effects, sleep, or give other
values each time) or that read what no made-up copy has are refused, and so are the
catalogs. The server's read-only transaction stands behind all of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg

from verifiers.postgres_text import Token
from verifiers.sql_session import RefusedError, UnavailableError

_HARMLESS = frozenset(("pg_catalog", "pg_typeof", "pg_size_pretty"))
_BUILTIN = re.compile(r"current_setting|txid_.*|(?:table|schema|database)_to_xml.*")
_EXTENSION = re.compile(r"crosstab.*|connectby|xpath_table|dblink.*")

_ROLE = """
SELECT CASE
    WHEN s.rolsuper OR u.rolsuper THEN 'is a superuser'
    WHEN u.rolcreaterole THEN 'may make roles'
    WHEN u.rolcreatedb THEN 'may make databases'
    WHEN u.rolreplication THEN 'may replicate'
END, u.rolname
FROM pg_roles u, pg_roles s WHERE u.rolname = current_user AND s.rolname = session_user
UNION ALL
SELECT 'is a member of ' || rolname, current_user FROM pg_roles
WHERE rolname IN ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files',
    'pg_write_server_files', 'pg_signal_backend', 'pg_maintain', 'pg_create_subscription')
    AND pg_has_role(oid, 'MEMBER')
UNION ALL
SELECT 'may make schemas in this database', current_user
WHERE has_database_privilege(current_database(), 'CREATE')
UNION ALL
SELECT 'may make tables in the schema ' || nspname, current_user FROM pg_namespace
WHERE nspname !~ '^pg_(temp|toast)' AND has_schema_privilege(oid, 'CREATE')
UNION ALL
(SELECT CASE WHEN pg_has_role(relowner, 'MEMBER') THEN 'owns ' ELSE 'may write to ' END
    || c.oid::regclass, current_user
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND CASE
    WHEN relkind IN ('r', 'p', 'v', 'm', 'f') THEN pg_has_role(relowner, 'MEMBER')
        OR has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(c.oid, 'INSERT, UPDATE')
    WHEN relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE') END
LIMIT 3)
"""
_FUNCTIONS = """
SELECT proname, bool_or(pronamespace = 'pg_catalog'::regnamespace), bool_or(provolatile = 'v'),
    bool_or(provolatile = 's' AND lanname NOT IN ('c', 'internal'))
FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE pronamespace = 'pg_catalog'::regnamespace OR proname NOT IN
    (SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace)
GROUP BY 1
"""


def admit(connection: psycopg.Connection[Any]) -> None:
    """Refuse a role that could write. Raises UnavailableError."""
    found = [row for row in connection.execute(_ROLE.encode()).fetchall() if row[0] is not None]
    if found:
        reasons = ", ".join(reason for reason, _ in found[:4])
        raise UnavailableError(
            f"the role {found[0][1]} {reasons}; the judge takes a role that can only read: "
            "CREATE ROLE ... LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA ... TO ...; and on"
            " PostgreSQL 14 and before REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )


def forbidden(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Functions that no query here may call, and why."""
    reasons: dict[str, str] = {}
    for name, builtin, volatile, reading in connection.execute(_FUNCTIONS.encode()).fetchall():
        if volatile:
            reasons[name] = "is volatile: it may have effects or change its value"
        elif builtin and _BUILTIN.fullmatch(name):
            reasons[name] = "reads more than the query names"
        elif not builtin and (reading or _EXTENSION.fullmatch(name)):
            reasons[name] = "is not IMMUTABLE: it may read tables that no made-up copy has"
    return reasons


def screen(tokens: Sequence[Token], functions: Mapping[str, str], names: Collection[str]) -> None:
    """Refuse a query that calls a forbidden function or names a catalog, unless tables or
    columns of the database have these names. Raises RefusedError."""
    for number, token in enumerate(tokens):
        if not token.named:
            continue
        name = token.text
        called = number + 1 < len(tokens) and tokens[number + 1].says("(")
        attribute = number > 0 and tokens[number - 1].says(".") and name not in names
        if (called or attribute) and name in functions:
            raise RefusedError(f"the function {name} {functions[name]}")
        if name in names or name in _HARMLESS:
            continue
        if name.startswith("pg_") or name == "information_schema":
            raise RefusedError(f"{name}: the system's catalogs and functions are not asked here")
