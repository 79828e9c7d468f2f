"""The SQL judge on DuckDB: its types, its doors, its clock."""

import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from verifiers.pool import WorkerPool
from verifiers.verdict import Verdict

duckdb: Any = import_module("duckdb")

SHOP = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, city VARCHAR, vip BOOLEAN);
CREATE TABLE sale (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer (id),
    day DATE NOT NULL, amount DECIMAL(10, 2) NOT NULL, note VARCHAR, tags VARCHAR[]);
CREATE VIEW big AS SELECT * FROM sale WHERE amount > 50;
INSERT INTO customer VALUES (1, 'Ada', 'Oslo', true), (2, 'Bo', 'Rome', false), (3, 'Cy', NULL, NULL);
INSERT INTO sale VALUES (1, 1, '2024-01-05', 10.5, NULL, ['a']), (2, 1, '2024-02-11', 99.9, 'gift', NULL),
    (3, 2, '2024-02-29', 50, NULL, ['a', 'b']), (4, 3, '2025-01-01', 70, 'late', []);
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duckdb") / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(SHOP)
    return path


@pytest.fixture(scope="module")
def pool(shop: Path) -> Iterator[WorkerPool]:
    with WorkerPool(1, databases=[shop.parent]) as pool:
        yield pool


def verdict(pool: WorkerPool, shop: Path, gold: str, query: str) -> Verdict:
    spec = {"kind": "sql", "engine": "duckdb", "database": str(shop), "query": gold}
    return pool.judge(spec, query)


@pytest.mark.parametrize(
    ("gold", "query", "status"),
    [
        ("SELECT name FROM customer WHERE vip", "SELECT name FROM customer WHERE vip = true", "correct"),
        ("SELECT id FROM sale WHERE amount > 50", "SELECT id FROM big", "correct"),
        ("SELECT COUNT(*) FROM sale", "SELECT COUNT(*) FROM sale JOIN customer c ON c.id = customer_id",
         "correct"),
        ("SELECT id, tags FROM sale", "FROM sale SELECT id, tags", "correct"),
        ("SELECT city, AVG(amount) FROM sale s JOIN customer c ON c.id = s.customer_id GROUP BY ALL",
         "SELECT city, SUM(amount) / COUNT(*) FROM sale, customer c WHERE c.id = customer_id GROUP BY city",
         "correct"),
        ("SELECT id FROM sale ORDER BY day DESC", "SELECT id FROM sale ORDER BY day DESC, id", "correct"),
        ("SELECT id FROM sale WHERE amount > 60", "SELECT id FROM sale WHERE amount > 61", "wrong"),
        ("SELECT id FROM sale WHERE day < '2024-02-12'", "SELECT id FROM sale WHERE id < 3", "wrong"),
        ("SELECT vip FROM customer", "SELECT vip::INTEGER FROM customer", "wrong"),
        ("SELECT COUNT(note) FROM sale", "SELECT COUNT(DISTINCT note) FROM sale", "wrong"),
        ("SELECT id FROM sale ORDER BY day", "SELECT id FROM sale ORDER BY day DESC", "wrong"),
        ("SELECT id FROM sale", "SELECT nothing FROM sale", "wrong"),
    ],
)  # fmt: skip
def test_queries_are_judged_by_what_they_mean(
    pool: WorkerPool, shop: Path, gold: str, query: str, status: str
):
    found = verdict(pool, shop, gold, query)
    assert found.status == status, found


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sale", "CREATE TABLE t (a INTEGER)", "ATTACH '/tmp/evil.duckdb'", "SET threads = 4",
        "COPY sale TO '/tmp/evil.csv'", "SELECT * FROM read_csv('/etc/passwd')", "SELECT 1; SELECT 2",
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM glob('/*')", "INSTALL httpfs",
        "SELECT * FROM '/etc/passwd'", "PRAGMA database_list", "EXPLAIN SELECT 1", "CALL pragma_version()",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/evil')", "USE memory",
        "RESET lock_configuration", "SELECT getenv('HOME')", "LOAD '/tmp/evil.so'", "DETACH base",
        "EXPORT DATABASE '/tmp/evil'", "selec", "WITH x AS (DELETE FROM sale RETURNING 1) FROM x",
        "SELECT '\ud800'", "SELECT * FROM query('DELETE FROM sale')", "SELECT * FROM force_checkpoint()",
        "SET memory_limit = '10GB'", "SELECT * FROM read_blob('/etc/passwd')", "FORCE CHECKPOINT",
        "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM 'https://x.example/y.csv'",
    ],
)  # fmt: skip
def test_no_door_is_open_and_the_file_stays(pool: WorkerPool, shop: Path, query: str):
    before = hashlib.sha256(shop.read_bytes()).digest()
    found = verdict(pool, shop, "SELECT 7 FROM sale", query)
    assert (found.status, found.score) in (("wrong", 0.0), ("malformed", 0.0)), found
    assert hashlib.sha256(shop.read_bytes()).digest() == before
    assert not list(Path("/tmp").glob("evil*"))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM range(100000000) a, range(100000000) b WHERE a.range % 7 = b.range % 3",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
        "SELECT list(range) FROM range(1000000000)", "SELECT repeat('x', 2000000000)",
        "SELECT lpad('x', 1000000000, 'y')", "SELECT 1 " + "UNION ALL SELECT 1 " * 5_000,
        "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))",
        "SELECT range FROM range(100000000) ORDER BY hash(range)",
    ],
)  # fmt: skip
def test_hostile_queries_are_bounded_and_the_pool_goes_on(pool: WorkerPool, shop: Path, query: str):
    hostile = verdict(pool, shop, "SELECT COUNT(*) FROM sale", query)
    assert hostile.status in ("timeout", "wrong", "malformed")
    assert hostile.cpu_ms < 1_500
    honest = verdict(pool, shop, "SELECT COUNT(*) FROM sale", "SELECT COUNT(id) FROM sale")
    assert honest.status == "correct"


def test_an_unreadable_file_is_our_fault(pool: WorkerPool, shop: Path):
    junk = shop.parent / "junk.duckdb"
    junk.write_bytes(b"no database" * 5_000)
    assert verdict(pool, junk, "SELECT 1", "SELECT 2").status == "infra_error"
