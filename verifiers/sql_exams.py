"""The databases on which an answer is compared with its gold query, and what is right there.

First the task's own database, then at least ten made-up copies of it, drawn once for each
(database, gold query) so that the gold's predicates, joins and limits are exercised and its
mutants show. Where the gold itself leaves the result open (a LIMIT without an order, say),
such copies are not used. What is made is kept, until the database changes.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from verifiers import fuzz, gold_query, resultset
from verifiers.gold_query import GoldQuery
from verifiers.resultset import Truth
from verifiers.sql_session import (
    Budget,
    Engine,
    LiveEngine,
    QueryError,
    Result,
    Session,
    TooSlowError,
    UnavailableError,
)
from verifiers.sqlite_engine import SqliteEngine

MIN_COPIES = 10
MAX_COPIES = 16
MAX_DRAWN = 36
"""Copies made to choose from."""
QUERY_S = 0.7
"""Seconds (of the engine's clock) for all runs of one completion's query, where the gold
query is quick."""
GOLD_S = 0.5
"""Seconds of the gold query on the task's database."""
PATIENCE = 3
"""How many times as long as a slow gold query an answer may take."""
COPY_S = 0.05
SCHEDULING = 10
"""How much longer a small query may take where another process works on it: it may have to
wait for its turn."""
PREPARE_S = 2.0
"""Seconds for making copies; what is made by then has to do."""
_TOO_SLOW = "the gold query takes too long there"
_BEYOND = 1_000
"""Rows read past the gold's limit, to know which rows are tied with its last one."""


@dataclass(frozen=True, slots=True)
class Exam:
    """One database and what a right query gives there."""

    session: Session
    truth: Truth


@dataclass(frozen=True, slots=True)
class Exams:
    """The task's own database first, then made-up copies; `gold` is the gold query's text.

    `allowed_s` is for all runs of an answer, in seconds of `clock`; `unproven` says why
    there are no copies.
    """

    gold: str
    items: tuple[Exam, ...]
    allowed_s: float
    clock: Callable[[], float]
    unproven: str | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether another process does the work, so that no clock of ours is fair to it."""
        return self.clock is not time.thread_time

    @property
    def proof(self) -> dict[str, object]:
        """How well an answer is proven that passes all of them."""
        if self.unproven is None:
            return {"databases": len(self.items)}
        return {"databases": 1, "unproven": f"no made-up copy can be used: {self.unproven}"}


@dataclass(frozen=True, slots=True)
class State:
    """What changes when a database's tables do, and when its rows may have."""

    tables: Hashable
    rows: Hashable


def bare(query: str) -> str:
    """A query without blanks and semicolons at its ends."""
    return query.strip().rstrip(";").rstrip()


def prepare(kind: str, database: str, query: str) -> Exams:
    """The exams of a gold query, made once and kept. Raises UnavailableError."""
    return _EXAMS[kind](kind, database, _state(kind, database), query)


def _state(kind: str, database: str) -> State:
    if kind == "postgres":
        return State(*_server(database).state())
    try:
        status = os.stat(database)
    except OSError as error:
        raise UnavailableError(f"the database {database} cannot be read: {error}") from None
    file = (status.st_ino, status.st_size, status.st_mtime_ns)
    return State(file, file)


def _engine(kind: str, database: str, tables: Hashable) -> Engine:
    return _server(database) if kind == "postgres" else _file(kind, database, tables)


@lru_cache(maxsize=4)
def _server(database: str) -> LiveEngine:
    from verifiers.postgres_engine import PostgresEngine  # libpq

    return PostgresEngine(database)


@lru_cache(maxsize=4)
def _file(kind: str, database: str, state: Hashable) -> Engine:
    if kind == "sqlite":
        return SqliteEngine(database)
    from verifiers.duckdb_engine import DuckdbEngine  # 600 MiB of address space

    return DuckdbEngine(database)


def _make_exams(kind: str, database: str, state: State, query: str) -> Exams:
    engine = _engine(kind, database, state.tables)
    gold = _read(engine, query)
    budget = Budget(2 * GOLD_S, engine.clock)  # it runs twice where its order has to be known
    try:
        truth = _truth(engine.base, query, gold, budget)
    except QueryError as error:
        raise UnavailableError(f"the gold query does not run: {error}") from None
    allowed_s = max(QUERY_S, PATIENCE * (2 * GOLD_S - budget.left))
    copies, failure = _COPIES[kind](kind, database, state.tables, query)
    return Exams(
        query,
        (Exam(engine.base, truth), *copies),
        min(allowed_s, PATIENCE * GOLD_S),
        engine.clock,
        None if copies else failure,
    )


def _make_copies(
    kind: str, database: str, tables: Hashable, query: str
) -> tuple[tuple[Exam, ...], str]:
    engine = _engine(kind, database, tables)
    copies, failure = _copies(engine, query, _read(engine, query))
    if not copies and failure == _TOO_SLOW and engine.clock is not time.thread_time:
        raise UnavailableError("the database is too slow at this moment to make copies of")
    return copies, failure


_KINDS = ("sqlite", "duckdb", "postgres")
# DuckDB's databases take address space.
_EXAMS = {kind: lru_cache(3 if kind == "duckdb" else 32)(_make_exams) for kind in _KINDS}
_COPIES = {kind: lru_cache(3 if kind == "duckdb" else 32)(_make_copies) for kind in _KINDS}


def _read(engine: Engine, query: str) -> GoldQuery:
    schema = {
        table.name.lower(): [column.name.lower() for column in table.columns]
        for table in engine.tables
    }
    return gold_query.read(query, engine.dialect, schema)


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


def _copies(engine: Engine, query: str, gold: GoldQuery) -> tuple[tuple[Exam, ...], str]:
    """Copies on which the gold's result is settled, chosen so that its mutants fail; and why
    others were not used."""
    seed = hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest()
    source = random.Random(seed)
    samples = engine.samples()
    mutants = list(gold.mutants)
    chosen: list[Exam] = []
    spare: list[Exam] = []
    failure = ""
    budget = Budget(PREPARE_S, engine.clock)
    for shape in islice(fuzz.shapes(gold), MAX_DRAWN):
        if budget.left <= 0 and len(chosen) + len(spare) >= MIN_COPIES:
            break
        rows = fuzz.generate(engine.tables, samples, gold, shape, source)
        exam = _exam(engine, engine.copy(rows), query, gold)
        if isinstance(exam, str):
            failure = exam
            continue
        left = [m for m in mutants if budget.left <= 0 or _survives(engine, exam, m)]
        if len(left) < len(mutants) and len(chosen) < MAX_COPIES:
            chosen.append(exam)
            mutants = left
        else:
            spare.append(exam)
        telling = sum(_tells(exam.truth) for exam in (*chosen, *spare))
        if not mutants and telling >= MIN_COPIES:
            break
    spare.sort(key=lambda exam: not _tells(exam.truth))  # stable: telling ones first
    return (*chosen, *spare[: max(0, MIN_COPIES + 2 - len(chosen))]), failure


def _exam(engine: Engine, session: Session, query: str, gold: GoldQuery) -> Exam | str:
    """Why not, where the gold query fails, takes too long or leaves its result open."""
    try:
        truth = _truth(session, query, gold, _brief(engine))
        again = session.run_otherwise(query, _brief(engine))
    except TooSlowError:
        return _TOO_SLOW
    except QueryError as error:
        return str(error)
    if not resultset.agrees(truth, again.rows):
        return "the gold query leaves its result open"
    return Exam(session, truth)


def _brief(engine: Engine) -> Budget:
    here = engine.clock is time.thread_time
    return Budget(COPY_S if here else SCHEDULING * COPY_S, engine.clock)


def _survives(engine: Engine, exam: Exam, mutant: str) -> bool:
    try:
        result = exam.session.run(mutant, _brief(engine), rows=exam.truth.size)
    except TooSlowError:
        return True
    except QueryError:
        return False  # no query that runs: nothing to tell apart
    return agrees(exam.truth, result)


def _tells(truth: Truth) -> bool:
    """Whether a wrong query could show here: some row has a value that is neither NULL nor 0."""
    return any(value not in (None, 0) for row in truth.shown for value in row)


def agrees(truth: Truth, result: Result) -> bool:
    """Whether a query with this result is right."""
    return result.whole and result.width == truth.width and resultset.agrees(truth, result.rows)
