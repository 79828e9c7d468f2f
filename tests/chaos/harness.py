"""Faults for a job that runs on a real local service, and what must be true of it afterwards.

A fault is one process killed with SIGKILL, a disk that takes no more, or a damaged checkpoint.
The job and the service are the caller's; nothing here knows how either heals.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil

from services.processes import Family
from services.traces import read_step, step_paths
from tests.services.local_service import Up
from trainer.dataset import TaskOrder

JOBS = "/v1/fine_tuning/jobs"

PROCESSES = {
    "rollout engine core": ("EngineCore",),
    "rollout actor": ("ray::RolloutEngine",),
    "teacher": ("ray::Teacher",),
    "trainer rank": ("RayTrainWorker",),
    "controller": ("ray::JobController",),
    "dispatcher": ("services.dispatcher",),
    "API": ("services.api",),
    "Valkey": ("valkey",),
}
"""Words of a victim's command line."""
VERIFIER_WORKER = "verifier worker"
FULL_DISK = "full disk"
DAMAGED = "damaged checkpoint"
FAULTS = (*PROCESSES, VERIFIER_WORKER, FULL_DISK, DAMAGED)
SETTLED = 6
"""Steps after a fault within which it must have shown."""
TIERS = ("EngineCore", "RolloutEngine", "Teacher", "RayTrainWorker", "JobController")


@dataclass
class Wound:
    """One fault: when it was done, at which step, and for how long no step was done for it."""

    fault: str
    step: int
    at: float
    stood_s: float = 0.0
    lost_steps: int = 0


@dataclass
class Patient:
    """A job under faults."""

    up: Up
    rest: httpx.Client
    job: str
    random: random.Random
    seen: set[psutil.Process] = field(default_factory=set[psutil.Process])
    _told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def events(self) -> list[dict[str, Any]]:
        """All events so far; waits for an API that is away."""
        more = True
        while more:
            after = self._told[-1]["id"] if self._told else 0
            page = self.get(f"{JOBS}/{self.job}/events?after={after}&limit=100")
            self._told += page["data"]
            more = page["has_more"]
        return self._told

    def get(self, path: str, seconds: float = 60) -> Any:
        """A GET that outlives the API's and the store's restarts."""
        until = time.monotonic() + seconds
        while True:
            try:
                answer = self.rest.get(path)
                if answer.status_code < 500:
                    return answer.raise_for_status().json()
                problem = answer.text
            except httpx.TransportError as error:
                problem = repr(error)
            assert time.monotonic() < until, f"GET {path}: {problem}"
            time.sleep(0.2)

    def step(self) -> int:
        """Steps that are done. A job that has ended is one that no fault can hit any more."""
        record = self.get(f"{JOBS}/{self.job}")
        assert record["status"] in ("queued", "running"), record
        steps = [e["data"]["step"] for e in self.events() if e["data"].get("kind") == "step"]
        return max(steps, default=0)

    def wait_for_step(self, step: int, seconds: float) -> None:
        """Until so many steps are done."""
        until = time.monotonic() + seconds
        while (done := self.step()) < step:
            assert time.monotonic() < until, (done, self.events()[-5:])
            time.sleep(0.2)

    def processes(self) -> list[tuple[psutil.Process, str]]:
        """Every process of the service, those whose parent is gone among them."""
        home = str(Path(self.up.facts["home"]).resolve())
        family = Family(hashlib.sha256(home.encode()).hexdigest()[:16])
        below = set(psutil.Process(self.up.process.pid).children(recursive=True))
        found: list[tuple[psutil.Process, str]] = []
        for process in below | family.members():
            try:
                found.append((process, f"{process.name()} {' '.join(process.cmdline())}"))
            except psutil.Error:
                continue
        self.seen |= {process for process, line in found if any(tier in line for tier in TIERS)}
        return found

    def victim(self, fault: str) -> psutil.Process:
        """The process that this fault kills."""
        found = self.processes()
        if fault == VERIFIER_WORKER:
            (pool, *_) = [process for process, line in found if "ray::VerifierPool" in line]
            return self.random.choice(pool.children(recursive=True))
        words = PROCESSES[fault]
        named = [process for process, line in found if any(word in line for word in words)]
        assert named, (fault, sorted(line[:80] for _, line in found))
        return self.random.choice(named)

    def hurt(self, fault: str, folder: Path) -> Wound:
        """Do the fault at once. `folder` is the job's own."""
        done = self.step()
        if fault == FULL_DISK:
            trainer = self.victim("trainer rank")
            with full_disk(trainer):
                self._until_told("cannot be written")
            return Wound(fault, done, time.monotonic())
        if fault == DAMAGED:
            newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
            state = newest / "state.safetensors"
            with state.open("r+b") as file:
                file.seek(state.stat().st_size // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
        self.victim("trainer rank" if fault == DAMAGED else fault).kill()
        return Wound(fault, done, time.monotonic())

    def _until_told(self, words: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not any(words in event["message"] for event in self.events()):
            assert time.monotonic() < until, words
            time.sleep(0.2)

    def suffer(self, faults: Sequence[str], folder: Path, every: int) -> list[Wound]:
        """Do one fault after another, each at a random moment after `every` more steps."""
        wounds: list[Wound] = []
        for fault in faults:
            self.wait_for_step(self.step() + every, 300)
            time.sleep(self.random.uniform(0, 1.5))
            before = len(self.events())
            wound = self.hurt(fault, folder)
            self.wait_for_step(wound.step + SETTLED, 300)
            wound.stood_s = self._stood(wound.step)
            wound.lost_steps = self._lost(before, wound.step)
            wounds.append(wound)
        return wounds

    def _stood(self, step: int) -> float:
        """Seconds beyond the usual between two of the steps after `step`."""
        at = [e["created_at"] for e in self.events() if e["data"].get("kind") == "step"]
        pauses = [later - earlier for earlier, later in pairwise(at)]
        return max(0.0, max(pauses[step - 1 :]) - statistics.median(pauses))

    def _lost(self, before: int, step: int) -> int:
        """Steps that were learned again, as the job's events tell."""
        words = ("going back to the checkpoint of step ", "continuing from the checkpoint of step ")
        lost = 0
        for event in self.events()[before:]:
            for word in words:
                if word in event["message"]:
                    back = int(event["message"].split(word)[1].split()[0].rstrip(";"))
                    lost = max(lost, step - back)
            if "going back to the start" in event["message"]:
                lost = step
        return lost


@contextmanager
def full_disk(process: psutil.Process) -> Iterator[None]:
    """No file of this process grows beyond a few bytes, as if the disk were full."""
    hard = process.rlimit(resource.RLIMIT_FSIZE)[1]
    process.rlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))


