"""The judge of SQL: does the query say what the gold query says?

Both run on the task's database and, when they agree there, on at least ten made-up copies
of it (`sql_exams`). A query passes that agrees on all of them. Runs a model's SQL: only
ever call it in a worker process.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers import resultset, sql_exams
from verifiers.extract import ExtractionError, extract
from verifiers.resultset import Row, Truth
from verifiers.sql_exams import GOLD_S, PATIENCE, Exam, Exams, agrees, bare
from verifiers.sql_session import (
    Budget,
    QueryError,
    RefusedError,
    Result,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)
from verifiers.sql_spec import SqlSpec
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip

MAX_QUERY = 100_000
MAX_CHANGES = 3
"""How often an answer is judged anew because the database changed meanwhile."""
_BASE = "the task's"


def judge(spec: SqlSpec, completion: str) -> Verdict:
    """Whether the completion's query gives what `spec.query` gives."""
    evidence: dict[str, object] = {"gold": clip(spec.query)}
    try:
        query = _query(spec, completion)
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    evidence["extracted"] = clip(query)
    try:
        return _judge(spec, query, evidence)
    except UnavailableError as error:
        return Verdict(None, "infra_error", evidence | {"reason": clip(str(error))})


def prepare(spec: SqlSpec) -> Exams:
    """The exams of a task, made once and kept. Raises UnavailableError."""
    return sql_exams.prepare(spec.engine, spec.database, bare(spec.query))


def _judge(spec: SqlSpec, query: str, evidence: dict[str, object]) -> Verdict:
    exams = prepare(spec)
    for _ in range(MAX_CHANGES):
        verdict = _sit(spec, exams, query, dict(evidence))
        if verdict.evidence.get("database") != _BASE:
            return verdict
        # Only wrong if the gold query still gives there what it gave before.
        before, exams = exams.items[0].truth, prepare(spec)
        now = exams.items[0].truth
        if now is before or resultset.agrees(now, before.shown):
            return verdict
    raise UnavailableError("the database changes faster than it can be asked")


def _query(spec: SqlSpec, completion: str) -> str:
    answers = [bare(answer) for answer in extract(spec.extract, completion).answers]
    if len(set(answers)) > 1:
        raise ExtractionError(f"{len(set(answers))} different final answers")
    (query,) = set(answers)
    if not query:
        raise ExtractionError("an empty query")
    if len(query) > MAX_QUERY or "\0" in query:
        raise ExtractionError(f"a query of {len(query)} characters, or with a NUL")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise ExtractionError("a query with a lone surrogate") from None
    return query


def _sit(spec: SqlSpec, exams: Exams, query: str, evidence: dict[str, object]) -> Verdict:
    if query == exams.gold:
        return Verdict(1.0, "correct", evidence | exams.proof)
    try:
        failed, results, budget = _examine(spec, exams, query)
    except TooSlowError:
        limit = {"limit": "wall" if exams.elsewhere else "cpu", "seconds": exams.allowed_s}
        return Verdict(0.0, "timeout", evidence | limit)
    except TooLargeError as error:
        return Verdict(0.0, "timeout", evidence | {"limit": "memory", "reason": clip(str(error))})
    except RefusedError as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(f"refused: {error}")})
    except QueryError as error:
        return Verdict(0.0, "wrong", evidence | {"reason": clip(str(error))})
    if failed is None:
        return Verdict(1.0, "correct", evidence | exams.proof)
    evidence |= _difference(exams.items[failed].truth, results[failed])
    evidence["database"] = _BASE if failed == 0 else f"made-up copy {failed}"
    score = _soft(exams.items, results, query, budget) if spec.soft_f1 else 0.0
    return Verdict(score, "wrong", evidence)


def _examine(spec: SqlSpec, exams: Exams, query: str) -> tuple[int | None, list[Result], Budget]:
    """The first database on which the query is wrong, its results up to there, and the time
    that is left. Raises QueryError and its kinds."""
    budget = Budget(exams.allowed_s, exams.clock)
    results: list[Result] = []
    try:
        return _first_failure(spec, exams.items, query, budget, results), results, budget
    except TooSlowError:
        if not exams.elsewhere:
            raise
    # Another process may have been held up: once more, by what the gold query takes now.
    gold_s = _gold_s(exams, len(results) + 1)
    results.clear()
    budget = Budget(max(exams.allowed_s / 2, PATIENCE * gold_s), exams.clock)
    return _first_failure(spec, exams.items, query, budget, results), results, budget


def _gold_s(exams: Exams, count: int) -> float:
    """Seconds that the gold query takes now on the first databases."""
    budget = Budget(GOLD_S * PATIENCE, exams.clock)
    started = exams.clock()
    try:
        for exam in exams.items[:count]:
            exam.session.run(exams.gold, budget, rows=exam.truth.size)
    except TooSlowError:
        raise UnavailableError("the database is too slow at this moment to judge by") from None
    except QueryError as error:
        raise UnavailableError(f"the gold query does not run any more: {error}") from None
    return exams.clock() - started


def _first_failure(
    spec: SqlSpec, exams: Sequence[Exam], query: str, budget: Budget, results: list[Result]
) -> int | None:
    """The first database on which the query is wrong; its results so far go to `results`."""
    orders: list[tuple[int, ...]] | None = None
    for number, exam in enumerate(exams):
        result = exam.session.run(query, budget, rows=exam.truth.size)
        results.append(result)
        if spec.column_order or exam.truth.width < 2:
            if not agrees(exam.truth, result):
                return number
            continue
        if not result.whole or result.width != exam.truth.width:
            return number
        if orders is None:
            orders = list(resultset.column_orders(exam.truth, result.rows))
        elif not result.rows and exam.truth.size == 0:
            continue
        orders = [
            order
            for order in orders
            if resultset.agrees(exam.truth, resultset.reorder(result.rows, order))
        ]
        if not orders:
            return number
    return None


def _soft(exams: Sequence[Exam], results: list[Result], query: str, budget: Budget) -> float:
    """The least F1 over the databases, and never that of a right query."""
    scores = [
        resultset.soft_f1(exam.truth, result.rows)
        for exam, result in zip(exams, results, strict=False)
    ]
    return min(*scores, 0.99)


def _difference(truth: Truth, result: Result) -> dict[str, object]:
    if result.width != truth.width:
        return {"reason": f"{result.width} columns where {truth.width} are right"}
    position, wanted, found = resultset.first_difference(truth, result.rows)
    if not result.whole and found is None:
        return {"reason": f"more than the {truth.size} rows that are right"}
    return {
        "reason": "the rows differ",
        "row": position,
        "wanted": _shown(wanted),
        "found": _shown(found),
    }


def _shown(row: Row | None) -> str | None:
    return None if row is None else clip(repr(row))
