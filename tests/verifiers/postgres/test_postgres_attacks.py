"""Attacks on a PostgreSQL database through the judge: nothing changes, nothing is left behind."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.verifiers.postgres.judging import spec
from tests.verifiers.postgres.server import PostgresServer
from verifiers.pool import WorkerPool
from verifiers.postgres_link import PostgresLink
from verifiers.sql_session import QueryError, TooLargeError

GOLD = "SELECT COUNT(*) FROM sale"

WRITES = [
    "DELETE FROM sale", "UPDATE sale SET amount = 0", "INSERT INTO archive.sale VALUES (7, 7)",
    "TRUNCATE sale", "DROP TABLE sale", "CREATE TABLE evil (a int)", "CREATE TEMP TABLE evil (a int)",
    "ALTER TABLE sale ADD COLUMN evil int", "ALTER SYSTEM SET work_mem = '1GB'", "VACUUM", "ANALYZE",
    "SET ROLE owner", "RESET ROLE", "SET default_transaction_read_only = off", "DO $$ BEGIN END $$",
    "SET SESSION AUTHORIZATION owner", "GRANT ALL ON sale TO public", "LOCK TABLE sale", "NOTIFY evil",
    "LISTEN evil", "PREPARE p AS SELECT 1", "EXECUTE p", "DECLARE c CURSOR FOR SELECT 1", "BEGIN",
    "COMMIT", "ROLLBACK", "CALL wreck()", "EXPLAIN ANALYZE DELETE FROM sale", "DISCARD ALL", "CHECKPOINT",
    "CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'", "REFRESH MATERIALIZED VIEW cities",
    "COPY sale TO '/tmp/strop-evil'", "COPY sale TO PROGRAM 'touch /tmp/strop-evil'",
    "COPY sale FROM '/etc/passwd'", "COPY (SELECT 1) TO STDOUT", "LOAD '/tmp/evil.so'", "SHOW hba_file",
    "MERGE INTO archive.sale a USING sale s ON a.id = s.id WHEN MATCHED THEN DELETE",
    "SELECT * INTO evil FROM sale", "SELECT id FROM sale FOR UPDATE", "SELECT id FROM sale FOR KEY SHARE",
    "WITH x AS (DELETE FROM sale RETURNING id) SELECT id FROM x",
    "WITH x AS (INSERT INTO archive.sale VALUES (7, 7) RETURNING 1) SELECT COUNT(*) FROM sale",
    "WITH x AS (UPDATE sale SET amount = 0) SELECT COUNT(*) FROM sale",
    "SELECT COUNT(*) FROM (WITH x AS (DELETE FROM sale RETURNING 1) SELECT 1 FROM x) y",
]  # fmt: skip
SEVERAL = [
    "SELECT COUNT(*) FROM sale; DELETE FROM sale", "COMMIT; DROP TABLE sale", "; DROP TABLE sale",
    "SELECT 1) AS x; DROP TABLE sale; --", "SELECT COUNT(*) FROM sale) AS strop; COMMIT; DROP TABLE sale --",
    "SELECT 1 /* ; */; DELETE FROM sale", "SELECT '; -- '; DELETE FROM sale; -- '",
    "SELECT $$ ; $$; DELETE FROM sale", "SELECT $a$ $$; $a$ ; DROP TABLE sale", "SELECT /* /* */ ; */ 1; VACUUM",
    "SELECT E'\\'; DELETE FROM sale; --'; DELETE FROM sale", "SELECT '\\'; DELETE FROM sale; --'",
    "SELECT E'a'\n'\\' || ' || pg_sleep(9)::text --'", 'SELECT 1 AS "; DROP TABLE sale', "SELECT 1\\; DROP TABLE sale",
    "SELECT 1) OFFSET 0) x UNION ALL (SELECT (SELECT COUNT(*) FROM (SELECT 1", "SELECT 1 --\r; DELETE FROM sale",
    "SELECT COUNT(*) FROM sale\n\\! touch /tmp/strop-evil",
]  # fmt: skip
FUNCTIONS = [
    "wreck()", "sly()", "peek()", "public.wreck()", '"wreck"()', "WRECK ()", "wreck/**/()", "nextval('ticket')",
    "setval('ticket', 9)", "currval('ticket')", "pg_sleep(9)", "pg_catalog.pg_sleep(9)", '"pg_sleep"(9)',
    "pg_sleep /* */ (9)", "pg_sleep_for('9 s')", "(9::float8).pg_sleep", "set_config('role', 'owner', false)",
    "set_config('transaction_read_only', 'off', true)", "current_setting('hba_file')",
    "pg_read_file('/etc/passwd')", "pg_read_binary_file('/etc/passwd')", "pg_ls_dir('/')", "pg_ls_waldir()",
    "pg_stat_file('/etc/passwd')", "lo_import('/etc/passwd')", "lo_export(1, '/tmp/strop-evil')", "lo_create(7)",
    "lo_from_bytea(0, 'x')", "lo_unlink(1)", "pg_terminate_backend(pg_backend_pid())", "pg_cancel_backend(1)",
    "pg_reload_conf()", "pg_rotate_logfile()", "pg_switch_wal()", "pg_create_restore_point('x')",
    "pg_advisory_lock(1)", "pg_try_advisory_lock(1)", "pg_advisory_xact_lock(1)", "pg_notify('evil', 'x')",
    "pg_logical_emit_message(false, 'x', 'y')", "pg_export_snapshot()", "pg_promote()", "random()",
    "query_to_xml('DELETE FROM sale', true, true, '')", "table_to_xml('sale', true, true, '')",
    "database_to_xml(true, true, '')", "dblink('dbname=shop', 'DELETE FROM sale')", "txid_current()",
    "pg_current_xact_id()", "gen_random_uuid()", "pg_stat_reset()", "ts_stat('SELECT pg_sleep(9)')",
    "U&\"pg\\005fsleep\"(9)", "pg_get_viewdef('big'::regclass)", "pg_relation_size('sale')",
]  # fmt: skip
CATALOGS = [
    "SELECT rolpassword FROM pg_authid", "SELECT COUNT(*) FROM pg_stat_activity", "TABLE pg_settings",
    "SELECT statement FROM pg_cursors", "SELECT COUNT(*) FROM pg_catalog.pg_class", 'TABLE "pg_roles"',
    "SELECT COUNT(*) FROM information_schema.tables", "SELECT COUNT(*) FROM pg_temp.evil",
]  # fmt: skip
BOMBS = [
    "SELECT COUNT(*) FROM generate_series(1, 100000000000)", "SELECT * FROM generate_series(1, 100000000000)",
    "SELECT COUNT(*) FROM sale a, sale b, sale c, sale d, sale e, sale f, sale g, sale h, sale i, sale j,"
    " sale k, sale l, sale m, sale n, sale o, sale p",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM c) SELECT max(length(x)) FROM c",
    "SELECT repeat('x', 200000000)", "SELECT array_fill(0, ARRAY[20000000])", "SELECT lpad('', 200000000, 'x')",
    "SELECT string_agg(repeat('x', 100000), '') FROM generate_series(1, 2000)",
    "SELECT repeat('x', 1000000) FROM generate_series(1, 300)",
    "SELECT x, repeat('y', 900) AS y FROM generate_series(1, 10000000) x ORDER BY y, x DESC",
    "SELECT COUNT(DISTINCT md5(x::text)) FROM generate_series(1, 100000000) x",
    "SELECT 9.9 ^ 99999 ^ 9", "SELECT repeat('a', 50000) ~ '(((a+)+)+)+b'", "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT " + "+".join("1" * 30_000), "SELECT " + ", ".join("1" * 3_000), " UNION ALL ".join(["SELECT 1"] * 3_000),
    "SELECT jsonb_agg(x) FROM generate_series(1, 100000000) x", "SELECT '" + "[" * 90_000 + "'::json",
]  # fmt: skip


@pytest.fixture(scope="module")
def before(server: PostgresServer, shop: str, pool: WorkerPool) -> Iterator[list[Any]]:
    """The shop's checksums before an attack; after all attacks every byte is compared."""
    assert pool.judge(spec(shop, GOLD), "SELECT COUNT(id) FROM sale").status == "correct"
    dump = server.dump()
    yield server.fingerprint("shop")
    assert server.dump() == dump


