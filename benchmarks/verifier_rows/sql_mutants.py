"""How often the SQL judge is fooled: mutants of gold queries, and rewritten right queries.

A mutant counts when a database that the judge has never seen proves it different.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from verifiers import fuzz, gold_query, resultset, sql
from verifiers.judge import judge
from verifiers.spec import parse_spec
from verifiers.sql_session import Budget, QueryError
from verifiers.sql_spec import SqlSpec
from verifiers.sqlite_engine import SqliteEngine

sqlglot: Any = gold_query.sqlglot
exp: Any = sqlglot.exp

GOLDS = (
    "SELECT Name FROM Artist WHERE Name LIKE 'A%' ORDER BY Name",
    "SELECT COUNT(*) FROM Track WHERE Milliseconds > 300000 AND GenreId = 1",
    "SELECT a.Name, COUNT(*) AS n FROM Artist a JOIN Album al ON a.ArtistId = al.ArtistId"
    " GROUP BY a.ArtistId HAVING COUNT(*) > 3 ORDER BY n DESC, a.Name LIMIT 5",
    "SELECT BillingCountry, SUM(Total) FROM Invoice GROUP BY BillingCountry"
    " ORDER BY SUM(Total) DESC LIMIT 10",
    "SELECT c.LastName, SUM(i.Total) FROM Customer c JOIN Invoice i"
    " ON c.CustomerId = i.CustomerId WHERE c.Country = 'USA' GROUP BY c.CustomerId"
    " HAVING SUM(i.Total) > 38",
    "SELECT DISTINCT City FROM Customer WHERE Country IN ('Brazil', 'Canada')"
    " AND State IS NOT NULL",
    "SELECT e.LastName, m.LastName FROM Employee e LEFT JOIN Employee m"
    " ON e.ReportsTo = m.EmployeeId",
    "SELECT strftime('%Y', InvoiceDate) AS y, COUNT(*) FROM Invoice"
    " WHERE InvoiceDate >= '2010-01-01' AND InvoiceDate < '2012-01-01' GROUP BY y ORDER BY y",
    "SELECT t.Name FROM Track t LEFT JOIN InvoiceLine il ON t.TrackId = il.TrackId"
    " WHERE il.InvoiceLineId IS NULL",
    "SELECT COUNT(DISTINCT BillingCity) FROM Invoice WHERE Total BETWEEN 5 AND 10",
    "SELECT Name FROM Artist WHERE ArtistId NOT IN (SELECT ArtistId FROM Album)",
    "SELECT t.Name, al.Title FROM Track t JOIN Album al ON t.AlbumId = al.AlbumId"
    " JOIN Artist ar ON al.ArtistId = ar.ArtistId"
    " WHERE ar.Name = 'Queen' AND t.Milliseconds < 200000",
    "SELECT Name FROM Track WHERE UnitPrice > (SELECT AVG(UnitPrice) FROM Track)",
)
EQUIVALENT = (
    (GOLDS[1], "SELECT COUNT(t.TrackId) FROM Track AS t WHERE t.GenreId = 1"
     " AND NOT t.Milliseconds <= 300000"),
    (GOLDS[2], "WITH k AS (SELECT ArtistId, COUNT(*) AS n FROM Album GROUP BY ArtistId)"
     " SELECT Name, n FROM k JOIN Artist USING (ArtistId) WHERE n >= 4 ORDER BY n DESC, 1 LIMIT 5"),
    (GOLDS[4], "SELECT LastName, t FROM Customer JOIN (SELECT CustomerId, SUM(Total) AS t FROM"
     " Invoice GROUP BY CustomerId) USING (CustomerId) WHERE Country = 'USA' AND t > 38"),
    (GOLDS[5], "SELECT City FROM Customer WHERE State IS NOT NULL AND (Country = 'Brazil'"
     " OR Country = 'Canada') GROUP BY City"),
    (GOLDS[6], "SELECT LastName, (SELECT m.LastName FROM Employee m WHERE m.EmployeeId ="
     " e.ReportsTo) FROM Employee e"),
    (GOLDS[8], "SELECT Name FROM Track t WHERE NOT EXISTS (SELECT 1 FROM InvoiceLine il"
     " WHERE il.TrackId = t.TrackId)"),
    (GOLDS[9], "SELECT COUNT(*) FROM (SELECT DISTINCT BillingCity FROM Invoice"
     " WHERE Total >= 5 AND Total <= 10 AND BillingCity IS NOT NULL)"),
    (GOLDS[10], "SELECT Name FROM Artist a LEFT JOIN Album al ON al.ArtistId = a.ArtistId"
     " WHERE al.AlbumId IS NULL"),
    (GOLDS[12], "SELECT t.Name FROM Track t, (SELECT AVG(UnitPrice) AS p FROM Track) x"
     " WHERE t.UnitPrice > x.p"),
)  # fmt: skip


def labelled(database: Path) -> Iterator[tuple[dict[str, Any], str, bool]]:
    """Right queries, no two with the same text."""
    specs = {gold: _plain(database, gold) for gold, _ in EQUIVALENT}
    for number, (gold, query) in enumerate(cycle(EQUIVALENT)):
        yield specs[gold], f"{query} /* {number} */", True


def _plain(database: Path, gold: str) -> dict[str, Any]:
    return {"kind": "sql", "database": str(database), "query": gold}


def sql_spec(database: Path, gold: str) -> SqlSpec:
    """The spec of one gold query."""
    spec = parse_spec(_plain(database, gold))
    assert isinstance(spec, SqlSpec)
    return spec


def pairs_per_second(database: Path, seconds: float) -> float:
    """Results of right queries run and compared on warm copies, per CPU second."""
    cases = labelled(database)
    specs = {gold: sql_spec(database, gold) for gold, _ in EQUIVALENT}
    count, spent = 0, 0.0
    while spent < seconds:
        for plain, query, _ in islice(cases, 50):
            _, *copies = sql.prepare(specs[plain["query"]]).items
            started, budget = time.thread_time(), Budget(60.0)
            for exam in copies:
                result = exam.session.run(query, budget, rows=exam.truth.size)
                assert resultset.agrees(exam.truth, result.rows)
            spent += time.thread_time() - started
            count += len(copies)
    return count / spent


def mutants(gold: str) -> list[str]:
    """Queries that differ from the gold in one place; other operators than the judge's own."""
    tree = sqlglot.parse_one(gold, read="sqlite")
    columns = sorted({column.sql("sqlite") for column in tree.find_all(exp.Column)})
    found: set[str] = set()
    for index, node in enumerate(list(tree.walk())):
        for change in _changes(node, columns):
            copy = tree.copy()
            target = next(n for i, n in enumerate(copy.walk()) if i == index)
            try:
                change(target)
                found.add(copy.sql("sqlite"))
            except (sqlglot.errors.SqlglotError, ValueError, AttributeError):
                continue
    return sorted(found - {tree.sql("sqlite")})


