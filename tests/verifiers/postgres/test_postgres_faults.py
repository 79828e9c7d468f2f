"""The SQL judge on PostgreSQL: who is refused, and whose fault a failure is."""

import threading

import psycopg
import pytest

from tests.verifiers.postgres.judging import spec, verdict
from tests.verifiers.postgres.server import PostgresServer
from verifiers import postgres_engine, sql_exams
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, parse_spec


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("owner", "", "superuser"),
        ("owning", "CREATE ROLE owning LOGIN; ALTER TABLE own_me OWNER TO owning", "owns own_me"),
        ("writing", "CREATE ROLE writing LOGIN; GRANT UPDATE (id) ON own_me TO writing", "may write to"),
        ("deleting", "CREATE ROLE deleting LOGIN; GRANT DELETE ON own_me TO deleting", "may write to"),
        ("counting", "CREATE ROLE counting LOGIN; GRANT USAGE ON SEQUENCE steps TO counting", "may write to"),
        ("making", "CREATE ROLE making LOGIN; GRANT CREATE ON SCHEMA public TO making", "make tables"),
        ("founding", "CREATE ROLE founding LOGIN CREATEDB", "make databases"),
        ("reading", "CREATE ROLE reading LOGIN; GRANT pg_read_server_files TO reading", "pg_read_server"),
        ("heir", "CREATE ROLE boss; GRANT boss TO owner; ALTER TABLE own_too OWNER TO boss;"
         " CREATE ROLE heir LOGIN NOINHERIT; GRANT boss TO heir", "owns own_too"),
    ],
)  # fmt: skip
def test_a_role_that_could_write_is_refused(
    server: PostgresServer, shop: str, name: str, make: str, reason: str
):
    if not server.execute("postgres", "SELECT 1 FROM pg_database WHERE datname = 'roles'"):
        server.create(
            "roles",
            "CREATE TABLE own_me (id int); CREATE TABLE own_too (id int); CREATE SEQUENCE steps",
        )
    if make:
        server.execute("roles", make)
    answer = verdict(server.dsn("roles", name), "SELECT 1", "SELECT 2")
    assert (answer.status, answer.score) == ("infra_error", None)
    assert reason in str(answer.evidence["reason"])
    assert "GRANT SELECT" in str(answer.evidence["reason"])


def test_a_role_may_step_down_to_one_that_only_reads(server: PostgresServer, shop: str):
    server.execute(
        "shop", "CREATE ROLE clerk LOGIN; GRANT reader TO clerk; GRANT INSERT ON sale TO clerk"
    )
    gold, query = "SELECT COUNT(*) FROM sale", "SELECT COUNT(id) FROM sale"
    assert verdict(server.dsn("shop", "clerk"), gold, query).status == "infra_error"
    stepped = server.dsn("shop", "clerk", options="-c role=reader")
    assert verdict(stepped, gold, query).status == "correct"


