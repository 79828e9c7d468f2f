"""The SQL judge on SQLite: what is the same, what is refused, what nothing can change."""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers import gold_query, resultset, sql, sql_exams
from verifiers.judge import judge
from verifiers.pool import WorkerPool
from verifiers.resultset import Truth
from verifiers.spec import parse_spec
from verifiers.sql_session import Budget
from verifiers.verdict import Verdict

SHOP = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT, vip INTEGER);
CREATE TABLE sale (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer (id),
    day TEXT NOT NULL, amount REAL NOT NULL, note TEXT
);
CREATE TABLE tag (sale_id INTEGER NOT NULL REFERENCES sale (id), word TEXT NOT NULL,
    PRIMARY KEY (sale_id, word));
CREATE VIEW big AS SELECT * FROM sale WHERE amount > 50;
INSERT INTO customer VALUES (1, 'Ada', 'Oslo', 1), (2, 'Bo', 'Rome', 0), (3, 'Cy', NULL, 0),
    (4, 'Di', 'Oslo', NULL);
INSERT INTO sale VALUES (1, 1, '2024-01-05', 10.5, NULL), (2, 1, '2024-02-11', 99.9, 'gift'),
    (3, 2, '2024-02-29', 50, NULL), (4, 3, '2025-01-01', 70, 'late'), (5, 1, '2025-03-01', 10.5, 'x');
