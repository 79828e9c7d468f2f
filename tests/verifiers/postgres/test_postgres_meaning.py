"""The SQL judge on PostgreSQL: what is the same and what is not."""

import pytest

from tests.verifiers.postgres.judging import verdict
from verifiers import sql_exams

SPENT = "SELECT name, SUM(amount) FROM customer JOIN sale ON customer_id = customer.id GROUP BY 1"


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        ("SELECT name FROM customer WHERE vip", "SELECT name FROM customer WHERE vip = true"),
        ("SELECT name FROM customer WHERE vip IS NOT TRUE",
         "SELECT name FROM customer WHERE NOT COALESCE(vip, false)"),
        ("SELECT name FROM customer", "select c.name as n from customer as c order by 1 desc; -- all"),
        (SPENT, "SELECT c.name, SUM(amount) FROM sale s, customer c WHERE c.id = s.customer_id"
         " GROUP BY c.name"),
        # Every way to name a table.
        ("SELECT id FROM sale WHERE amount > 50", "SELECT id FROM big"),
        ("SELECT id FROM sale WHERE amount > 50", "SELECT sale.id FROM public.sale WHERE amount > 50"),
        ("SELECT id FROM sale", "SELECT public.sale.id FROM public.sale"),
        ("SELECT id FROM sale", "WITH sale AS (SELECT * FROM public.sale) SELECT id FROM sale"),
        ("SELECT id FROM archive.sale", "SELECT s.id FROM archive.sale s"),
        ("SELECT id FROM archive.sale", "SELECT archive.sale.id FROM ONLY archive.sale"),
        ("SELECT a.id FROM archive.sale a JOIN sale b ON a.id = b.id",
         "SELECT id FROM public.sale WHERE id IN (SELECT id FROM archive.sale)"),
        ('SELECT "order" FROM "Odd Name"', 'SELECT o."order" FROM public."Odd Name" AS o'),
        ("SELECT id, amount FROM archive.sale", "TABLE archive.sale"),
        ("SELECT city FROM customer WHERE city IS NOT NULL GROUP BY city", "TABLE cities"),
        ("SELECT id FROM event WHERE day >= '2024-01-01' AND day < '2025-01-01'",
         "SELECT id FROM event_2024"),
        # A primary key groups its whole row.
        ("SELECT c.id, c.name, COUNT(*) FROM customer c JOIN sale s ON s.customer_id = c.id"
         " GROUP BY c.id, c.name",
         "SELECT c.id, c.name, COUNT(*) FROM customer c JOIN sale s ON s.customer_id = c.id"
         " GROUP BY c.id"),
        ("SELECT name, sales FROM spent",
         "SELECT c.name, COUNT(s.id) FROM customer c, sale s WHERE c.id = s.customer_id GROUP BY c.id"),
        ("SELECT upper(name), city FROM customer", "SELECT upper(c.name), (SELECT c.city) FROM"
         " customer c LEFT JOIN sale s ON s.customer_id = c.id GROUP BY c.id HAVING COUNT(*) > 0"),
        ("SELECT * FROM customer", "SELECT c.* FROM customer c LEFT JOIN sale ON customer_id = c.id"
         " GROUP BY c.id ORDER BY c.name"),
        # Types.
        ("SELECT name FROM customer WHERE mood = 'glad'",
         "SELECT name FROM customer WHERE mood::text LIKE 'glad'"),
        ("SELECT name FROM customer WHERE mail IS NOT NULL",
         "SELECT name FROM customer WHERE strpos(mail, '@') > 0"),
        ("SELECT gross FROM sale", "SELECT amount * 1.25 FROM sale"),
        ("SELECT AVG(amount) FROM sale", "SELECT SUM(amount) / COUNT(amount) FROM sale"),
        ("SELECT id FROM sale WHERE 'a' = ANY (tags)", "SELECT id FROM sale WHERE tags @> '{a}'"),
        ("SELECT id, extra FROM sale", "SELECT id, extra::json FROM sale"),
        ("SELECT id FROM sale WHERE extra ->> 'k' = '1'",
         "SELECT id FROM sale WHERE jsonb_extract_path_text(extra, 'k') = '1'"),
        ("SELECT date_trunc('month', at) FROM sale WHERE at IS NOT NULL",
         "SELECT date_trunc('month', s.at) FROM sale s WHERE s.at > '-infinity'"),
        ("SELECT day FROM sale WHERE EXTRACT(year FROM day) = 2024",
         "SELECT day FROM sale WHERE day BETWEEN '2024-01-01' AND DATE '2024-12-31'"),
        ("SELECT to_jsonb(a) FROM archive.sale a", "SELECT row_to_json(x)::jsonb FROM archive.sale x"),
        ("SELECT twice(amount) FROM sale", "SELECT amount + amount FROM sale"),
        ("SELECT token FROM customer WHERE token = '00000000-0000-0000-0000-0000000000aa'",
         "SELECT token FROM customer WHERE token::text = '00000000-0000-0000-0000-0000000000aa'"),
        # Orders, limits, the rest of the language.
        ("SELECT id FROM sale ORDER BY amount", "SELECT id FROM sale ORDER BY amount, day DESC"),
        ("SELECT id FROM sale ORDER BY amount DESC LIMIT 2",
         "SELECT id FROM (SELECT * FROM sale ORDER BY day) x ORDER BY amount DESC FETCH FIRST 2 ROWS ONLY"),
        ("SELECT DISTINCT ON (customer_id) customer_id, id FROM sale ORDER BY customer_id, id",
         "SELECT customer_id, MIN(id) FROM sale GROUP BY customer_id ORDER BY 1"),
        ("SELECT COUNT(*) FILTER (WHERE amount > 20) FROM sale",
         "SELECT COUNT(CASE WHEN amount > 20 THEN 1 END) FROM sale"),
        ("SELECT name FROM customer c WHERE EXISTS (SELECT 1 FROM sale WHERE customer_id = c.id)",
         "SELECT name FROM customer WHERE id IN (SELECT customer_id FROM sale)"),
        ("SELECT c.name, s.id FROM customer c, sale s WHERE s.customer_id = c.id",
         "SELECT c.name, x.id FROM customer c CROSS JOIN LATERAL"
         " (SELECT id FROM sale s WHERE s.customer_id = c.id) x"),
        ("SELECT id, SUM(amount) OVER (ORDER BY id) FROM sale",
         "SELECT a.id, (SELECT SUM(b.amount) FROM sale b WHERE b.id <= a.id) FROM sale a"),
        ("SELECT COUNT(*) FROM sale", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
         " WHERE i < 3) SELECT COUNT(*) FROM sale, n WHERE i = 2"),
    ],
)  # fmt: skip
def test_queries_that_mean_the_same_are_correct(shop: str, gold: str, query: str):
    answer = verdict(shop, gold, f"```sql\n{query}\n```")
    assert answer.status == "correct", answer
    assert answer.evidence["databases"] > sql_exams.MIN_COPIES


