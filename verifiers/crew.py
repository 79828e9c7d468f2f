"""Worker processes of one class, and the thread that keeps them.

The thread hands a job to an idle worker, starts the clock then, kills and replaces a worker
that is late or dead, and decides whose fault that was:

* late, or out of CPU, while it judged: the candidate's, `timeout`;
* killed from outside, or dead of an error of ours: ours, tried once more elsewhere, then
  `infra_error`;
* crashed (by a signal that a process brings upon itself): tried once more in a new worker,
  which first judges an empty text by the same spec; when it comes to that and then crashes
  again, the text cannot be judged: the candidate's, `malformed`;
* anything while it still prepared the task, or judged that empty text: ours.

No text of a model is parsed in this process.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

from verifiers.databases import Databases
from verifiers.jobs import Job, JobQueue, PoolError
from verifiers.process import Ending, Settings, WorkerProcess
from verifiers.verdict import Verdict, clip
from verifiers.wire import WireError

MAX_ATTEMPTS = 2
MAX_FAILED_STARTS = 3
PATIENCE_WITH_KILLS = 20
"""As many workers that are killed while they start count as one that fails to."""
PREPARE_S = 60.0
"""Wall seconds that a worker may take over what a task needs once."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: WorkerProcess
    state: Literal["starting", "idle", "preparing", "busy"]
    deadline: float
    job: Job | None = None
    """Its job; while it starts, the one that waits for it and no other."""
    started: float = 0.0
    cpu_s: float = 0.0

    @property
    def folders(self) -> int:
        """How many of the pool's folders it may read."""
        return len(self.process.settings.databases)