def test_a_connection_string_may_stand_in_the_environment_of_the_pool(
    server: PostgresServer, shop: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STROP_SQL_SHOP", server.dsn("shop", password="hunter2"))
    gold, query = "SELECT COUNT(*) FROM sale", "SELECT COUNT(id) FROM sale"
    with WorkerPool(1) as pool:
        assert pool.judge(spec("$STROP_SQL_SHOP", gold), query).status == "correct"
        answer = pool.judge(spec("$STROP_SQL_ABSENT", gold), query)
    assert (answer.status, answer.score) == ("infra_error", None)
    assert "STROP_SQL_ABSENT" in str(answer.evidence["reason"])


DSNS_WITH_PASSWORDS = [
    "postgresql://u:hunter2@127.0.0.1:1/shop", "host=127.0.0.1 port=1 password=hunter2",
    "postgresql://u:hunter2@127.0.0.1/shop?nonsense=1", "password=hunter2 host='",
]  # fmt: skip


@pytest.mark.parametrize("database", DSNS_WITH_PASSWORDS)
def test_an_unreachable_server_is_our_fault_and_no_password_is_told(
    database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STROP_SQL_SHOP", database)
    answer = verdict("$STROP_SQL_SHOP", "SELECT 1", "SELECT 2")
    assert (answer.status, answer.score) == ("infra_error", None)
    assert "hunter2" not in str(answer.evidence)


@pytest.mark.parametrize(
    "database",
    [
        *DSNS_WITH_PASSWORDS, "postgresql://db/shop?password=hunter2",
        "dbname=x PASSWORD = 'hunter2'", "host=db sslpassword=hunter2",
    ],
)  # fmt: skip
def test_a_task_holds_no_password_for_tasks_are_shown(database: str):
    with pytest.raises(SpecError, match="holds a password") as caught:
        parse_spec(spec(database, "SELECT 1"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("host=169.254.169.254 dbname=x", "'169.254.169.254'"),
        ("postgresql://u@db.evil.test/x", "'db.evil.test'"),
        ("host=db.internal,db.evil.test dbname=x", "'db.evil.test'"),
        ("host=/var/run/postgresql dbname=x", "'/var/run/postgresql'"),
        ("dbname=x", "this machine's socket"),
        ("host=db.internal hostaddr=127.0.0.1 dbname=x", "may not set hostaddr"),
        ("host=db.internal sslkey=/etc/passwd dbname=x", "may not set sslkey"),
        ("postgresql://db.internal/x?passfile=/etc/shadow", "may not set passfile"),
        ("host=db.internal service=other", "may not set service"),
        ("$STROP_SQL_ALLOW", "no STROP_SQL_ALLOW that names a database"),
    ],
)
def test_a_task_leads_only_to_servers_that_the_operator_allows(
    database: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STROP_SQL_ALLOW", "db.internal, 10.0.0.7")
    answer = verdict(database, "SELECT 1", "SELECT 2")
    assert (answer.status, answer.score) == ("infra_error", None)
    assert said in str(answer.evidence["reason"])


@pytest.mark.parametrize(
    "database", ["shop.sqlite", "$HOME", "$STROP_GRADER_SECRET_A", "mysql://x/y"]
)
def test_what_is_no_connection_string_is_no_task(database: str):
    with pytest.raises(SpecError, match="database"):
        parse_spec(spec(database, "SELECT 1"))


def test_a_gold_that_does_not_run_is_our_fault(shop: str):
    for gold in ("SELECT broken FROM sale", "DELETE FROM sale", "SELECT wreck()"):
        answer = verdict(shop, gold, "SELECT 1")
        assert (answer.status, answer.score) == ("infra_error", None)


def test_rows_that_change_change_what_is_right(server: PostgresServer):
    live = server.create("live", "CREATE TABLE t (id int NOT NULL); INSERT INTO t VALUES (1), (2)")
    gold = "SELECT COUNT(*) FROM t"
    assert verdict(live, gold, "SELECT COUNT(id) FROM t").status == "correct"
    server.execute("live", "INSERT INTO t VALUES (3)")
    assert verdict(live, gold, "SELECT COUNT(id) FROM t WHERE true").status == "correct"
    assert verdict(live, gold, "SELECT 2").status == "wrong"


def test_tables_that_change_are_read_anew(server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres_engine, "FRESH_S", 0.0)
    moving = server.create(
        "moving", "CREATE TABLE t (id int NOT NULL); INSERT INTO t VALUES (1), (2)"
    )
    assert verdict(moving, "SELECT id FROM t", "SELECT t.id FROM t").status == "correct"
    server.execute("moving", "ALTER TABLE t ADD COLUMN born date DEFAULT '2024-01-01'")
    answer = verdict(moving, "SELECT born FROM t", "SELECT t.born FROM t")
    assert answer.status == "correct", answer
    assert answer.evidence["databases"] > sql_exams.MIN_COPIES


def test_a_connection_that_was_closed_is_opened_again(server: PostgresServer, shop: str):
    gold, query = "SELECT COUNT(*) FROM sale", "SELECT COUNT(id) FROM sale"
    assert verdict(shop, gold, query).status == "correct"
    ended = server.execute(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'",
    )
    assert ended
    assert verdict(shop, gold, query).status == "correct"


def test_a_table_that_another_session_locks_is_our_fault(server: PostgresServer, shop: str):
    gold = "SELECT COUNT(*) FROM archive.sale"
    assert verdict(shop, gold, "SELECT COUNT(id) FROM archive.sale").status == "correct"
    with psycopg.connect(server.dsn("shop", "owner")) as other:
        other.execute("LOCK TABLE archive.sale IN ACCESS EXCLUSIVE MODE")
        answer = verdict(shop, gold, "SELECT COUNT(id) FROM archive.sale")
        assert (answer.status, answer.score) == ("infra_error", None)
        other.rollback()
    assert verdict(shop, gold, "SELECT COUNT(id) FROM archive.sale").status == "correct"


def test_a_server_that_dies_under_a_query_is_our_fault_and_its_return_is_noticed(
    server: PostgresServer, shop: str, pool: WorkerPool
):
    gold = "SELECT COUNT(*) FROM sale"
    assert pool.judge(spec(shop, gold), "SELECT COUNT(id) FROM sale").status == "correct"
    slow = "SELECT COUNT(*) FROM generate_series(1, 1000000000)"
    asked = threading.Event()

    def kill() -> None:
        running = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND usename = 'reader'"
        while not server.execute("postgres", running):
            pass
        server.kill()
        asked.set()

    killer = threading.Thread(target=kill)
    killer.start()
    answer = pool.judge(spec(shop, gold), slow)
    killer.join(timeout=60)
    try:
        assert asked.is_set()
        assert (answer.status, answer.score) == ("infra_error", None), answer
        absent = pool.judge(spec(shop, gold), "SELECT COUNT(id) FROM sale")
        assert (absent.status, absent.score) == ("infra_error", None)
    finally:
        server.start()
    assert pool.judge(spec(shop, gold), "SELECT COUNT(id) FROM sale").status == "correct"
