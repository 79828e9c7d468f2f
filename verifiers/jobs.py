"""Jobs and their bounded queue, between any thread that has a completion to judge and the
one thread that keeps the workers. Knows neither workers nor specs.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from verifiers.needs import Needs
from verifiers.verdict import Verdict


class PoolError(RuntimeError):
    """The pool cannot serve: its workers do not start, or it was closed."""


@dataclass(eq=False, slots=True)
class Job:
    """One completion on its way to a verdict. `spec` is JSON text."""

    spec: str
    needs: Needs
    completion: str
    deadline_s: float | None = None
    """Wall seconds that the caller grants instead of the pool."""
    future: Future[Verdict] = field(default_factory=lambda: Future[Verdict]())
    faults: int = 0
    """Attempts that failed by our fault."""
    crashed: bool = False
    """A worker crashed at it once."""

    @property
    def message(self) -> dict[str, Any]:
        """What a worker is told of it."""
        return {
            "spec": self.spec,
            "completion": self.completion,
            "cpu_s": self.needs.cpu_s,
            "memory": self.needs.memory,
            "prepares": self.needs.prepares,
            "prove": self.crashed,
        }

    def begin(self) -> bool:
        """Whether it is still wanted; from then on it cannot be cancelled."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def abandon(self, reason: str) -> None:
        """Tell whoever waits that there will be no verdict."""
        if self.begin():
            self.future.set_exception(PoolError(reason))


class JobQueue:
    """At most `size` jobs; who comes later waits. `wakeup` is readable when there is news."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._waiting: deque[tuple[Job, Future[None]]] = deque()
        self.closed: str | None = None
        """Why nothing is taken any more."""
        self.wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __len__(self) -> int:
        return len(self._jobs) + len(self._waiting)

    def put(self, job: Job) -> Future[None] | None:
        """Queue a job, or say what to wait for until it is queued. Raises PoolError."""
        with self._lock:
            if self.closed is not None:
                raise PoolError(self.closed)
            if len(self._jobs) >= self._size:
                admitted: Future[None] = Future()
                self._waiting.append((job, admitted))
                return admitted
            self._jobs.append(job)
            os.eventfd_write(self.wakeup, 1)
        return None

    def put_back(self, job: Job) -> None:
        """Queue a job again, before all others."""
        with self._lock:
            self._jobs.appendleft(job)

    def take(self) -> Job | None:
        """The next job that is still wanted."""
        while (job := self._next()) is not None:
            if job.begin():
                return job
        return None

    def _next(self) -> Job | None:
        admitted: list[Future[None]] = []
        with self._lock:
            job = self._jobs.popleft() if self._jobs else None
            while self._waiting and len(self._jobs) < self._size:
                waiting, signal = self._waiting.popleft()
                if signal.set_running_or_notify_cancel():
                    self._jobs.append(waiting)
                    admitted.append(signal)
        for signal in admitted:
            signal.set_result(None)
        return job

    def close(self, reason: str) -> None:
        """Take nothing any more. Idempotent; the first reason counts."""
        with self._lock:
            if self.closed is None:
                self.closed = reason
                os.eventfd_write(self.wakeup, 1)

    def abandon(self) -> None:
        """Tell everybody whose job is still here why; the end of a closed queue."""
        reason = self.closed or "the queue was closed"
        with self._lock:
            left = [*self._jobs, *(job for job, _ in self._waiting)]
            signals = [signal for _, signal in self._waiting]
            self._jobs.clear()
            self._waiting.clear()
            os.close(self.wakeup)
        for job in left:
            job.abandon(reason)
        for signal in signals:
            if signal.set_running_or_notify_cancel():
                signal.set_exception(PoolError(reason))
