"""The verifiers of the API process: a small pool of workers, started by the first request.

What a caller may ask of them is bounded here: how long and how much memory, which database
files, how many requests at a time. Verdicts are counted in the store, with those of jobs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from services.errors import InvalidRequest, Problem, VerifiersUnavailable
from services.verdict_counts import VerdictCounts
from verifiers import model_endpoint
from verifiers.code_spec import CodeSpec, PythonSpec
from verifiers.model_specs import ModelSpec
from verifiers.pool import PoolError, WorkerPool
from verifiers.spec import AnySpec, granted_s, located, plain
from verifiers.sql_spec import SqlSpec
from verifiers.verdict import Verdict

MAX_REQUESTS = 64
"""Requests that are judged or wait for a worker."""
MAX_GRANTED_S = 300.0
"""Wall seconds that a spec may grant itself."""
MAX_MEMORY_MB = 2048
DEADLINE_S = 10.0
"""Wall seconds of a verdict whose spec names none."""
WAIT_S = 60.0
"""Seconds that a request may wait for a worker and its start."""

_log = logging.getLogger(__name__)

Count = Callable[[str, Mapping[str, float], Mapping[str, float]], Awaitable[None]]


class Judging:
    """Judges completions in up to `workers` processes; `close` it.

    SQL graders may query files in `databases` alone, none when it is None.
    """

    def __init__(self, workers: int, databases: Path | None) -> None:
        self._workers, self._databases = workers, databases
        self._pool: WorkerPool | None = None
        self._starting = asyncio.Lock()
        self._requests = 0
        self._replaced = 0
        self._counts = VerdictCounts()

    def admitted(self, spec: AnySpec) -> AnySpec:
        """The spec with its files located. Raises InvalidRequest for what it may not ask."""
        if granted_s(spec) > MAX_GRANTED_S:
            raise _refused(
                f"grants itself {granted_s(spec):.0f} s of wall time; {MAX_GRANTED_S:.0f} are "
                "allowed here: lower its timeouts, or its number of runs"
            )
        spec = located(spec, str(self._databases or "/"))
        for leaf in plain(spec):
            if isinstance(leaf, CodeSpec | PythonSpec) and leaf.memory_mb > MAX_MEMORY_MB:
                raise _refused(f"memory_mb is {leaf.memory_mb}; {MAX_MEMORY_MB} are allowed here")
            if isinstance(leaf, SqlSpec):
                self._check_database(leaf)
            if isinstance(leaf, ModelSpec) and (why := model_endpoint.missing()):
                raise _refused(f"type: a {leaf.kind} grader {why}")
        return spec

    def _check_database(self, spec: SqlSpec) -> None:
        """Only files, and only those of the folder: symbolic links do not lead out of it."""
        if self._databases is None or spec.engine not in ("sqlite", "duckdb"):
            raise _refused(
                "database: no database of this engine may be queried through the API; an operator "
                "may name a folder of SQLite and DuckDB files in STROP_DATABASES"
            )
        if not Path(spec.database).resolve().is_relative_to(self._databases.resolve()):
            raise _refused("database: lies outside of the folder that STROP_DATABASES names")

    async def judge(self, spec: AnySpec, completion: str, count: Count) -> Verdict:
        """The verdict on a completion. Raises VerifiersUnavailable."""
        if self._requests >= MAX_REQUESTS:
            raise VerifiersUnavailable(
                f"{MAX_REQUESTS} completions are being judged already; try again in a moment"
            )
        self._requests += 1
        seconds = WAIT_S + max(DEADLINE_S, granted_s(spec))
        try:
            async with asyncio.timeout(seconds):
                verdict = await self._judged(spec, completion)
        except TimeoutError as error:
            raise VerifiersUnavailable(
                f"no worker had time for it within {seconds:.0f} s; try again later"
            ) from error
        finally:
            self._requests -= 1
        self._counts.add(spec.kind, [verdict])
        await count("api", self._counts.take(), {})
        return verdict

    async def _judged(self, spec: AnySpec, completion: str) -> Verdict:
        pool: WorkerPool | None = None
        try:
            pool = await self._started()
            verdict = await pool.judge_async(spec, completion)
        except PoolError as error:
            _log.exception("the verifiers do not serve")
            if pool is not None and pool is self._pool:
                self._pool = None  # the next request starts another
                await asyncio.to_thread(pool.close)
            raise VerifiersUnavailable(
                "the verifiers of the API do not serve; the service's log says why"
            ) from error
        self._counts.replaced("worker", pool.replaced - self._replaced)
        self._replaced = pool.replaced
        return verdict

    async def _started(self) -> WorkerPool:
        async with self._starting:
            if self._pool is None:
                folders = () if self._databases is None else (self._databases,)
                starting = asyncio.to_thread(
                    WorkerPool, self._workers, deadline_s=DEADLINE_S, databases=folders
                )
                # A caller who goes away must not leave a pool behind that nobody closes.
                self._pool = await _whole(starting)
                self._replaced = 0
            return self._pool

    async def close(self) -> None:
        """End the workers."""
        async with self._starting:
            if self._pool is not None:
                await asyncio.to_thread(self._pool.close)
                self._pool = None


async def _whole(work: Awaitable[WorkerPool]) -> WorkerPool:
    """The result; a cancellation waits for it and closes it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        pool = await task
        await asyncio.to_thread(pool.close)
        raise


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest([Problem("grader", message)])