def attack(
    server: PostgresServer, shop: str, pool: WorkerPool, query: str, before: list[Any]
) -> str:
    """The status of the attack, once it has changed nothing and the service goes on."""
    hostile, honest = pool.judge_many(
        [(spec(shop, GOLD), query), (spec(shop, GOLD), "SELECT COUNT(id) FROM sale")]
    )
    assert hostile.score == 0.0, hostile
    assert honest.status == "correct", honest
    assert server.idle()
    assert server.fingerprint("shop") == before
    assert not server.files("strop-evil")
    return hostile.status


@pytest.mark.parametrize(
    "query", [*WRITES, *SEVERAL, *CATALOGS, *(f"SELECT {call}" for call in FUNCTIONS)]
)
def test_no_attack_changes_anything(
    server: PostgresServer, shop: str, pool: WorkerPool, before: list[Any], query: str
):
    assert attack(server, shop, pool, query, before) in ("malformed", "wrong")


@pytest.mark.parametrize("query", BOMBS)
def test_no_bomb_lasts(
    server: PostgresServer, shop: str, pool: WorkerPool, before: list[Any], query: str
):
    assert attack(server, shop, pool, query, before) in ("malformed", "wrong", "timeout")


@pytest.mark.parametrize("query", [*WRITES, *SEVERAL, "SELECT wreck()", "SELECT nextval('ticket')"])
def test_the_link_alone_lets_nothing_be_written(
    server: PostgresServer, shop: str, before: list[Any], query: str
):
    """Without the lexer, the list of functions and the powerless role: the server's own walls."""
    link = PostgresLink(server.dsn("shop", "owner"), lambda _: None)
    try:
        with pytest.raises(QueryError):
            link.run(query, 1.0, 10)
    finally:
        link.close()
    assert server.fingerprint("shop") == before


def test_a_row_too_large_is_not_sent(server: PostgresServer, shop: str):
    link = PostgresLink(shop, lambda _: None)
    assert link.run("SELECT repeat('x', 1000000)", 5.0, 1).rows[0][0] == "x" * 1_000_000
    with pytest.raises(TooLargeError):
        link.run("SELECT repeat('x', 2000000)", 5.0, 1)
    with pytest.raises(TooLargeError):
        link.run("SELECT repeat('x', 1000000) FROM generate_series(1, 100)", 5.0, 100)
    assert not link.run("SELECT * FROM generate_series(1, 1000)", 5.0, 999).whole
    link.close()
