"""The worker process: reads jobs from descriptor 0, judges them, writes verdicts back.

Started by `process.WorkerProcess` through exec, with an empty environment and this one
descriptor. It dies with its parent, starts its sandbox, imports what its judges need, and
moves in behind walls of its own, which it proves, before it reads its first job; from then
on it can start no process, so it ends when a zygote of its sandbox does. One job's memory
and CPU time are limited by the kernel; the wall deadline is its parent's to keep.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from verifiers import symbolic, wire
from verifiers.judge import judge, prepare
from verifiers.process import Settings
from verifiers.sandbox import policy, resident, supervisor, walls
from verifiers.sandbox.supervisor import SandboxError
from verifiers.spec import AnySpec, parse_spec
from verifiers.verdict import Verdict

CHANNEL = 0
RESERVE = 2 * 2**30
PREPARE_CPU_S = 20.0
"""What a task may use once, before its first completion."""
_SLACK = 8 * 2**20


def main() -> None:
    """Serve until the parent closes the channel. The argument: settings, as JSON."""
    settings = Settings(**json.loads(sys.argv[1]))
    walls.die_with_parent()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    profile = settings.profile or walls.profile()
    supervisor.shared(unsafe=settings.unsafe, profile=profile)
    memory = _Memory(settings.memory)
    symbolic.warm_up()
    resident.move_in(
        policy.worker_reach(settings.databases, network=settings.network, profile=profile),
        profile=profile,
        mechanisms=settings.mechanisms,
        unsafe=settings.unsafe,
    )
    _send({"ready": True})
    worker = _Worker(memory)
    decoder = wire.Decoder()
    while data := os.read(CHANNEL, 2**16):
        for message in decoder.feed(data):
            worker.serve(message)


class _Memory:
    """Address space of this process. Raises MemoryError when it holds too much already."""

    def __init__(self, most: int) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = resource.getpagesize()
        if self._held() > most:
            raise MemoryError(f"a worker takes up {self._held() // 2**20} MiB before any work")
        # What reserves address space that it does not use, DuckDB, may take the rest.
        self._most, self._hard = most, most + RESERVE
        self._set(most)

    def allow(self, more: int) -> None:
        """Let one job take this much, within a few MiB, on top of what is held now."""
        most = self._hard if "duckdb" in sys.modules else self._most
        end = min(most, self._held() + more)
        if not 0 <= end - self._soft < _SLACK:  # a call of the kernel's saved for most jobs
            self._set(end)

    def allow_all(self) -> None:
        """Take the limit of a job back."""
        self._set(self._hard)

    def _set(self, soft: int) -> None:
        self._soft = soft
        resource.setrlimit(resource.RLIMIT_AS, (soft, self._hard))

    def _held(self) -> int:
        return int(os.pread(self._statm, 64, 0).split(maxsplit=1)[0]) * self._page


class _Clock:
    """Lets the kernel end this process once one job has used up its CPU time.

    The profiling timer is exact; the resource limit, in whole seconds, stands behind it.
    Neither needs the interpreter to come round, as a Python signal handler would.
    """

    def __init__(self) -> None:
        self._limit = 0

    def start(self, seconds: float) -> None:
        """Allow so many CPU seconds from now on."""
        limit = math.ceil(time.process_time() + seconds) + 1
        if limit != self._limit:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            self._limit = limit
        signal.setitimer(signal.ITIMER_PROF, seconds)

    def stop(self) -> None:
        """The job is done."""
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Worker:
    def __init__(self, memory: _Memory) -> None:
        self._memory, self._clock = memory, _Clock()
        self._prepared = ""
        self._full = False

    def serve(self, message: dict[str, Any]) -> None:
        """Judge one completion and send the verdict, or why there is none."""
        try:
            spec = _spec(message["spec"])
            if message["prepares"]:
                self._prepare(spec, message["spec"])
            if message["prove"]:
                self._judge(spec, "", message)
                _send({"stage": "sound", "cpu_s": time.process_time()})
            verdict = self._judge(spec, message["completion"], message)
        except SandboxError:  # this process cannot start another: it ends, the job goes elsewhere
            raise
        except Exception:
            _send({"error": traceback.format_exc(limit=-5)})
            return
        # A heap that was full is not handed to the next job.
        last = {"last": True} if self._full else {}
        _send({"verdict": asdict(verdict), "cpu_s": time.process_time(), **last})

    def _prepare(self, spec: AnySpec, text: str) -> None:
        if text == self._prepared:  # what was prepared last is still kept
            prepare(spec)
            return
        _send({"stage": "preparing"})
        self._memory.allow_all()
        self._clock.start(PREPARE_CPU_S)
        try:
            prepare(spec)
        finally:
            self._clock.stop()
        self._prepared = text
        _send({"stage": "prepared", "cpu_s": time.process_time()})

    def _judge(self, spec: AnySpec, completion: str, bounds: dict[str, Any]) -> Verdict:
        self._memory.allow(bounds["memory"])
        self._clock.start(bounds["cpu_s"])
        try:
            return judge(spec, completion)
        except MemoryError:
            self._full = True
            return Verdict(0.0, "timeout", {"limit": "memory"})
        finally:
            self._clock.stop()


@lru_cache(maxsize=256)
def _spec(text: str) -> AnySpec:
    return parse_spec(json.loads(text))


def _send(message: dict[str, Any]) -> None:
    data = memoryview(wire.encode(message))
    while data:
        data = data[os.write(CHANNEL, data) :]
