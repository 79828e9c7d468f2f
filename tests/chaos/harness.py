"""Faults for a job that runs on a real local service, and what must be true of it afterwards.

A fault is one process killed with SIGKILL, a disk that takes no more, or a damaged checkpoint.
The job and the service are the caller's; nothing here knows how either heals.
"""

from __future__ import annotations

import hashlib
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
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
"""With the trainer and the controller, so that somebody reads it."""
FAULTS = (*PROCESSES, VERIFIER_WORKER, FULL_DISK, DAMAGED)
BEFORE = 2
"""Steps between the end of one fault and the next."""
SETTLED = 4
"""Steps after a fault within which it must have shown."""
STEPS = 20
"""Steps of a job for each fault: it must outlast them all."""
AWAY = 100
"""Steps that it may do while the API is away."""
PATIENCE_S = 900.0
"""Seconds that anything may take on a machine that is busy with other tests."""
ADOPTED_S = 30.0
"""Seconds within which a job that lost its runner has another."""
TIERS = (
    "EngineCore",
    "RolloutEngine",
    "VerifierTier",
    "VerifierPool",
    "Teacher",
    "RayTrainWorker",
    "JobController",
)


@dataclass(frozen=True, slots=True)
class Wound:
    """One fault and what it cost.

    `step`: steps that were done when it came. `recovery_s`: seconds until the API answered, or
    for which the job did no step beyond the usual, whichever is more. `lost`: steps that were
    learned again, as a range of their numbers. `adopted_s`: seconds until the job had another
    runner, where it lost the one it had.
    """

    fault: str
    step: int
    recovery_s: float
    lost: range
    adopted_s: float | None


