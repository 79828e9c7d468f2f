"""A pool of worker processes that judge completions under a hard deadline.

Cases go in from any thread or event loop, verdicts come out; the queues are bounded. Two
crews of workers (see `crew`) serve them, both behind walls: one without a network for all
that can be judged on this machine, one with it for the rest, which is started when the
first such spec arrives, so that a slow grader elsewhere holds up nobody else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from verifiers.crew import MAX_FAILED_STARTS, Crew
from verifiers.databases import Databases, Folder
from verifiers.jobs import Job, JobQueue, PoolError
from verifiers.judge import MAX_COMPLETION
from verifiers.needs import Needs, needs
from verifiers.process import Settings
from verifiers.sandbox.policy import Profile
from verifiers.spec import AnySpec, dump_spec, parse_spec
from verifiers.strict_json import dumps
from verifiers.verdict import Verdict

__all__ = ["Case", "PoolError", "WorkerPool"]

Case = tuple[AnySpec | Mapping[str, Any], str]
"""A verifier spec (or its plain data) and a completion."""


class WorkerPool:
    """`workers` processes of each class, each judging one completion at a time.

    databases    folders whose files SQL specs may name; a relative path starts from the first.
                 None: any file, as the specs name them; for specs of the caller's own
    deadline_s   wall seconds one completion may take, counted from when its work starts
    cpu_s        CPU seconds it may use, where that is not to be as its kind needs; a box that
                 is busy elsewhere fails nobody
    memory       bytes of address space of a worker
    queue_size   cases of each class that wait; beyond it, submitting waits
    start_s      seconds a worker may take to start
    profile      how files are kept out of reach; by default, with what the kernel has
    unsafe       for development only: serve where the kernel lacks a wall; every verdict says so

    Raises PoolError when the workers do not start, or find a hole in their walls, and
    ValueError. A context manager; `close` it.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        databases: Sequence[Folder] | None = (),
        deadline_s: float = 10.0,
        cpu_s: float | None = None,
        memory: int = 2**30,
        queue_size: int = 1024,
        start_s: float = 60.0,
        profile: Profile | None = None,
        unsafe: bool = False,
    ) -> None:
        bounds = (deadline_s, start_s, *(() if cpu_s is None else (cpu_s,)))
        if workers < 1 or queue_size < 1 or min(bounds) <= 0:
            raise ValueError("a pool needs workers, a queue and deadlines above zero")
        self._databases = Databases(databases)
        self._settings = Settings(memory, profile=profile, unsafe=unsafe)
        self._cpu_s, self._queue_size = cpu_s, queue_size
        self._size, self._deadline_s, self._start_s = workers, deadline_s, start_s
        self._lock = threading.Lock()
        self._closed = False
        self._crews: dict[bool, tuple[JobQueue, Crew]] = {}
        try:
            _, crew = self._crew(network=False)
            crew.ready.result(timeout=start_s * MAX_FAILED_STARTS + 10.0)
        except BaseException:
            self.close()
            raise

    def submit(self, spec: AnySpec | Mapping[str, Any], completion: str) -> Future[Verdict]:
        """Queue one case; waits while the queue is full. Raises SpecError and PoolError."""
        job = Job(*self._wire(spec), completion)
        admitted = self._admit(job)
        if admitted is not None:
            admitted.result()
        return job.future

    def judge(self, spec: AnySpec | Mapping[str, Any], completion: str) -> Verdict:
        """The verdict on one completion."""
        return self.submit(spec, completion).result()

    def judge_many(self, cases: Iterable[Case]) -> list[Verdict]:
        """Verdicts in the order of the cases. Every spec is checked before work starts."""
        jobs = self._jobs(cases)
        for job in jobs:
            admitted = self._admit(job)
            if admitted is not None:
                admitted.result()
        return [job.future.result() for job in jobs]

    async def judge_async(self, spec: AnySpec | Mapping[str, Any], completion: str) -> Verdict:
        """`judge` for an event loop."""
        (verdict,) = await self.judge_many_async([(spec, completion)])
        return verdict

    async def judge_many_async(
        self, cases: Iterable[Case], deadline_s: float | None = None
    ) -> list[Verdict]:
        """`judge_many` for an event loop; a cancelled caller takes its waiting cases along.

        `deadline_s` takes the place of the pool's own.
        """
        jobs = self._jobs(cases, deadline_s)
        try:
            for job in jobs:
                admitted = self._admit(job)
                if admitted is not None:
                    await asyncio.wrap_future(admitted)
            return [await asyncio.wrap_future(job.future) for job in jobs]
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers at this moment."""
        return [pid for _, crew in self._all() for pid in crew.pids]

    @property
    def busy(self) -> int:
        """Workers that are judging at this moment."""
        return sum(crew.busy for _, crew in self._all())

    @property
    def queued(self) -> int:
        """Cases that wait for a worker, those of blocked callers included."""
        return sum(len(queue) for queue, _ in self._all())

    @property
    def replaced(self) -> int:
        """Workers that were killed or died and were replaced."""
        return sum(crew.replaced for _, crew in self._all())

    def close(self) -> None:
        """End every worker. Cases that were not judged fail with PoolError. Idempotent."""
        with self._lock:
            self._closed = True
        for queue, _ in self._all():
            queue.close("the pool was closed")
        ended = [crew.join(30.0) for _, crew in self._all()]
        if not all(ended):
            raise PoolError("a thread of the pool did not end within 30 s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _all(self) -> list[tuple[JobQueue, Crew]]:
        with self._lock:
            return list(self._crews.values())

    def _crew(self, *, network: bool) -> tuple[JobQueue, Crew]:
        """The queue and workers of a class, which start when they are first asked for."""
        with self._lock:
            if self._closed:
                raise PoolError("the pool was closed")
            if network not in self._crews:
                queue = JobQueue(self._queue_size)
                crew = Crew(
                    replace(self._settings, network=network),
                    self._databases,
                    size=self._size,
                    queue=queue,
                    deadline_s=self._deadline_s,
                    start_s=self._start_s,
                )
                self._crews[network] = queue, crew
            return self._crews[network]

    def _admit(self, job: Job) -> Future[None] | None:
        """Queue the job, or say what to wait for until it is queued."""
        if len(job.completion) > MAX_COMPLETION:
            reason = f"a completion of {len(job.completion)} characters"
            job.future.set_result(Verdict(0.0, "malformed", {"reason": reason}))
            return None
        queue, _ = self._crew(network=job.needs.network)
        return queue.put(job)

    def _jobs(self, cases: Iterable[Case], deadline_s: float | None = None) -> Sequence[Job]:
        known: dict[int, tuple[str, Needs]] = {}
        jobs: list[Job] = []
        for spec, completion in list(cases):
            wired = known.get(id(spec)) or known.setdefault(id(spec), self._wire(spec))
            jobs.append(Job(*wired, completion, deadline_s))
        return jobs

    def _wire(self, spec: AnySpec | Mapping[str, Any]) -> tuple[str, Needs]:
        """The spec as text, with its files by their real paths, and what it needs."""
        parsed = parse_spec(spec) if isinstance(spec, Mapping) else spec
        wanted = needs(parsed)
        if self._cpu_s is not None:
            wanted = replace(wanted, cpu_s=self._cpu_s)
        found, folders = self._databases.located(parsed)
        return dumps(dump_spec(found)), replace(wanted, folders=folders)