INSERT INTO tag VALUES (1, 'a'), (1, 'b'), (2, 'a'), (4, 'c');
"""
AMOUNTS = "SELECT name, SUM(amount) FROM customer JOIN sale ON customer_id = customer.id GROUP BY 1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("databases") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(SHOP)
    connection.close()
    return path


@pytest.fixture(scope="module")
def pool(shop: Path) -> Iterator[WorkerPool]:
    with WorkerPool(1, databases=[shop.parent]) as pool:
        yield pool


def verdict(shop: Path, gold: str, completion: str, **options: Any) -> Verdict:
    spec = {"kind": "sql", "engine": "sqlite", "database": str(shop), "query": gold, **options}
    return judge(parse_spec(spec), completion)


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        ("SELECT name FROM customer WHERE vip >= 1", "SELECT name FROM customer WHERE NOT vip < 1"),
        ("SELECT name FROM customer", "select c.name as n from customer as c order by 1 desc;"),
        (AMOUNTS, "SELECT c.name, TOTAL(amount) FROM sale s, customer c WHERE c.id = s.customer_id"
         " GROUP BY c.name"),
        ("SELECT name FROM customer WHERE id IN (SELECT customer_id FROM sale)",
         "SELECT name FROM customer c WHERE EXISTS (SELECT 1 FROM sale WHERE customer_id = c.id)"),
        ("SELECT COUNT(*) FROM sale", "SELECT COUNT(s.id) FROM sale s JOIN customer c"
         " ON c.id = s.customer_id"),
        ("SELECT * FROM big", "SELECT * FROM sale WHERE amount > 50"),
        ("SELECT name FROM customer ORDER BY name", "SELECT name FROM customer ORDER BY 1"),
        ("SELECT id FROM sale ORDER BY amount", "SELECT id FROM sale ORDER BY amount, day DESC"),
        ("SELECT id FROM sale ORDER BY amount DESC LIMIT 2",
         "SELECT id FROM (SELECT * FROM sale ORDER BY day) ORDER BY amount DESC LIMIT 2"),
        ("SELECT AVG(amount) FROM sale", "SELECT SUM(amount) / COUNT(amount) FROM sale"),
        ("SELECT DISTINCT city FROM customer", "SELECT city FROM customer GROUP BY city"),
        ("SELECT name FROM customer WHERE city IS NULL OR city <> 'Oslo'",
         "SELECT name FROM customer WHERE COALESCE(city, '') != 'Oslo'"),
        ("SELECT id FROM sale WHERE day LIKE '2024-%'",
         "SELECT id FROM sale WHERE substr(day, 1, 5) = '2024-'"),
        ("SELECT id FROM sale WHERE amount > 1000", "SELECT id FROM sale WHERE NOT amount <= 1000"),
    ],
)  # fmt: skip
def test_queries_that_mean_the_same_are_correct(shop: Path, gold: str, query: str):
    answer = verdict(shop, gold, f"```sql\n{query}\n```")
    assert answer.status == "correct", answer
    assert answer.evidence["databases"] > sql_exams.MIN_COPIES


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        # The same rows on the shop as it is: only made-up copies tell.
        ("SELECT name FROM customer WHERE vip >= 1", "SELECT name FROM customer WHERE vip = 1"),
        ("SELECT id FROM sale WHERE amount > 50", "SELECT id FROM sale WHERE amount >= 51"),
        ("SELECT id FROM sale WHERE amount > 60", "SELECT id FROM sale WHERE amount > 61"),
        ("SELECT COUNT(note) FROM sale", "SELECT COUNT(DISTINCT note) FROM sale"),
        ("SELECT name FROM customer WHERE id = 1", "SELECT name FROM customer WHERE name = 'Ada'"),
        ("SELECT id FROM sale WHERE day < '2024-02-12'", "SELECT id FROM sale WHERE id < 3"),
        ("SELECT id FROM sale WHERE amount > 1000", "SELECT id FROM sale WHERE amount > 2000"),
        ("SELECT id FROM sale WHERE note = 'nowhere'", "SELECT id FROM sale WHERE 0"),
        ("SELECT c.name FROM customer c JOIN sale s ON s.customer_id = c.id WHERE s.note = 'gift'",
         "SELECT DISTINCT c.name FROM customer c JOIN sale s ON s.customer_id = c.id"
         " WHERE s.note = 'gift'"),
        ("SELECT city FROM customer GROUP BY city HAVING COUNT(*) > 1", "SELECT 'Oslo'"),
        ("SELECT id FROM sale ORDER BY day LIMIT 3", "SELECT id FROM sale ORDER BY id LIMIT 3"),
        ("SELECT name FROM customer WHERE city LIKE 'Os%'",
         "SELECT name FROM customer WHERE city = 'Oslo'"),
        # Types, order, NULL.
        ("SELECT id FROM sale", "SELECT CAST(id AS TEXT) FROM sale"),
        ("SELECT city FROM customer", "SELECT COALESCE(city, '') FROM customer"),
        ("SELECT name FROM customer ORDER BY name", "SELECT name FROM customer ORDER BY name DESC"),
        ("SELECT name, city FROM customer", "SELECT city, name FROM customer"),
        ("SELECT name FROM customer", "SELECT name, name FROM customer"),
        ("SELECT city FROM customer", "SELECT DISTINCT city FROM customer"),
        ("SELECT name FROM customer", "SELECT no_such_column FROM customer"),
    ],
)  # fmt: skip
def test_queries_that_mean_something_else_are_wrong(shop: Path, gold: str, query: str):
    answer = verdict(shop, gold, query)
    assert (answer.status, answer.score) == ("wrong", 0.0)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sale", "UPDATE sale SET amount = 0", "DROP TABLE tag", "VACUUM",
        "INSERT INTO tag VALUES (5, 'z')", "ATTACH '/tmp/evil.sqlite' AS evil", "BEGIN",
        "PRAGMA writable_schema = 1", "PRAGMA table_info(sale)", "SELECT load_extension('/x.so')",
        "SELECT * FROM pragma_database_list", "SELECT 1; DELETE FROM sale", "CREATE TABLE t (a)",
        "SELECT randomblob(9)", "SELECT writefile('/tmp/x', 'x')", "SELECT readfile('/etc/passwd')",
        "WITH x AS (SELECT 1) DELETE FROM sale", "EXPLAIN SELECT 1", "SELECT zeroblob(1000000000)",
        "REINDEX", "ANALYZE", "CREATE TEMP TABLE t (a)", "SELECT fts3_tokenizer('x')", "-- nothing",
        "SELECT ?", "SELECT :a", "", "no SQL at all",
        "SELECT replace(hex(group_concat(name)), 'a', group_concat(name)) FROM customer",
        "SELECT " + "(" * 500 + "1" + ")" * 500, "SELECT " + "+".join("1" * 20_000),
        "SELECT " + ", ".join("1" * 2_000), " UNION ALL ".join(["SELECT 1"] * 400),
    ],
)  # fmt: skip
def test_what_is_no_harmless_select_is_refused_and_the_file_stays(shop: Path, query: str):
    before = hashlib.sha256(shop.read_bytes()).digest()
    answer = verdict(shop, "SELECT 7 FROM tag", query)
    assert (answer.status, answer.score) in (("wrong", 0.0), ("malformed", 0.0))
    assert hashlib.sha256(shop.read_bytes()).digest() == before
    assert [path.name for path in shop.parent.iterdir()] == [shop.name]


HOSTILE = [
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM c) SELECT x FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT group_concat(x) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 9999999)"
    " SELECT x, printf('%1000d', x) AS y FROM c ORDER BY y",
    "SELECT printf('%.*c', 1000000, 'x') LIKE printf('%.*c', 200, '%')",
    "SELECT COUNT(*) FROM sale a, sale b, sale c, sale d, sale e, sale f, sale g, sale h, sale i,"
    " sale j, sale k, sale l, sale m",
]


@pytest.mark.parametrize("query", HOSTILE)
def test_hostile_queries_are_bounded_and_the_pool_goes_on(shop: Path, pool: WorkerPool, query: str):
    spec = {"kind": "sql", "database": str(shop), "query": "SELECT COUNT(*) FROM sale"}
    hostile, honest = pool.judge_many([(spec, query), (spec, "SELECT COUNT(1) FROM sale")])
    assert hostile.status in ("timeout", "wrong", "malformed")
    assert hostile.score == 0.0
    assert hostile.cpu_ms < 1_500
    assert honest.status == "correct"


def test_a_killed_query_is_bounded_by_the_workers_cpu_time(shop: Path, pool: WorkerPool):
    slow = "SELECT instr(printf('%.*c', 999999, 'a'), printf('%.*c', 500000, 'a') || 'b')"
    spec = {"kind": "sql", "database": str(shop), "query": "SELECT COUNT(*) FROM sale"}
    killed = pool.judge(spec, slow)
    assert (killed.status, killed.score) == ("timeout", 0.0)
    assert dict(killed.evidence) == {"limit": "cpu", "seconds": 1.2}
    assert killed.cpu_ms < 1_500
    assert pool.judge(spec, "SELECT COUNT(*) FROM sale").status == "correct"


def test_columns_may_stand_in_any_order_when_the_task_says_so(shop: Path):
    gold, query = "SELECT name, city, id FROM customer", "SELECT id, name, city FROM customer"
    assert verdict(shop, gold, query).status == "wrong"
    assert verdict(shop, gold, query, column_order=False).status == "correct"
    other = "SELECT id, name, name FROM customer"
    assert verdict(shop, gold, other, column_order=False).status == "wrong"


def test_soft_f1_scores_a_part_and_never_calls_it_correct(shop: Path):
    gold = "SELECT name, city FROM customer"
    half = verdict(shop, gold, "SELECT name, 'x' FROM customer", soft_f1=True)
    none = verdict(shop, gold, "SELECT 'x', 'y'", soft_f1=True)
    assert half.status == none.status == "wrong"
    assert half.score == pytest.approx(0.5)
    assert none.score == 0.0
    assert verdict(shop, gold, gold + " WHERE 1", soft_f1=True).score == 1.0


def test_evidence_names_the_first_difference_and_the_database(shop: Path):
    answer = verdict(shop, "SELECT id FROM sale", "SELECT id + 1 FROM sale")
    assert answer.evidence["database"] == "the task's"
    assert answer.evidence["wanted"] == "(1,)"
    answer = verdict(shop, "SELECT id FROM sale WHERE amount > 60",
                     "SELECT id FROM sale WHERE amount > 61")  # fmt: skip
    assert str(answer.evidence["database"]).startswith("made-up copy")


def test_an_unreadable_database_and_a_broken_gold_are_our_fault(shop: Path, tmp_path: Path):
    junk = tmp_path / "junk.sqlite"
    junk.write_bytes(b"no database" * 500)
    for path, gold in (
        (tmp_path / "absent.sqlite", "SELECT 1"),
        (junk, "SELECT 1"),
        (shop, "SELECT broken FROM sale"),
        (shop, "DELETE FROM sale"),
    ):
        answer = verdict(path, gold, "SELECT 1")
        assert (answer.status, answer.score) == ("infra_error", None)


def test_a_changed_database_is_read_anew(shop: Path, tmp_path: Path):
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(shop.read_bytes())
    gold = "SELECT COUNT(*) FROM sale"
    assert verdict(copy, gold, "SELECT COUNT(id) FROM sale").status == "correct"
    with sqlite3.connect(copy) as connection:
        connection.execute("DROP TABLE sale")
        connection.execute("CREATE TABLE sale (id INTEGER)")
    connection.close()
    assert verdict(copy, gold, "SELECT COUNT(id) FROM sale").status == "wrong"  # NULLs now


def test_a_relative_path_starts_from_the_pools_first_folder(shop: Path, pool: WorkerPool):
    spec = {"kind": "sql", "database": shop.name, "query": "SELECT COUNT(*) FROM sale"}
    assert pool.judge(spec, "SELECT COUNT(1) FROM sale").status == "correct"


def test_copies_are_made_once_and_keep_every_key(shop: Path):
    spec = parse_spec({"kind": "sql", "database": str(shop), "query": AMOUNTS})
    assert isinstance(spec, sql.SqlSpec)
    exams = sql.prepare(spec)
    assert sql.prepare(spec) is exams
    assert len(exams.items) > sql_exams.MIN_COPIES
    orphans = "SELECT COUNT(*) FROM sale WHERE customer_id NOT IN (SELECT id FROM customer)"
    for exam in exams.items:
        budget = Budget(5.0)
        assert exam.session.run(orphans, budget).rows == [(0,)]
        assert exam.session.run("SELECT 1 FROM sale WHERE amount IS NULL", budget).rows == []


def test_a_watcher_counts_what_the_query_worked_and_not_what_it_waited():
    watched = Budget(0.3).for_watchers()
    asked: list[float] = []

    def ask():
        asked.append(watched.left)

    def ask_from_elsewhere() -> float:
        other = threading.Thread(target=ask)
        other.start()
        other.join()
        return asked[-1]

    time.sleep(0.4)
    assert ask_from_elsewhere() > 0.2, "a busy machine costs no query its time"
    worked = time.thread_time()
    while time.thread_time() - worked < 0.3:
        pass
    assert ask_from_elsewhere() <= 0


def test_a_gold_that_leaves_its_result_open_rejects_no_right_query(shop: Path):
    gold = "SELECT id FROM sale ORDER BY customer_id LIMIT 2"
    for query in (f"{gold} OFFSET 0", "SELECT id FROM sale ORDER BY customer_id, day DESC LIMIT 2"):
        assert verdict(shop, gold, query).status == "correct"
    assert verdict(shop, gold, "SELECT id FROM sale ORDER BY day DESC LIMIT 2").status == "wrong"


def test_a_slow_query_of_the_past_costs_the_next_one_nothing(shop: Path):
    gold = "SELECT COUNT(*) FROM sale"
    assert verdict(shop, gold, HOSTILE[0]).status == "timeout"
    started = time.thread_time()
    assert verdict(shop, gold, "SELECT COUNT(1) FROM sale").status == "correct"
    assert time.thread_time() - started < 0.5


VALUES = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["", "a", "1"]),
                   st.floats(-2, 2, width=16))  # fmt: skip
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=8)


@given(ROWS, st.randoms())
def test_a_bag_is_itself_in_any_order_and_nothing_else(rows: list[tuple[Any, ...]], random: Any):
    shuffled = random.sample(rows, len(rows))
    truth = Truth(rows, 2)
    assert resultset.agrees(truth, shuffled)
    assert not resultset.agrees(truth, [*shuffled, (None, None)])
    assert resultset.soft_f1(truth, shuffled) == 1.0
    changed = [*shuffled[:-1], ("other", "other")]
    assert not rows or not resultset.agrees(truth, changed)
    mirrored = [row[::-1] for row in shuffled]
    orders = resultset.column_orders(truth, mirrored)
    assert any(resultset.agrees(truth, resultset.reorder(mirrored, order)) for order in orders)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12), st.randoms(),
       st.integers(0, 5), st.integers(0, 12))  # fmt: skip
def test_rows_that_tie_may_come_in_any_order_and_no_others(
    rows: list[tuple[int, int]], random: Any, start: int, size: int
):
    ordered = sorted(rows, key=lambda row: row[0])
    truth = Truth(ordered, 2, [(row[0],) for row in ordered], start, start + size)
    other = sorted(random.sample(rows, len(rows)), key=lambda row: row[0])[start : start + size]
    assert resultset.agrees(truth, other)
    keys = [row[0] for row in other]
    if len(set(keys)) > 1:
        assert not resultset.agrees(truth, other[::-1])


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True), ("SELECT a FROM t", False),
        ("SELECT * FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT a FROM t UNION SELECT b FROM t ORDER BY 1", True),
        ("SELECT sum(a) OVER (ORDER BY b) FROM t", False),
        ("SELECT 'order by' FROM t", False), ("((( not sql ORDER BY", True),
    ],
)  # fmt: skip
def test_a_gold_orders_only_at_its_top(query: str, ordered: bool):
    assert gold_query.read(query, "sqlite", {"t": ["a", "b"]}).ordered is ordered


def test_an_answer_may_take_as_long_as_a_slow_gold(shop: Path):
    def steps(number: int) -> str:
        return (
            f"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {number})"
            " SELECT SUM(x) FROM c"
        )

    slow = parse_spec({"kind": "sql", "database": str(shop), "query": steps(1_500_000)})
    assert isinstance(slow, sql.SqlSpec)
    assert sql_exams.QUERY_S <= sql.prepare(slow).allowed_s <= sql_exams.PATIENCE * sql_exams.GOLD_S
    assert judge(slow, steps(1_500_000).replace("x + 1", "1 + x")).status == "correct"
