"""Made-up copies of a PostgreSQL database: they are what real tables would be, and they tell."""

import random
import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.verifiers.postgres.conftest import SHOP
from tests.verifiers.postgres.judging import verdict
from tests.verifiers.postgres.server import PostgresServer
from verifiers import fuzz, gold_query, sql_exams
from verifiers.postgres_engine import PostgresCopy, PostgresEngine
from verifiers.resultset import Truth, agrees
from verifiers.sql_session import Budget, QueryError

GOLDS = [
    "SELECT name FROM customer WHERE name LIKE 'A%' ORDER BY name",
    "SELECT COUNT(*) FROM sale WHERE amount > 50 AND note IS NOT NULL",
    "SELECT c.name, COUNT(*) AS n FROM customer c JOIN sale s ON s.customer_id = c.id"
    " GROUP BY c.id HAVING COUNT(*) > 1 ORDER BY n DESC, c.id LIMIT 3",
    "SELECT city, SUM(amount) FROM customer JOIN sale ON customer_id = customer.id"
    " GROUP BY city ORDER BY SUM(amount) DESC, city",
    "SELECT DISTINCT city FROM customer WHERE vip AND city IN ('Oslo', 'Rome')",
    "SELECT c.name, s.note FROM customer c LEFT JOIN sale s ON s.customer_id = c.id AND s.amount > 20",
    "SELECT EXTRACT(year FROM day) AS y, COUNT(*) FROM sale WHERE day >= '2024-01-01'"
    " AND day < '2025-01-01' GROUP BY y ORDER BY y",
    "SELECT c.name FROM customer c LEFT JOIN sale s ON s.customer_id = c.id WHERE s.id IS NULL",
    "SELECT COUNT(DISTINCT customer_id) FROM sale WHERE amount BETWEEN 10 AND 70",
    "SELECT name FROM customer WHERE id NOT IN (SELECT customer_id FROM sale)",
    "SELECT id FROM sale WHERE amount > (SELECT AVG(amount) FROM sale)",
    "SELECT mood, COUNT(*) FILTER (WHERE vip) FROM customer WHERE mood <> 'sad' GROUP BY mood",
    "SELECT id, RANK() OVER (PARTITION BY customer_id ORDER BY amount DESC) FROM sale",
    "SELECT id FROM sale WHERE 'a' = ANY (tags) OR extra ->> 'k' = '2'",
    "SELECT name FROM customer WHERE city = 'Oslo' UNION SELECT note FROM sale WHERE amount >= 70",
    "SELECT DISTINCT ON (customer_id) customer_id, day, amount FROM sale"
    " ORDER BY customer_id, day DESC, id",
    "SELECT a.id FROM archive.sale a JOIN public.sale p ON p.id = a.id WHERE a.amount < p.amount",
    "SELECT CASE WHEN amount > 60 THEN 'much' ELSE 'little' END AS size, MIN(day) FROM sale GROUP BY 1",
]
QUERIES = [
    *GOLDS,
    "TABLE sale", "SELECT * FROM customer", "SELECT * FROM spent", "SELECT * FROM big", "TABLE cities",
    "SELECT * FROM event_2024", "SELECT * FROM event_rest", "SELECT COUNT(*) FROM event",
    'SELECT "order" || \'!\' FROM "Odd Name" WHERE "Key" > 1', "SELECT s FROM archive.sale s",
    "SELECT to_jsonb(c) ->> 'name' FROM customer c", "SELECT COUNT(c) FROM customer c",
    "SELECT c.* FROM customer c JOIN sale s ON s.customer_id = c.id GROUP BY c.id",
    "SELECT c.city, (SELECT MAX(s.amount) FROM sale s WHERE s.customer_id = c.id) FROM customer c GROUP BY c.id",
    "SELECT c.name, GROUPING(c.id) FROM customer c GROUP BY GROUPING SETS ((c.id, c.name), (c.id, c.name))",
    "SELECT name FROM customer NATURAL JOIN (SELECT id FROM sale) x", "SELECT id, tags[1], code FROM"
    " sale LEFT JOIN customer USING (id)", "SELECT amount::text, gross::text, ratio::text, at::text FROM sale",
    "SELECT (c).name FROM customer c", "SELECT pg_typeof(amount)::text FROM sale LIMIT 1",
]  # fmt: skip
SEEDS = range(9)


@pytest.fixture(scope="module")
def engine(shop: str) -> PostgresEngine:
    return PostgresEngine(shop)


@pytest.fixture(scope="module")
def doubles(
    server: PostgresServer, engine: PostgresEngine
) -> list[tuple[PostgresCopy, PostgresEngine]]:
    """Made-up copies, each with a real database that has the same rows."""
    found: list[tuple[PostgresCopy, PostgresEngine]] = []
    for seed in SEEDS:
        source = random.Random(f"not the judge's: {seed}")
        gold = GOLDS[seed % len(GOLDS)]
        schema = {t.name.lower(): [c.name.lower() for c in t.columns] for t in engine.tables}
        shape = fuzz.Shape(6 + 7 * seed, (0.2, 0.5, 0.8)[seed % 3], (0.0, 0.2)[seed % 2], 3 + seed)
        read = gold_query.read(gold, "postgres", schema)
        copy = engine.copy(fuzz.generate(engine.tables, engine.samples(), read, shape, source))
        dsn = server.create(f"double_{seed}", SHOP, ("public", "archive"))
        with psycopg.connect(server.dsn(f"double_{seed}", "owner")) as connection:
            connection.execute("SET session_replication_role = replica")
            for table in engine.tables:
                name = table.name if "." in table.name else f'"{table.name}"'
                connection.execute(f"DELETE FROM {name}".encode())
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                texts = ", ".join(f'"{column.name}"::text' for column in table.columns)
                rows = copy.run(f"SELECT {texts} FROM {name}", Budget(5.0)).rows
                for row in rows:
                    values = ", ".join(
                        "NULL" if value is None else "'" + value.replace("'", "''") + "'"
                        for value in row
                    )
                    connection.execute(f"INSERT INTO {name} ({columns}) VALUES ({values})".encode())
            connection.execute("REFRESH MATERIALIZED VIEW cities")
        found.append((copy, PostgresEngine(dsn)))
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_a_copy_gives_what_real_tables_with_its_rows_give(
    doubles: list[tuple[PostgresCopy, PostgresEngine]], query: str
):
    told = 0
    for copy, real in doubles:
        made = copy.run(query, Budget(5.0))
        wanted = real.base.run(query, Budget(5.0))
        assert made.width == wanted.width
        assert agrees(Truth(wanted.rows, wanted.width), made.rows)
        told += len(made.rows)
    assert told