def assert_whole(patient: Patient, spec: dict[str, Any], tasks: Sequence[str]) -> None:
    """The job succeeded as if nothing had happened to it."""
    until = time.monotonic() + 300
    while (status := patient.get(f"{JOBS}/{patient.job}")["status"]) in ("queued", "running"):
        assert time.monotonic() < until, patient.events()[-5:]
        time.sleep(0.5)
    events = patient.events()
    assert status == "succeeded", [event["message"] for event in events[-8:]]

    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1)), "no gap"
    for kind in ("step", "evaluation", "checkpoint", "result"):
        told = [e["data"].get("step", 0) for e in events if e["data"].get("kind") == kind]
        assert len(told) == len(set(told)), (kind, told)
    steps = [e["data"]["step"] for e in events if e["data"].get("kind") == "step"]
    assert steps == list(range(1, spec["steps"] + 1)), "every step is told once, in order"

    traces = patient.get(f"{JOBS}/{patient.job}")["result"]["traces"]
    learned = [[group.task.id for group in read_step(p).groups] for p in step_paths(traces)]
    assert learned == undisturbed(spec, tasks)

    assert_no_orphans(patient)


def undisturbed(spec: dict[str, Any], tasks: Sequence[str]) -> list[list[str]]:
    """The task ids of each step of a job that nothing happens to: seed and file alone say them."""
    order = TaskOrder(len(tasks), spec.get("seed", 0), shuffle=True)
    size = spec["sampling"]["groups_per_step"]
    return [[tasks[index] for index in order.take(size)] for _ in range(spec["steps"])]


def assert_no_orphans(patient: Patient) -> None:
    """Nothing that worked for the job is alive when it is over."""
    until = time.monotonic() + 60
    while left := [line for _, line in patient.processes() if any(tier in line for tier in TIERS)]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
    _, alive = psutil.wait_procs(patient.seen, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def table(wounds: Sequence[Wound], steps: int) -> Iterator[str]:
    """What each fault cost, as a table."""
    yield "| fault | at step | seconds without a step | steps learned again |"
    yield "|---|---|---|---|"
    for wound in wounds:
        lost = f"{wound.lost_steps}, {wound.lost_steps / steps:.1%} of the tokens"
        yield f"| {wound.fault} | {wound.step} | {wound.stood_s:.1f} | {lost} |"
