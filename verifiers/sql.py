"""The judge of SQL: does the query say what the gold query says?

Both run on the task's database and, when they agree there, on at least ten made-up copies
of it, which are drawn once for each (database, gold query) so that the gold's predicates,
joins and limits are exercised and its mutants show. A query passes that agrees on all of
them. Where the gold itself leaves the result open (a LIMIT without an order, say), such
copies are not used. Runs a model's SQL: only ever call it in a worker process.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from verifiers import fuzz, gold_query, resultset
from verifiers.extract import ExtractionError, extract
from verifiers.gold_query import GoldQuery
from verifiers.resultset import Row, Truth
from verifiers.sql_session import (
    Budget,
    Engine,
    QueryError,
    RefusedError,
    Result,
    Session,
    TooLargeError,
    TooSlowError,
    UnavailableError,
)
from verifiers.sql_spec import SqlSpec
from verifiers.sqlite_engine import SqliteEngine
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Verdict, clip

MIN_COPIES = 10
MAX_COPIES = 16
MAX_DRAWN = 36
"""Copies made to choose from."""
MAX_QUERY = 100_000
QUERY_S = 0.7
"""CPU seconds for all runs of one completion's query, where the gold query is quick."""
GOLD_S = 0.5
"""CPU seconds of the gold query on the task's database."""
PATIENCE = 3
"""How many times as long as a slow gold query an answer may take."""
COPY_S = 0.05
PREPARE_S = 2.0
"""CPU seconds for making copies; what is made by then has to do."""
_BEYOND = 1_000
"""Rows read past the gold's limit, to know which rows are tied with its last one."""


@dataclass(frozen=True, slots=True)
class Exam:
    """One database and what a right query gives there."""

    session: Session
    truth: Truth


@dataclass(frozen=True, slots=True)
class Exams:
    """The task's own database first, then made-up copies; `gold` is the gold query's text."""

    gold: str
    items: tuple[Exam, ...]
    allowed_s: float
    """CPU seconds for all runs of an answer."""


def judge(spec: SqlSpec, completion: str) -> Verdict:
    """Whether the completion's query gives what `spec.query` gives."""
    evidence: dict[str, object] = {"gold": clip(spec.query)}
    try:
        query = _query(spec, completion)
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(str(error))})
    evidence["extracted"] = clip(query)
    try:
        exams = prepare(spec)
        return _sit(spec, exams, query, evidence)
    except UnavailableError as error:
        return Verdict(None, "infra_error", evidence | {"reason": clip(str(error))})


def _query(spec: SqlSpec, completion: str) -> str:
    answers = [_bare(answer) for answer in extract(spec.extract, completion).answers]
    if len(set(answers)) > 1:
        raise ExtractionError(f"{len(set(answers))} different final answers")
    (query,) = set(answers)
    if not query:
        raise ExtractionError("an empty query")
    if len(query) > MAX_QUERY or "\0" in query:
        raise ExtractionError(f"a query of {len(query)} characters, or with a NUL")
    return query


def _bare(query: str) -> str:
    return query.strip().rstrip(";").rstrip()


def prepare(spec: SqlSpec) -> Exams:
    """The exams of a task, made once and kept. Raises UnavailableError."""
    return _exams(spec.engine, spec.database, _state(spec.database), _bare(spec.query))