CHANGES = [
    (r">(?!=)", ">="), (r">(?!=)", "<"), (r"(?<![<>])=", "<>"), (r"(?<![<>])=", ">="), (r">=", ">"), (r"<(?![>=])", "<="),
    (r"<>", "="), (r"\bAND\b", "OR"), (r"\bOR\b", "AND"), (r"\bSUM\b", "AVG"), (r"\bSUM\b", "MAX"), (r"\bAVG\b", "MIN"),
    (r"\bMIN\b", "MAX"), (r"\bMAX\b", "MIN"), (r"LEFT JOIN", "JOIN"), (r"(?<!LEFT )\bJOIN", "LEFT JOIN"), (r" DESC", ""),
    (r"DISTINCT (?!ON)", ""), (r"SELECT (?!DISTINCT)", "SELECT DISTINCT "), (r"IS NOT NULL", "IS NULL"),
    (r"IS NULL", "IS NOT NULL"), (r"NOT IN", "IN"), (r"(?<!NOT )IN \(", "NOT IN ("), (r"LIKE", "NOT LIKE"),
    (r"'Oslo'", "'Rome'"), (r"'A%'", "'%A'"), (r"'A%'", "'A_'"), (r"'a'", "'b'"), (r"'2'", "'1'"), (r"'sad'", "'glad'"),
    (r"COUNT\(\*\)", "COUNT(note)"), (r"COUNT\(\*\)", "COUNT(city)"), (r"COUNT\(\*\)", "COUNT(DISTINCT amount)"),
    (r"\bamount\b", "gross"), (r"\bamount\b", "id"), (r"\bname\b", "city"), (r"\bcity\b", "name"), (r"\bnote\b", "day::text"),
    (r"\bday\b", "day + 1"), (r"UNION", "UNION ALL"), (r"UNION", "EXCEPT"), (r"UNION", "INTERSECT"), (r"RANK", "ROW_NUMBER"),
    (r"RANK", "DENSE_RANK"), (r"PARTITION BY customer_id", ""), (r"year", "month"), (r"\bWHERE\b.*?(?= GROUP| ORDER|\)|$)", ""),
    (r" HAVING COUNT\(\*\) > \d", ""), (r" FILTER \(.*?\)", ""), (r"LIMIT 3", "LIMIT 4"), (r"LIMIT 3", "LIMIT 3 OFFSET 1"),
    (r"\b10\b", "11"), (r"\b20\b", "21"), (r"\b50\b", "51"), (r"\b60\b", "59"), (r"\b70\b", "71"), (r"> 1\b", "> 2"),
    (r"2024-01-01", "2024-01-02"), (r"2025-01-01", "2024-12-31"), (r"'much'", "'more'"), (r"archive\.sale", "public.sale"),
    (r"public\.sale", "archive.sale"), (r"\bvip\b", "NOT vip"), (r"\bvip\b", "vip IS NOT NULL"),
]  # fmt: skip


def mutants(gold: str) -> Iterator[str]:
    """The gold query changed in one place."""
    seen = {gold}
    for pattern, other in CHANGES:
        for match in re.finditer(pattern, gold):
            mutant = gold[: match.start()] + other + gold[match.end() :]
            if mutant not in seen:
                seen.add(mutant)
                yield mutant


def differs(gold: str, mutant: str, databases: list[PostgresEngine]) -> bool:
    """Whether real databases, which the judge has not seen, prove that a mutant is wrong."""
    for database in databases:
        try:
            wanted = database.base.run(gold, Budget(5.0)).rows
            found = database.base.run(mutant, Budget(5.0)).rows
        except QueryError:
            return False
        if not agrees(Truth(wanted, len(wanted[0]) if wanted else 0), found):
            return True
        if " ORDER BY" in gold and wanted != found and wanted == found[::-1]:
            return True
    return False


def test_few_wrong_queries_pass_and_no_right_one_fails(
    shop: str, engine: PostgresEngine, doubles: list[tuple[PostgresCopy, PostgresEngine]]
):
    databases = [engine, *(real for _, real in doubles)]
    different: list[tuple[str, str]] = []
    passed: list[str] = []
    for gold in GOLDS:
        for mutant in mutants(gold):
            if not differs(gold, mutant, databases):
                continue
            different.append((gold, mutant))
            answer = verdict(shop, gold, mutant)
            assert answer.status in ("correct", "wrong", "malformed"), answer
            passed += [mutant] * (answer.status == "correct")
        spaced = gold.replace(" ", "  ") + " "
        assert verdict(shop, gold, spaced).status == "correct"
        assert sql_exams.prepare("postgres", shop, gold).unproven is None
    share = len(passed) / len(different)
    print(f"{len(different)} wrong queries, {len(passed)} passed ({share:.1%}): {passed}")
    assert len(different) > 100
    assert share <= 0.05, passed
