"""A pool of worker processes that judge completions under a hard deadline.

Jobs go in from any thread or event loop, verdicts come out; the queue is bounded. One
supervisor thread owns the workers: it hands a job to an idle one, starts the clock then,
kills and replaces a worker that is late or dead. Late is the candidate's fault: `timeout`,
score 0. Dead is ours: the job is tried once more elsewhere, then `infra_error`, no score.
No text of a model is parsed in the process that holds the pool.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from verifiers.judge import MAX_COMPLETION
from verifiers.process import Ending, Limits, WorkerProcess
from verifiers.spec import AnySpec, dump_spec, granted_s, located, parse_spec
from verifiers.strict_json import dumps
from verifiers.verdict import Verdict, clip
from verifiers.wire import WireError

Case = tuple[AnySpec | Mapping[str, Any], str]
"""A verifier spec (or its plain data) and a completion."""

MAX_ATTEMPTS = 2
MAX_FAILED_STARTS = 3


class PoolError(RuntimeError):
    """The pool cannot serve: its workers do not start, or it was closed."""


@dataclass(eq=False, slots=True)
class _Job:
    spec: str
    granted_s: float
    """Wall seconds that the spec itself grants, 0 when it names none."""
    completion: str
    deadline_s: float | None = None
    """Wall seconds that the caller grants instead of the pool."""
    future: Future[Verdict] = field(default_factory=lambda: Future[Verdict]())
    attempts: int = 0


@dataclass(eq=False, slots=True)
class _Worker:
    process: WorkerProcess
    state: Literal["starting", "idle", "busy"]
    deadline: float
    job: _Job | None = None
    started: float = 0.0
    cpu_s: float = 0.0


class WorkerPool:
    """`workers` processes, each judging one completion at a time.

    deadline_s   wall seconds one completion may take, counted from when its work starts
    cpu_s        CPU seconds it may use; a box that is busy elsewhere fails nobody
    memory       bytes of address space of a worker
    queue_size   cases that wait; beyond it, submitting waits
    start_s      seconds a worker may take to start
    unsafe       for development only: run code where the kernel lacks a wall of the sandbox;
                 every verdict says so

    Raises PoolError when the workers do not start, or find a hole in their sandbox. A context manager; `close` it.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        deadline_s: float = 10.0,
        cpu_s: float = 2.0,
        memory: int = 2**30,
        queue_size: int = 1024,
        start_s: float = 60.0,
        unsafe: bool = False,
    ) -> None:
        if workers < 1 or queue_size < 1 or min(deadline_s, cpu_s, start_s) <= 0:
            raise ValueError("a pool needs workers, a queue and deadlines above zero")
        self._limits = Limits(memory, cpu_s, unsafe)
        self._deadline_s, self._start_s = deadline_s, start_s
        self._size, self._queue_size = workers, queue_size
        self._lock = threading.Lock()
        self._queue: deque[_Job] = deque()
        self._waiting: deque[tuple[_Job, Future[None]]] = deque()
        self._closed: str | None = None
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self.replaced = 0
        """Workers that were killed or died and were replaced."""
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="verifier-pool", daemon=True)
        self._thread.start()
        try:
            self._ready.result(timeout=start_s * MAX_FAILED_STARTS + 10.0)
        except BaseException:
            self.close()
            raise

    def submit(self, spec: AnySpec | Mapping[str, Any], completion: str) -> Future[Verdict]:
        """Queue one case; waits while the queue is full. Raises SpecError and PoolError."""
        job = _Job(*_wire_spec(spec), completion)
        admitted = self._admit(job)
        if admitted is not None:
            admitted.result()
        return job.future

    def judge(self, spec: AnySpec | Mapping[str, Any], completion: str) -> Verdict:
        """The verdict on one completion."""
        return self.submit(spec, completion).result()

    def judge_many(self, cases: Iterable[Case]) -> list[Verdict]:
        """Verdicts in the order of the cases. Every spec is checked before work starts."""
        jobs = _jobs(cases)
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
        jobs = _jobs(cases, deadline_s)
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
        return [worker.process.pid for worker in self._workers]

    @property
    def busy(self) -> int:
        """Workers that are judging at this moment."""
        return sum(worker.state == "busy" for worker in self._workers)

    @property
    def queued(self) -> int:
        """Cases that wait for a worker, those of blocked callers included."""
        return len(self._queue) + len(self._waiting)

    def close(self) -> None:
        """End every worker. Cases that were not judged fail with PoolError. Idempotent."""
        self._shut("the pool was closed")
        self._thread.join(timeout=30.0)
        if self._thread.is_alive():
            raise PoolError("the supervisor thread did not end within 30 s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _admit(self, job: _Job) -> Future[None] | None:
        """Queue the job, or say what to wait for until the supervisor has queued it."""
        if len(job.completion) > MAX_COMPLETION:
            reason = f"a completion of {len(job.completion)} characters"
            job.future.set_result(Verdict(0.0, "malformed", {"reason": reason}))
            return None
        with self._lock:
            if self._closed is not None:
                raise PoolError(self._closed)
            if len(self._queue) >= self._queue_size:
                admitted: Future[None] = Future()
                self._waiting.append((job, admitted))
                return admitted
            self._queue.append(job)
            os.eventfd_write(self._wakeup, 1)
        return None

    def _next_job(self) -> _Job | None:
        admitted: list[Future[None]] = []
        with self._lock:
            job = self._queue.popleft() if self._queue else None
            while self._waiting and len(self._queue) < self._queue_size:
                waiting, signal = self._waiting.popleft()
                if signal.set_running_or_notify_cancel():
                    self._queue.append(waiting)
                    admitted.append(signal)
        for signal in admitted:
            signal.set_result(None)
        return job

    def _shut(self, reason: str) -> None:
        with self._lock:
            if self._closed is None:
                self._closed = reason
                os.eventfd_write(self._wakeup, 1)

    # What follows runs in the supervisor thread alone.

    def _run(self) -> None:
        reason = "the pool was closed"
        try:
            with selectors.DefaultSelector() as selector:
                self._supervise(selector)
        except PoolError as error:
            reason = str(error)
        except Exception as error:  # a pool must not die in silence: every caller hears of it
            reason = f"the pool failed: {error!r}"
        finally:
            self._shut(reason)
            for worker in self._workers:
                worker.process.end()
                self._abandon(worker.job, reason)
            self._workers.clear()
            with self._lock:
                left = [*self._queue, *(job for job, _ in self._waiting)]
                signals = [signal for _, signal in self._waiting]
                self._queue.clear()
                self._waiting.clear()
                os.close(self._wakeup)
            for job in left:
                self._abandon(job, reason)
            for signal in signals:
                if signal.set_running_or_notify_cancel():
                    signal.set_exception(PoolError(reason))
            if not self._ready.done():
                self._ready.set_exception(PoolError(reason))

    @staticmethod
    def _abandon(job: _Job | None, reason: str) -> None:
        if job is not None and (job.future.running() or job.future.set_running_or_notify_cancel()):
            job.future.set_exception(PoolError(reason))

    def _supervise(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._wakeup, selectors.EVENT_READ)
        for _ in range(self._size):
            self._start(selector)
        while self._closed is None:
            self._dispatch(selector)
            deadlines = [w.deadline for w in self._workers if w.state != "idle"]
            wait = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            for key, events in selector.select(wait):
                if key.data is None:
                    os.eventfd_read(self._wakeup)
                else:
                    self._attend(selector, key.data, events)
            now = time.monotonic()
            for worker in [w for w in self._workers if w.state != "idle" and w.deadline <= now]:
                self._replace(selector, worker, late=True)

    def _start(self, selector: selectors.BaseSelector) -> None:
        process = WorkerProcess(self._limits)
        worker = _Worker(process, "starting", time.monotonic() + self._start_s)
        self._workers.append(worker)
        selector.register(process.channel, selectors.EVENT_READ, worker)

    def _replace(
        self, selector: selectors.BaseSelector, worker: _Worker, *, late: bool = False
    ) -> None:
        """End a worker, settle its job, start another: in this order, so that a start that
        fails leaves no caller waiting."""
        selector.unregister(worker.process.channel)
        self._workers.remove(worker)
        ending = worker.process.end()
        if worker.job is not None:
            if late:
                self._time_out(worker.job, worker, ending, "wall", self._wall_s(worker.job))
            elif ending.out_of_cpu:
                self._time_out(worker.job, worker, ending, "cpu", self._limits.cpu_s)
            else:
                self._fault(worker.job, f"the worker died: {ending}")
        if worker.state == "starting":
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise PoolError(
                    f"verifier workers do not start within {self._start_s:g} s "
                    f"and {self._limits.memory // 2**20} MiB: {ending}"
                )
        self.replaced += 1
        self._start(selector)

    def _dispatch(self, selector: selectors.BaseSelector) -> None:
        for worker in [w for w in self._workers if w.state == "idle"]:
            job = self._next_job()
            while job is not None and not (
                job.future.running() or job.future.set_running_or_notify_cancel()
            ):
                job = self._next_job()
            if job is None:
                return
            try:
                worker.process.send({"spec": job.spec, "completion": job.completion})
            except OSError:  # it died idle: nobody's attempt
                with self._lock:
                    self._queue.appendleft(job)
                self._replace(selector, worker)
                continue
            worker.state, worker.job = "busy", job
            worker.started = time.monotonic()
            worker.deadline = worker.started + self._wall_s(job)
            job.attempts += 1
            if worker.process.sending:
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                selector.modify(worker.process.channel, both, worker)

    def _attend(self, selector: selectors.BaseSelector, worker: _Worker, events: int) -> None:
        if worker not in self._workers:
            return
        try:
            if events & selectors.EVENT_WRITE:
                worker.process.flush()
                if not worker.process.sending:
                    selector.modify(worker.process.channel, selectors.EVENT_READ, worker)
            messages = worker.process.receive() if events & selectors.EVENT_READ else []
        except (OSError, WireError):
            messages = None
        if messages is None:
            self._replace(selector, worker)
            return
        for message in messages:
            self._hear(selector, worker, message)

    def _hear(
        self, selector: selectors.BaseSelector, worker: _Worker, message: dict[str, Any]
    ) -> None:
        job, worker.job = worker.job, None
        worker.state = "idle"
        worker.cpu_s = float(message.get("cpu_s", worker.cpu_s))
        self._failed_starts = 0
        if job is None:
            if not self._ready.done() and all(w.state == "idle" for w in self._workers):
                self._ready.set_result(None)
        elif "verdict" in message:
            job.future.set_result(Verdict(**message["verdict"]))
            if message.get("last"):
                self._replace(selector, worker)
        else:
            self._fault(job, str(message.get("error", "a message without a verdict")))

    def _wall_s(self, job: _Job) -> float:
        return max(job.deadline_s or self._deadline_s, job.granted_s)

    @staticmethod
    def _time_out(job: _Job, worker: _Worker, ending: Ending, limit: str, seconds: float) -> None:
        verdict = Verdict(
            0.0,
            "timeout",
            {"limit": limit, "seconds": seconds},
            cpu_ms=max(0.0, ending.cpu_s - worker.cpu_s) * 1e3,
            wall_ms=(time.monotonic() - worker.started) * 1e3,
        )
        job.future.set_result(verdict)

    def _fault(self, job: _Job, reason: str) -> None:
        if job.attempts < MAX_ATTEMPTS:
            with self._lock:
                self._queue.appendleft(job)
            return
        job.future.set_result(Verdict(None, "infra_error", {"reason": clip(reason)}))


def _jobs(cases: Iterable[Case], deadline_s: float | None = None) -> Sequence[_Job]:
    known: dict[int, tuple[str, float]] = {}
    jobs: list[_Job] = []
    for spec, completion in list(cases):
        wired = known.get(id(spec)) or known.setdefault(id(spec), _wire_spec(spec))
        jobs.append(_Job(*wired, completion, deadline_s))
    return jobs


def _wire_spec(spec: AnySpec | Mapping[str, Any]) -> tuple[str, float]:
    """The spec as text, and the wall seconds that it grants."""
    parsed = located(parse_spec(spec) if isinstance(spec, Mapping) else spec)
    return dumps(dump_spec(parsed)), granted_s(parsed)