@dataclass
class Patient:
    """A job under faults."""

    up: Up
    rest: httpx.Client
    job: str
    random: random.Random
    seen: set[psutil.Process] = field(default_factory=set[psutil.Process])
    may_pause: bool = False
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

    def get(self, path: str, seconds: float = PATIENCE_S) -> Any:
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
        """Steps that are done. A job that has ended is one that no fault can hit any more.

        One that paused because its disk was full is resumed, as its owner would.
        """
        record = self.get(f"{JOBS}/{self.job}")
        if record["status"] == "paused" and self.may_pause:
            self.rest.post(f"{JOBS}/{self.job}/resume").raise_for_status()
        else:
            assert record["status"] in ("queued", "running"), record
        return len(self.steps())

    def steps(self) -> list[dict[str, Any]]:
        """The events of the steps that are done."""
        return [event for event in self.events() if event["data"].get("kind") == "step"]

    def wait_for_step(self, step: int) -> None:
        """Until so many steps are done."""
        until = time.monotonic() + PATIENCE_S
        while (done := self.step()) < step:
            assert time.monotonic() < until, (done, self.events()[-5:])
            time.sleep(0.1)

    def processes(self) -> list[tuple[psutil.Process, str]]:
        """Every process of the service, those whose parent is gone among them."""
        home = str(Path(self.up.facts["home"]).resolve())
        mark = hashlib.sha256(home.encode()).hexdigest()[:16]
        below = set(psutil.Process(self.up.process.pid).children(recursive=True))
        below |= Family(mark).members() | Family(f"{mark}-ray").members()
        found: list[tuple[psutil.Process, str]] = []
        for process in below:
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

    def aimed(self, fault: str, folder: Path) -> Callable[[], None]:
        """The fault, to be done at once: what it hits is found already, which takes time.

        `folder` is the job's own.
        """
        if fault == FULL_DISK:
            trainer = self.victim("trainer rank")

            def fill() -> None:
                self.may_pause = True
                with full_disk(trainer):
                    self._until_told("the checkpoint before it stays")

            return fill
        if fault == DAMAGED:
            trainer, controller = self.victim("trainer rank"), self.victim("controller")

            def kill_and_damage() -> None:
                trainer.kill()  # it writes no other
                controller.kill()
                damage(sorted((folder / "checkpoints").glob("step-*"))[-1] / "state.safetensors")

            return kill_and_damage
        return self.victim(fault).kill

    def _until_told(self, words: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not any(words in event["message"] for event in self.events()):
            assert time.monotonic() < until, words
            time.sleep(0.05)

    def suffer(self, fault: str, folder: Path) -> Wound:
        """Do a fault at a random moment of a step, and wait until the job is well again."""
        if fault == DAMAGED:
            self._until_told("checkpoint of step")
        self.wait_for_step(self.step() + BEFORE)
        time.sleep(self.random.uniform(0, 2 * self._usual()))
        strike = self.aimed(fault, folder)
        before, done, at = len(self.events()), self.step(), time.time()
        strike()
        self.get(f"{JOBS}/{self.job}")
        answered = 0.0 if fault == FULL_DISK else time.time() - at
        self.wait_for_step(done + SETTLED)
        news = self.events()[before:]
        again = [e["created_at"] for e in news if e["message"] == "Job started again."]
        adopted = again[0] - at if again else None
        recovery = max(answered, self._stood(done))
        return Wound(fault, done, recovery, learned_again(news, done), adopted)

    def _pauses(self) -> list[float]:
        at = [event["created_at"] for event in self.steps()]
        return [later - earlier for earlier, later in pairwise(at)]

    def _usual(self) -> float:
        """Seconds from one step to the next, mostly."""
        return statistics.median(self._pauses())

    def _stood(self, step: int) -> float:
        """Seconds beyond the usual between two of the steps after `step`."""
        return max(0.0, max(self._pauses()[step - 1 :]) - self._usual())


def learned_again(events: Sequence[dict[str, Any]], done: int) -> range:
    """The steps up to `done` that are learned again, as these events tell."""
    words = ("going back to the checkpoint of step ", "continuing from the checkpoint of step ")
    back = done
    for message in (event["message"] for event in events):
        for word in words:
            if word in message:
                back = min(back, int(message.split(word)[1].split()[0].rstrip(";")))
        if "going back to the start" in message:
            back = 0
    return range(back + 1, done + 1)


def damage(file: Path) -> None:
    """Flip a bit in the middle of a file."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 1]))


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
    until = time.monotonic() + PATIENCE_S
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

    learned, expected = learned_tasks(patient), undisturbed(spec, tasks)
    for step in set(expected) - set(learned):  # a full disk has no room for traces either
        assert any(f"the trace of step {step} cannot be written" in e["message"] for e in events)
        del expected[step]
    assert learned == expected

    assert_no_orphans(patient)


def learned_tasks(patient: Patient) -> dict[int, list[str]]:
    """The task ids that each step of a job that has ended learned from, as it kept them."""
    traces = patient.get(f"{JOBS}/{patient.job}")["result"]["traces"]
    kept = [read_step(path) for path in step_paths(traces)]
    return {trace.step + 1: [group.task.id for group in trace.groups] for trace in kept}


def undisturbed(spec: dict[str, Any], tasks: Sequence[str]) -> dict[int, list[str]]:
    """The task ids of each step of a job that nothing happens to: seed and file alone say them."""
    order = TaskOrder(len(tasks), spec.get("seed", 0), shuffle=True)
    size = spec["sampling"]["groups_per_step"]
    return {
        step: [tasks[index] for index in order.take(size)] for step in range(1, spec["steps"] + 1)
    }


def assert_no_orphans(patient: Patient) -> None:
    """Nothing that worked for the job is alive when it is over."""
    until = time.monotonic() + PATIENCE_S  # a verifier tier forgets a dead job after a minute
    while left := [line for _, line in patient.processes() if any(tier in line for tier in TIERS)]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
    _, alive = psutil.wait_procs(patient.seen, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def table(wounds: Sequence[Wound], patient: Patient) -> Iterator[str]:
    """What each fault cost, as a table."""
    tokens = [event["data"]["completion_tokens"] for event in patient.steps()]
    yield "| fault | at step | recovery, s | adopted after, s | steps learned again | tokens lost |"
    yield "|---|---|---|---|---|---|"
    for wound in wounds:
        adopted = "" if wound.adopted_s is None else f"{wound.adopted_s:.1f}"
        share = sum(tokens[step - 1] for step in wound.lost) / sum(tokens)
        numbers = f"{wound.recovery_s:.1f} | {adopted} | {len(wound.lost)} | {share:.2%}"
        yield f"| {wound.fault} | {wound.step} | {numbers} |"