class Crew:
    """`size` workers and their queue. `ready` is done when they have started.

    databases    the folders that a worker may read, as they are when it starts
    deadline_s   wall seconds one completion may take, or more where its spec grants more
    start_s      seconds a worker may take to start
    """

    def __init__(
        self,
        settings: Settings,
        databases: Databases,
        *,
        size: int,
        queue: JobQueue,
        deadline_s: float,
        start_s: float,
    ) -> None:
        self._settings, self._databases, self._size = settings, databases, size
        self._deadline_s, self._start_s = deadline_s, start_s
        self._queue = queue
        self._workers: list[_Worker] = []
        self._failed_starts = 0.0
        self.replaced = 0
        """Workers that were killed or died and were replaced."""
        self.ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="verifier-crew", daemon=True)
        self._thread.start()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers at this moment."""
        return [worker.process.pid for worker in self._workers]

    @property
    def busy(self) -> int:
        """Workers that are judging at this moment."""
        return sum(worker.state in ("preparing", "busy") for worker in self._workers)

    def join(self, seconds: float) -> bool:
        """Whether the thread ended in time, after its queue was closed."""
        self._thread.join(timeout=seconds)
        return not self._thread.is_alive()

    # What follows runs in the thread alone.

    def _run(self) -> None:
        reason = "the pool was closed"
        try:
            with selectors.DefaultSelector() as selector:
                self._supervise(selector)
        except PoolError as error:
            reason = str(error)
        except Exception as error:  # a crew must not die in silence: every caller hears of it
            reason = f"the pool failed: {error!r}"
        finally:
            self._queue.close(reason)
            for worker in self._workers:
                worker.process.end()
                if worker.job is not None:
                    worker.job.abandon(reason)
            self._workers.clear()
            self._queue.abandon()
            if not self.ready.done():
                self.ready.set_exception(PoolError(reason))

    def _supervise(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._queue.wakeup, selectors.EVENT_READ)
        for _ in range(self._size):
            self._start(selector)
        while self._queue.closed is None:
            self._dispatch(selector)
            deadlines = [w.deadline for w in self._workers if w.state != "idle"]
            wait = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            for key, events in selector.select(wait):
                if key.data is None:
                    os.eventfd_read(self._queue.wakeup)
                else:
                    self._attend(selector, key.data, events)
            now = time.monotonic()
            for worker in [w for w in self._workers if w.state != "idle" and w.deadline <= now]:
                self._replace(selector, worker, late=True)

    def _start(self, selector: selectors.BaseSelector, job: Job | None = None) -> None:
        process = WorkerProcess(replace(self._settings, databases=self._databases.folders))
        worker = _Worker(process, "starting", time.monotonic() + self._start_s, job)
        self._workers.append(worker)
        selector.register(process.channel, selectors.EVENT_READ, worker)

    def _renew(self, selector: selectors.BaseSelector, worker: _Worker) -> None:
        """Give an idle worker's place, and its job, to one that may read what the job names."""
        selector.unregister(worker.process.channel)
        self._workers.remove(worker)
        worker.process.end()
        self._start(selector, worker.job)

    def _replace(
        self, selector: selectors.BaseSelector, worker: _Worker, *, late: bool = False
    ) -> None:
        """End a worker, settle its job, start another: in this order, so that a start that
        fails leaves no caller waiting."""
        selector.unregister(worker.process.channel)
        self._workers.remove(worker)
        ending = worker.process.end()
        left = self._after(worker, ending, late=late)
        if worker.state == "starting":
            # One killed from outside says little of the next; out of memory looks the same.
            killed = ending.killed and not late
            self._failed_starts += 1 / PATIENCE_WITH_KILLS if killed else 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                if left is not None:
                    self._queue.put_back(left)
                raise PoolError(
                    f"verifier workers do not start within {self._start_s:g} s "
                    f"and {self._settings.memory // 2**20} MiB: {ending}"
                )
        self.replaced += 1
        self._start(selector, left)

    def _after(self, worker: _Worker, ending: Ending, *, late: bool) -> Job | None:
        """Settle the job of a worker that ended, or return it for the one that comes next."""
        job = worker.job
        if job is None or worker.state in ("starting", "idle"):
            return job
        if worker.state == "preparing":
            how = f"took more than {PREPARE_S:g} s" if late else f"ended: {ending}"
            return self._fault(job, f"preparing the task {how}")
        if late:
            evidence = {"limit": "wall", "seconds": self._wall_s(job)}
            self._settle(worker, Verdict(0.0, "timeout", evidence), ending)
        elif ending.out_of_cpu:
            evidence = {"limit": "cpu", "seconds": job.needs.cpu_s}
            self._settle(worker, Verdict(0.0, "timeout", evidence), ending)
        elif ending.crashed and job.crashed:
            reason = f"the judge crashed twice at this text, and at no other: {ending}"
            self._settle(worker, Verdict(0.0, "malformed", {"reason": clip(reason)}), ending)
        elif ending.crashed:
            job.crashed = True
            return job
        else:
            return self._fault(job, f"the worker died: {ending}")
        return None

    def _fault(self, job: Job, reason: str) -> Job | None:
        """Count an attempt that failed by our fault; a new worker gets what had crashed."""
        job.faults += 1
        if job.faults >= MAX_ATTEMPTS:
            self._tell(job, Verdict(None, "infra_error", {"reason": clip(reason)}))
        elif job.crashed:
            return job
        else:
            self._queue.put_back(job)
        return None

    def _settle(self, worker: _Worker, verdict: Verdict, ending: Ending) -> None:
        assert worker.job is not None, "only a worker at a job is settled with"
        cpu_ms = max(0.0, ending.cpu_s - worker.cpu_s) * 1e3
        wall_ms = (time.monotonic() - worker.started) * 1e3
        told = Verdict(verdict.score, verdict.status, verdict.evidence, cpu_ms, wall_ms)
        self._tell(worker.job, told)

    def _tell(self, job: Job, verdict: Verdict) -> None:
        if self._settings.unsafe:
            evidence = {**verdict.evidence, "tainted": "run without the walls of the sandbox"}
            verdict = Verdict(
                verdict.score, verdict.status, evidence, verdict.cpu_ms, verdict.wall_ms
            )
        job.future.set_result(verdict)

    def _dispatch(self, selector: selectors.BaseSelector) -> None:
        for worker in [w for w in self._workers if w.state == "idle"]:
            job = worker.job or self._queue.take()
            if job is None:
                continue
            worker.job = job
            if job.needs.folders > worker.folders:
                self._renew(selector, worker)
                continue
            try:
                worker.process.send(job.message)
            except OSError:  # it died idle: nobody's attempt
                self._replace(selector, worker)
                continue
            if job.crashed:
                self._wait_for(worker)
            else:
                self._set_clock(worker, job)
            if worker.process.sending:
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                selector.modify(worker.process.channel, both, worker)

    def _set_clock(self, worker: _Worker, job: Job) -> None:
        worker.state, worker.started = "busy", time.monotonic()
        worker.deadline = worker.started + self._wall_s(job)

    def _wall_s(self, job: Job) -> float:
        return max(job.deadline_s or self._deadline_s, job.needs.granted_s)

    @staticmethod
    def _wait_for(worker: _Worker) -> None:
        worker.state, worker.deadline = "preparing", time.monotonic() + PREPARE_S

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
        worker.cpu_s = float(message.get("cpu_s", worker.cpu_s))
        if worker.state == "starting":
            worker.state = "idle"
            self._failed_starts = 0
            if not self.ready.done() and all(w.state == "idle" for w in self._workers):
                self.ready.set_result(None)
            return
        job = worker.job
        assert job is not None, "a worker speaks when it is at a job"
        stage = message.get("stage")
        if stage == "preparing":
            self._wait_for(worker)
        if stage == "sound" or (stage == "prepared" and not job.crashed):
            self._set_clock(worker, job)
        if stage is not None:
            return
        worker.job, worker.state = None, "idle"
        if "verdict" in message:
            self._tell(job, Verdict(**message["verdict"]))
            if message.get("last"):
                self._replace(selector, worker)
        elif again := self._fault(job, str(message.get("error", "a message without a verdict"))):
            self._queue.put_back(again)