@pytest.mark.parametrize(
    ("gold", "query"),
    [
        # The same rows on the shop as it is: only made-up copies tell.
        ("SELECT name FROM customer WHERE vip", "SELECT name FROM customer WHERE id = 1"),
        ("SELECT id FROM sale WHERE amount > 60", "SELECT id FROM sale WHERE amount > 61"),
        ("SELECT id FROM sale WHERE amount > 50", "SELECT id FROM sale WHERE amount >= 51"),
        ("SELECT id FROM big WHERE amount > 60", "SELECT id FROM big WHERE amount > 61"),
        ("SELECT COUNT(note) FROM sale", "SELECT COUNT(DISTINCT note) FROM sale"),
        ("SELECT name FROM customer WHERE mood = 'calm'", "SELECT name FROM customer WHERE false"),
        ("SELECT id FROM sale WHERE day < '2024-02-12'", "SELECT id FROM sale WHERE id < 3"),
        ("SELECT id FROM sale WHERE note = 'nowhere'", "SELECT id FROM sale WHERE false"),
        ("SELECT city FROM customer GROUP BY city HAVING COUNT(*) > 1", "SELECT 'Oslo'"),
        ("SELECT id FROM sale ORDER BY day LIMIT 3", "SELECT id FROM sale ORDER BY id LIMIT 3"),
        ("SELECT name FROM customer WHERE city ILIKE 'os%'",
         "SELECT name FROM customer WHERE city = 'Oslo'"),
        ("SELECT c.name FROM customer c JOIN sale s ON s.customer_id = c.id WHERE s.note = 'gift'",
         "SELECT DISTINCT c.name FROM customer c JOIN sale s ON s.customer_id = c.id"
         " WHERE s.note = 'gift'"),
        ("SELECT id FROM archive.sale WHERE amount > 5", "SELECT id FROM archive.sale WHERE id > 1"),
        ("SELECT COUNT(*) FROM event_2024", "SELECT 2"),
        # Types, order, NULL.
        ("SELECT id FROM sale", "SELECT id::text FROM sale"),
        ("SELECT vip FROM customer", "SELECT vip::int FROM customer"),
        ("SELECT ratio FROM sale", "SELECT COALESCE(ratio, 'NaN') FROM sale"),
        ("SELECT city FROM customer", "SELECT COALESCE(city, '') FROM customer"),
        ("SELECT day FROM sale", "SELECT day::timestamp FROM sale"),
        ("SELECT tags FROM sale", "SELECT tags::text FROM sale"),
        ("SELECT extra FROM sale", "SELECT extra::text FROM sale"),
        ("SELECT name FROM customer ORDER BY name", "SELECT name FROM customer ORDER BY name DESC"),
        ("SELECT name, city FROM customer", "SELECT city, name FROM customer"),
        ("SELECT id FROM sale", "SELECT id FROM archive.sale"),
        ("SELECT city FROM customer", "SELECT DISTINCT city FROM customer"),
        ("SELECT name FROM customer", "SELECT no_such_column FROM customer"),
        ("SELECT name FROM customer", "SELECT name FROM nowhere"),
        ("SELECT name FROM customer", "SELECT name FROM customer WHERE"),
    ],
)  # fmt: skip
def test_queries_that_mean_something_else_are_wrong(shop: str, gold: str, query: str):
    answer = verdict(shop, gold, query)
    assert (answer.status, answer.score) == ("wrong", 0.0), answer


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", "1.0::numeric", True), ("1::float8", "1::int8", True), ("1", "'1'", False),
        ("1", "true", False), ("'NaN'::float8", "'NaN'::numeric", True), ("'NaN'::float8", "NULL", False),
        ("0.1::float8 + 0.2", "0.3::float8", True), ("0.1::float8", "0.1001", False),
        ("NULL::int", "NULL::text", True), ("'a'::varchar(3)", "'a'::text", True),
        ("DATE '2024-01-01'", "'2024-01-01'", False), ("DATE 'infinity'", "DATE '-infinity'", False),
        ("DATE '2024-01-01'", "'2024-01-01'::timestamp::date", True),
        ("'2024-01-01 10:00+02'::timestamptz", "'2024-01-01 08:00+00'::timestamptz", True),
        ("TIMESTAMP '2024-01-01'", "TIMESTAMP '2024-01-02'", False),
        ("INTERVAL '1 day'", "INTERVAL '24:00'", True), ("INTERVAL '1 day'", "INTERVAL '2 days'", False),
        ("ARRAY[1, NULL]", "ARRAY[1.0, NULL]", True), ("ARRAY[1, 2]", "ARRAY[2, 1]", False),
        ("ARRAY['1']", "ARRAY[1]", False), ("'{1}'::int[]", "'{1}'::text", False),
        ("'{\"a\": 1, \"b\": [null]}'::json", "'{\"b\": [null], \"a\": 1.0}'::jsonb", True),
        ("'{\"a\": 1}'::jsonb", "'{\"a\": \"1\"}'::jsonb", False), ("'\"a\"'::jsonb", "'a'", False),
        ("'\\x00ff'::bytea", "decode('00ff', 'hex')", True), ("'\\x00'::bytea", "'\\x01'::bytea", False),
        ("'00000000-0000-0000-0000-00000000000a'::uuid", "'0000000000000000000000000000000A'::uuid", True),
        ("'Infinity'::numeric", "'Infinity'::float8", True), ("ROW(1, 'a')", "ROW(1, 'b')", False),
        ("int4range(1, 5)", "'[1,4]'::int4range", True), ("inet '10.0.0.1'", "inet '10.0.0.2'", False),
    ],
)  # fmt: skip
def test_values_are_compared_by_their_types(shop: str, left: str, right: str, same: bool):
    answer = verdict(shop, f"SELECT {left} AS x", f"SELECT {right} AS y")
    assert answer.status == ("correct" if same else "wrong"), answer