def _state(database: str) -> tuple[int, ...]:
    """What changes when the file does."""
    try:
        status = os.stat(database)
    except OSError as error:
        raise UnavailableError(f"the database {database} cannot be read: {error}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
def _engine(kind: str, database: str, state: tuple[int, ...]) -> Engine:
    return _ENGINES[kind](database)


def _duckdb(database: str) -> Engine:
    from verifiers.duckdb_engine import DuckdbEngine  # 600 MiB of address space

    return DuckdbEngine(database)


_ENGINES: dict[str, Callable[[str], Engine]] = {"sqlite": SqliteEngine, "duckdb": _duckdb}


def _exams(kind: str, database: str, state: tuple[int, ...], query: str) -> Exams:
    return _KEPT[kind](kind, database, state, query)


def _make(kind: str, database: str, state: tuple[int, ...], query: str) -> Exams:
    engine = _engine(kind, database, state)
    schema = {
        table.name.lower(): [column.name.lower() for column in table.columns]
        for table in engine.tables
    }
    gold = gold_query.read(query, engine.dialect, schema)
    budget = Budget(2 * GOLD_S)  # it runs twice where its order has to be known
    try:
        truth = _truth(engine.base, query, gold, budget)
    except QueryError as error:
        raise UnavailableError(f"the gold query does not run: {error}") from None
    allowed_s = max(QUERY_S, PATIENCE * (2 * GOLD_S - budget.cpu_left))
    copies = _copies(engine, query, gold)
    return Exams(query, (Exam(engine.base, truth), *copies), min(allowed_s, PATIENCE * GOLD_S))


_KEPT = {
    "sqlite": lru_cache(maxsize=32)(_make),
    "duckdb": lru_cache(maxsize=3)(_make),  # its databases take address space
}


def _truth(session: Session, query: str, gold: GoldQuery, budget: Budget) -> Truth:
    result = session.run(query, budget)
    if not result.whole:
        raise QueryError(f"the gold query gives more than {len(result.rows)} rows")
    if not gold.ordered:
        return Truth(result.rows, result.width)
    # Every row its own key: exactly this order.
    exact = Truth(result.rows, result.width, [(n,) for n in range(len(result.rows))])
    keyed = gold.keyed
    if keyed is None:
        return exact
    rows = (keyed.stop or len(result.rows)) + _BEYOND
    try:
        full = session.run(keyed.sql, budget, rows=rows)
    except QueryError:
        return exact
    width = full.width - keyed.extra
    positions = keyed.positions or tuple(range(width, full.width))
    if width != result.width or max(positions, default=0) >= full.width:
        return exact
    truth = Truth(
        [row[:width] for row in full.rows],
        width,
        [tuple(row[position] for position in positions) for row in full.rows],
        keyed.start,
        keyed.stop,
    )
    # The rewritten query is only trusted where it says what the gold says.
    return truth if resultset.agrees(truth, result.rows) else exact


def _copies(engine: Engine, query: str, gold: GoldQuery) -> list[Exam]:
    """Copies on which the gold's result is settled, chosen so that its mutants fail."""
    seed = hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest()
    source = random.Random(seed)
    samples = engine.samples()
    mutants = list(gold.mutants)
    chosen: list[Exam] = []
    spare: list[Exam] = []
    budget = Budget(PREPARE_S)
    for shape in islice(fuzz.shapes(gold), MAX_DRAWN):
        if budget.cpu_left <= 0 and len(chosen) + len(spare) >= MIN_COPIES:
            break
        rows = fuzz.generate(engine.tables, samples, gold, shape, source)
        exam = _exam(engine.copy(rows), query, gold)
        if exam is None:
            continue
        left = [m for m in mutants if budget.cpu_left <= 0 or _survives(exam, m)]
        if len(left) < len(mutants) and len(chosen) < MAX_COPIES:
            chosen.append(exam)
            mutants = left
        else:
            spare.append(exam)
        telling = sum(_tells(exam.truth) for exam in (*chosen, *spare))
        if not mutants and telling >= MIN_COPIES:
            break
    spare.sort(key=lambda exam: not _tells(exam.truth))  # stable: telling ones first
    return chosen + spare[: max(0, MIN_COPIES + 2 - len(chosen))]


def _exam(session: Session, query: str, gold: GoldQuery) -> Exam | None:
    """None where the gold query fails, takes too long or leaves its result open."""
    try:
        truth = _truth(session, query, gold, Budget(COPY_S))
        again = session.run_otherwise(query, Budget(COPY_S))
    except QueryError:
        return None
    return Exam(session, truth) if resultset.agrees(truth, again.rows) else None


def _survives(exam: Exam, mutant: str) -> bool:
    try:
        result = exam.session.run(mutant, Budget(COPY_S), rows=exam.truth.size)
    except TooSlowError:
        return True
    except QueryError:
        return False  # no query that runs: nothing to tell apart
    return _agrees(exam.truth, result)


def _tells(truth: Truth) -> bool:
    """Whether a wrong query could show here: some row has a value that is neither NULL nor 0."""
    return any(value not in (None, 0) for row in truth.shown for value in row)


def _agrees(truth: Truth, result: Result) -> bool:
    return result.whole and result.width == truth.width and resultset.agrees(truth, result.rows)


def _sit(spec: SqlSpec, exams: Exams, query: str, evidence: dict[str, object]) -> Verdict:
    if query == exams.gold:
        return Verdict(1.0, "correct", evidence | {"databases": len(exams.items)})
    budget = Budget(exams.allowed_s)
    results: list[Result] = []
    try:
        failed = _first_failure(spec, exams.items, query, budget, results)
    except TooSlowError:
        return Verdict(0.0, "timeout", evidence | {"limit": "cpu", "seconds": exams.allowed_s})
    except TooLargeError as error:
        return Verdict(0.0, "timeout", evidence | {"limit": "memory", "reason": clip(str(error))})
    except RefusedError as error:
        return Verdict(0.0, "malformed", evidence | {"reason": clip(f"refused: {error}")})
    except QueryError as error:
        return Verdict(0.0, "wrong", evidence | {"reason": clip(str(error))})
    if failed is None:
        return Verdict(1.0, "correct", evidence | {"databases": len(exams.items)})
    evidence |= _difference(exams.items[failed].truth, results[failed])
    evidence["database"] = "the task's" if failed == 0 else f"made-up copy {failed}"
    score = _soft(exams.items, results, query, budget) if spec.soft_f1 else 0.0
    return Verdict(score, "wrong", evidence)


def _first_failure(
    spec: SqlSpec, exams: Sequence[Exam], query: str, budget: Budget, results: list[Result]
) -> int | None:
    """The first database on which the query is wrong; its results so far go to `results`."""
    orders: list[tuple[int, ...]] | None = None
    for number, exam in enumerate(exams):
        result = exam.session.run(query, budget, rows=exam.truth.size)
        results.append(result)
        if spec.column_order or exam.truth.width < 2:
            if not _agrees(exam.truth, result):
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
