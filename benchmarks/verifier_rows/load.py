"""The pool under load: latency through its Ray actor, and verdicts while workers are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.verifier_rows import sql_mutants
from benchmarks.verifier_rows.kinds import Case, mixed_cases
from services.verification import VerifierPool
from trainer.records import Rollout
from verifiers.pool import WorkerPool

GROUP = 8
DEADLINE_S = 10.0
START_S = 3.0
"""Seconds a worker takes to start on a busy machine."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds a group of verdicts takes, as its caller sees it, and verdicts a second."""

    p50: float
    p99: float
    per_second: float
    groups: int


@contextmanager
def _cluster(cpus: int) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as folder:
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder,
            log_to_driver=False, configure_logging=False, object_store_memory=200 << 20,
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()


def _cases(database: Path) -> Iterator[Case]:
    """Of every kind, SQL among them where there is a database to query."""
    return mixed_cases(*([sql_mutants.labelled(database)] if database.exists() else []))


def _folders(database: Path) -> list[str]:
    return [str(database.parent)] if database.exists() else []


def latency(workers: int, groups: int, clients: int, database: Path) -> Latency:
    """Groups of mixed verdicts from so many clients, each of which waits for its answer."""
    with _cluster(workers):
        return asyncio.run(_latency(workers, groups, clients, database))


async def _latency(workers: int, groups: int, clients: int, database: Path) -> Latency:
    actor: Any = ray.remote(VerifierPool).options(num_cpus=0)
    pool = actor.remote(workers, DEADLINE_S, _folders(database))
    await pool.ready.remote()
    cases = _cases(database)
    seconds: list[float] = []

    async def client(count: int, *, counted: bool) -> None:
        for _ in range(count):
            spec, text, right = next(cases)
            rollouts = [_rollout(text)] * GROUP
            started = time.perf_counter()
            _, summary = pool.judge.options(num_returns=2).remote(spec, rollouts)
            verdicts = await summary
            if counted:
                seconds.append(time.perf_counter() - started)
            for _, status in verdicts:
                assert (status == "correct") == right, (spec, text, status)

    await asyncio.gather(*(client(18, counted=False) for _ in range(clients)))
    started = time.perf_counter()
    await asyncio.gather(*(client(groups // clients, counted=True) for _ in range(clients)))
    spent = time.perf_counter() - started
    await pool.stop.remote()
    p50, p99 = np.percentile(seconds, (50, 99))
    return Latency(float(p50), float(p99), GROUP * len(seconds) / spent, len(seconds))


def _rollout(text: str) -> Rollout:
    nothing = np.zeros(1, np.int32)
    return Rollout(nothing, nothing, np.zeros(1, np.float32), text, 0, "stop")


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of verdicts while workers were killed."""

    asked: int
    lost: int
    """Cases without a verdict."""
    wrong: int
    """Verdicts that are not what the case is labelled."""
    false_zeros: int
    """Of those, right answers with score 0."""
    infra_errors: int
    """Verdicts without a score: our fault, and said so."""
    killed: int
    seconds: float


def survival(workers: int, verdicts: int, database: Path, seed: int = 0) -> Survival:
    """So many mixed verdicts while a worker at random is killed about every second."""
    cases: list[Case] = list(islice(_cases(database), verdicts))
    source, over, killed = random.Random(seed), threading.Event(), 0
    with WorkerPool(workers, deadline_s=DEADLINE_S, databases=_folders(database)) as pool:

        def kill() -> None:
            nonlocal killed
            seen: dict[int, float] = {}
            while not over.wait(source.uniform(0.5, 2.0)):
                now = time.monotonic()
                seen = {pid: seen.get(pid, now) for pid in pool.pids}
                # One that is killed while it starts says that workers do not start.
                ready = [pid for pid, since in seen.items() if now - since > START_S]
                if ready:
                    os.kill(source.choice(ready), signal.SIGKILL)
                    killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        started = time.perf_counter()
        try:
            judged = pool.judge_many((spec, text) for spec, text, _ in cases)
        finally:
            over.set()
            killer.join()
        seconds = time.perf_counter() - started
    found: Counter[str] = Counter()
    for verdict, (_, _, right) in zip(judged, cases, strict=False):
        if verdict.status == "infra_error":
            found["infra"] += 1
        elif (verdict.status == "correct") != right:
            found["wrong"] += 1
            found["zero"] += right
    return Survival(
        len(cases), len(cases) - len(judged), found["wrong"], found["zero"], found["infra"],
        killed, seconds,
    )  # fmt: skip