def test_columns_may_stand_in_any_order_when_the_task_says_so(shop: str):
    gold, query = "SELECT name, city, id FROM customer", "SELECT id, name, city FROM customer"
    assert verdict(shop, gold, query).status == "wrong"
    assert verdict(shop, gold, query, column_order=False).status == "correct"


def test_what_no_copy_can_be_made_of_is_said_and_never_passes_in_silence(shop: str):
    placed = "SELECT ctid IS NOT NULL FROM sale"
    answer = verdict(shop, placed, "SELECT true FROM sale")
    assert (answer.status, answer.evidence["databases"]) == ("correct", 1)
    assert "ctid" in str(answer.evidence["unproven"])
    answer = verdict(shop, "SELECT true FROM sale", placed)  # or a model would dodge the copies
    assert (answer.status, answer.score) == ("malformed", 0.0)
    assert "made-up copies" in str(answer.evidence["reason"])


def test_a_row_that_a_made_up_copy_breaks_is_left_out(shop: str):
    gold = "SELECT mail, gross, id FROM customer JOIN sale USING (id)"
    exams = sql_exams.prepare("postgres", shop, gold)
    for exam in exams.items[1:]:
        budget = sql_exams.Budget(5.0)
        for rule in (
            "SELECT 1 FROM sale WHERE customer_id NOT IN (SELECT id FROM customer)",
            "SELECT 1 FROM customer WHERE id <= 0 OR mail NOT LIKE '%@%' OR length(name) > 20",
            "SELECT 1 FROM sale WHERE gross <> amount * 1.25 OR amount <> round(amount, 2)",
            "SELECT id FROM sale GROUP BY id HAVING COUNT(*) > 1",
            "SELECT token FROM customer WHERE token IS NOT NULL GROUP BY 1 HAVING COUNT(*) > 1",
        ):
            assert exam.session.run(rule, budget).rows == []
    assert any(
        exam.session.run("TABLE sale", sql_exams.Budget(5.0)).rows for exam in exams.items[1:]
    )