def _changes(node: Any, columns: list[str]) -> Iterator[Callable[[Any], Any]]:
    comparisons = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ)
    if isinstance(node, exp.Column):
        for name in columns:
            yield lambda n, name=name: n.replace(sqlglot.parse_one(name, read="sqlite"))
    if isinstance(node, exp.Literal) and node.is_string:
        for text in (node.name + "x", node.name[:-1], node.name.lower(), "%" + node.name):
            yield lambda n, text=text: n.replace(exp.Literal.string(text))
    elif isinstance(node, exp.Literal):
        for step in (-1, 1, 2, 10):
            yield lambda n, step=step: n.replace(exp.Literal.number(int(n.name) + step))
    if isinstance(node, comparisons):
        for other in comparisons:
            yield lambda n, other=other: n.replace(other(this=n.this, expression=n.expression))
    if isinstance(node, exp.Join):
        yield lambda n: n.set("side", None if n.args.get("side") else "LEFT")
    if isinstance(node, exp.And):
        yield lambda n: n.replace(exp.Or(this=n.this, expression=n.expression))
        yield lambda n: n.replace(n.this)
        yield lambda n: n.replace(n.expression)
    if isinstance(node, exp.Sum | exp.Avg):
        for other in (exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Count):
            yield lambda n, other=other: n.replace(other(this=n.this))
    if isinstance(node, exp.Count):
        for name in columns:
            yield lambda n, name=name: n.set("this", sqlglot.parse_one(name, read="sqlite"))
        yield lambda n: n.set("this", exp.Star())
    if isinstance(node, exp.Select):
        yield lambda n: n.set("distinct", None if n.args.get("distinct") else exp.Distinct())
        for clause in ("where", "having", "order", "limit"):
            if node.args.get(clause):
                yield lambda n, clause=clause: n.set(clause, None)
    if isinstance(node, exp.Ordered):
        yield lambda n: n.set("desc", not n.args.get("desc"))
    if isinstance(node, exp.Not):
        yield lambda n: n.replace(n.this)


def fooled(database: Path) -> tuple[int, int, int]:
    """(mutants proven different, of them judged correct, right queries judged wrong)."""
    engine = SqliteEngine(str(database))
    schema = {t.name.lower(): [c.name.lower() for c in t.columns] for t in engine.tables}
    different = passed = 0
    for gold in GOLDS:
        spec = sql_spec(database, gold)
        wanted = gold_query.read(gold, "sqlite", schema)
        source = random.Random(f"not the judge's: {gold}")
        unseen = [engine.base]
        for _ in range(25):
            shape = fuzz.Shape(
                source.randint(3, 80),
                source.choice((0.1, 0.3, 0.5, 0.8)),
                source.choice((0.0, 0.1, 0.3)),
                source.choice((2, 4, 8, 20)),
            )
            rows = fuzz.generate(engine.tables, engine.samples(), wanted, shape, source)
            unseen.append(engine.copy(rows))
        for mutant in mutants(gold):
            if _differs(gold, mutant, unseen, wanted.ordered):
                different += 1
                passed += judge(spec, mutant).status == "correct"
    rejected = sum(judge(sql_spec(database, g), q).status != "correct" for g, q in EQUIVALENT)
    return different, passed, rejected


def _differs(gold: str, mutant: str, sessions: list[Any], ordered: bool) -> bool:
    for session in sessions:
        try:
            left = session.run(gold, Budget(1.0)).rows
            right = session.run(mutant, Budget(1.0)).rows
        except QueryError:
            return False
        # An order between ties proves nothing: only other rows do, or another sequence of them.
        if sorted(map(repr, left)) != sorted(map(repr, right)):
            return True
        if ordered and left != right and left == right[::-1] and len({*left}) > 1:
            return True
    return False
