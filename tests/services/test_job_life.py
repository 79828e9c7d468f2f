"""Whatever users and runners do to jobs, in whatever order, on a real server: each job has one
runner at most, the records agree with each other, and no event is lost or doubled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.errors import Fenced, IllegalTransition
from services.jobs import TERMINAL
from services.redis_server import EmbeddedValkey
from services.store import Store
from services.store.lua import ATTEMPTS

PREFIX = "{strop}:"
LONG = 86400.0  # leases run out when the machine below says so
PICK = st.integers(0, 1_000_000)


@dataclass
class Model:
    """What a job must be."""

    tenant: str
    status: str = "queued"
    request: str | None = None
    token: int = 0
    attempts: int = 0
    lapsed: bool = False
    told: list[str] = field(default_factory=list[str])  # messages of our own


class Life(RuleBasedStateMachine):
    """A few jobs, their users, and runners that hold claims, old ones among them."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server = redis.Redis.from_url(url, decode_responses=True)
        self.server.flushall()
        self.store = self.wait(Store.open(url))
        self.jobs: dict[str, Model] = {}
        self.claims: list[tuple[str, int]] = []

    def wait(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.wait(self.store.close())
        self.loop.close()
        self.server.close()

    def job(self, pick: int) -> tuple[str, Model]:
        return list(self.jobs.items())[pick % len(self.jobs)]

    def claim_of(self, pick: int) -> tuple[str, Model, int, bool]:
        """A claim that was once made, and whether it still holds."""
        job_id, token = self.claims[pick % len(self.claims)]
        model = self.jobs[job_id]
        return job_id, model, token, model.status == "running" and model.token == token

    def refused(self, work: Awaitable[Any], *errors: type[Exception]) -> None:
        try:
            self.wait(work)
        except errors:
            return
        raise AssertionError(f"none of {errors} was raised")

    def given_back(self, model: Model, *, blameless: bool) -> None:
        if model.request is not None:
            model.status = "cancelled" if model.request == "cancel" else "paused"
            model.attempts = model.attempts if model.status == "cancelled" else 0
        elif blameless:
            model.status, model.attempts = "queued", max(0, model.attempts - 1)
        else:
            model.status = "failed" if model.attempts >= ATTEMPTS else "queued"
        model.request, model.lapsed = None, False

    # Users

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(tenant=st.sampled_from(["a", "b"]), priority=st.integers(-2, 2))
    def create(self, tenant: str, priority: int) -> None:
        job = self.wait(self.store.create_job({"name": "x"}, tenant=tenant, priority=priority))
        self.jobs[job.id] = Model(tenant)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        job_id, model = self.job(pick)
        self.wait(self.store.request_cancel(job_id, model.tenant))
        if model.status == "running":
            model.request = "cancel"
        elif model.status not in TERMINAL:
            model.status = "cancelled"

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def pause(self, pick: int) -> None:
        job_id, model = self.job(pick)
        work = self.store.request_pause(job_id, model.tenant)
        if model.status in TERMINAL:
            self.refused(work, IllegalTransition)
            return
        self.wait(work)
        if model.status == "running":
            model.request = model.request or "pause"
        else:
            model.status = "paused"

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def resume(self, pick: int) -> None:
        job_id, model = self.job(pick)
        work = self.store.resume(job_id, model.tenant)
        if model.status in TERMINAL:
            self.refused(work, IllegalTransition)
            return
        self.wait(work)
        if model.status == "paused":
            model.status, model.attempts = "queued", 0
        elif model.request == "pause":
            model.request = None

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK, priority=st.integers(-2, 2))
    def prioritise(self, pick: int, priority: int) -> None:
        job_id, model = self.job(pick)
        work = self.store.update_job(job_id, model.tenant, priority=priority)
        if model.status in TERMINAL:
            self.refused(work, IllegalTransition)
        else:
            assert self.wait(work).priority == priority

    # Runners

    @rule()
    def lapse(self) -> None:
        """Time passes: every lease that is not renewed runs out."""
        for job_id, model in self.jobs.items():
            if model.status == "running":
                self.server.zadd(f"{PREFIX}leases", {job_id: 1})
                model.lapsed = True

    @rule()
    def claim(self) -> None:
        for model in self.jobs.values():
            if model.lapsed:
                self.given_back(model, blameless=False)
        waiting = [job_id for job_id, model in self.jobs.items() if model.status == "queued"]
        job = self.wait(self.store.claim("w", lease_s=LONG))
        assert (job is not None) == bool(waiting)
        if job is not None:
            model = self.jobs[job.id]
            model.status, model.token = "running", model.token + 1
            model.attempts += 1
            assert (job.token, job.attempts) == (model.token, model.attempts)
            self.claims.append((job.id, job.token))

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        job_id, model, token, holds = self.claim_of(pick)
        work = self.store.renew(job_id, token, 1, lease_s=LONG)
        if not holds:
            self.refused(work, Fenced, IllegalTransition)
            return
        assert self.wait(work) == model.request
        model.lapsed = False

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, blameless=st.booleans())
    def release(self, pick: int, blameless: bool) -> None:
        job_id, model, token, holds = self.claim_of(pick)
        work = self.store.release(job_id, token, "a reason", blameless=blameless)
        if not holds:
            self.refused(work, Fenced, IllegalTransition)
            return
        self.given_back(model, blameless=blameless)
        assert self.wait(work).status == model.status

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, outcome=st.sampled_from(["paused", "succeeded", "failed", "cancelled"]))
    def end(self, pick: int, outcome: Any) -> None:
        job_id, model, token, holds = self.claim_of(pick)
        work = self.store.transition(job_id, outcome, token=token)
        if not holds:
            self.refused(work, Fenced, IllegalTransition)
            return
        self.wait(work)
        model.status, model.request, model.lapsed = outcome, None, False
        if outcome == "paused":
            model.attempts = 0

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, step=st.integers(1, 3))
    def tell_a_step(self, pick: int, step: int) -> None:
        job_id, model, token, holds = self.claim_of(pick)
        data = {"kind": "step", "step": step, "completion_tokens": 10}
        work = self.store.append_event(
            job_id, message=f"step {step}", data=data, token=token, key=f"step:{step}"
        )
        if not holds:
            self.refused(work, Fenced, IllegalTransition)
            return
        self.wait(work)
        if f"step {step}" not in model.told:
            model.told.append(f"step {step}")
            model.attempts = 0

    # What is always so

    @invariant()
    def records_agree(self) -> None:
        counts: Counter[str] = Counter(model.status for model in self.jobs.values())
        assert {s: n for s, n in self.wait(self.store.job_counts()).items() if n} == counts
        for tenant in ("a", "b"):
            mine = [job_id for job_id, model in self.jobs.items() if model.tenant == tenant]
            queued = {job_id for job_id in mine if self.jobs[job_id].status == "queued"}
            assert set(self.server.zrange(f"{PREFIX}queue:{tenant}", 0, -1)) == queued
            told = self.wait(self.store.job_counts(tenant))
            assert sum(told.values()) == len(mine)
            assert bool(queued) == bool(self.server.sismember(f"{PREFIX}queues", tenant))
        running = {job_id for job_id, model in self.jobs.items() if model.status == "running"}
        assert set(self.server.zrange(f"{PREFIX}leases", 0, -1)) == running

    @invariant()
    def jobs_are_what_they_must_be(self) -> None:
        for job_id, model in self.jobs.items():
            job = self.wait(self.store.get_job(job_id, model.tenant))
            assert (job.status, job.request, job.token, job.attempts) == (
                model.status, model.request, model.token, model.attempts,
            )  # fmt: skip
            assert job.trained_tokens == 10 * len(model.told)
            events = self.wait(self.store.events(job_id, limit=1000))
            assert [event.id for event in events] == list(range(1, len(events) + 1))
            steps = [event.message for event in events if event.data["kind"] == "step"]
            assert steps == model.told
            assert any(event.terminal for event in events) == (model.status in TERMINAL)


def test_no_order_of_calls_breaks_the_life_of_a_job(valkey: EmbeddedValkey) -> None:
    class OnThisServer(Life):
        def __init__(self) -> None:
            super().__init__(valkey.url)

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
