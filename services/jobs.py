"""Jobs, their events and checkpoints: the records the store keeps and everybody reads.

Frozen plain data, and the table of legal status changes. Knows nothing of Redis or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

JobStatus = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
Outcome = Literal["paused", "succeeded", "failed", "cancelled"]
"""What a runner may make of a job it holds."""
Request = Literal["pause", "cancel"]
EventLevel = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]

STATUSES: tuple[JobStatus, ...] = (
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled",
)  # fmt: skip
TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

# Which statuses a job may come from. A terminal status is never left, and a claim is the
# only way into `running`, so that no two workers can run one job.
SOURCES: Mapping[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"validating_files", "running", "paused"}),
    "running": frozenset({"queued", "running"}),  # from `running`: a lease that ran out
    "paused": frozenset({"queued", "running"}),
    "succeeded": frozenset({"running"}),
    "failed": frozenset({"validating_files", "queued", "running"}),
    "cancelled": frozenset({"validating_files", "queued", "running", "paused"}),
}

STARTING = "start"
"""The phase in which a job's tiers are placed and started."""

PRIORITIES = range(-100, 101)
"""Priorities a job may have; the greater goes first."""


class JobError(TypedDict):
    """Why a job failed: a stable code, a sentence for a person, the field concerned if any."""

    code: str
    message: str
    param: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as it stands.

    Times are seconds since the epoch by the store's clock. `spec` is the resolved job spec
    as JSON data. `progress` is the data of the newest step event with the newest held-out
    accuracy, `rewards` the mean reward of some of the steps, evenly spaced: (step, reward).
    """

    id: str
    tenant: str
    status: JobStatus
    created_at: float
    started_at: float | None
    finished_at: float | None
    spec: Mapping[str, Any]
    metadata: Mapping[str, str]
    error: JobError | None
    result: Mapping[str, Any] | None
    progress: Mapping[str, Any] | None
    rewards: Sequence[tuple[int, float]]

    priority: int
    request: Request | None
    """What its runner was asked to do and has not done yet."""
    waiting: str | None
    """Why a queued job has not started yet."""
    revision: int
    """Counts the changes of everything but progress: what an ETag is made of."""
    retry_of: str | None
    source: str | None
    """Folder of the checkpoint it starts from."""
    asked: Mapping[str, Any] | None
    """What is kept of the request that the spec was made of."""
    request_id: str | None
    """The HTTP request that made it."""

    worker: str | None
    """The dispatcher that holds or held it."""
    token: int
    """Counts the claims of this job: a runner writes with its own, a stale one is refused."""
    attempts: int
    """Claims since the job last finished a step."""
    claimed_at: float | None
    phase: str | None
    """What its runner does at this moment."""
    pulse_at: float | None
    """When its runner last said that it got on."""

    trained_tokens: int
    runtime_s: float
    """Seconds it ran before the present claim."""
    max_runtime_s: float | None
    max_tokens: int | None

    @property
    def finished(self) -> bool:
        """Whether the status is terminal."""
        return self.status in TERMINAL

    @property
    def placed(self) -> bool:
        """Whether its runner has begun to work with its tiers, not only to start them."""
        return self.phase not in (None, STARTING)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's append-only log.

    `id` counts the job's events from 1 without a gap, so a reader can tell that it missed
    none. `data["kind"]` says what `data` holds: status, phase, step, evaluation or result.
    """

    id: int
    created_at: float
    level: EventLevel
    type: EventType
    message: str
    data: Mapping[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether this is the last event of its job."""
        return self.data.get("kind") == "status" and self.data.get("status") in TERMINAL


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a job that lies on disk: `step` steps are done in it."""

    id: str
    job_id: str
    step: int
    created_at: float
    path: str
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Queued:
    """A job that waits for its turn, with what decides about it.

    `overtaken` counts the jobs behind it that were started first. `unfit_s` is how long the
    cluster has not been able to hold it, None while it is.
    """

    id: str
    tenant: str
    priority: int
    sequence: int
    overtaken: int
    unfit_s: float | None
    waiting: str | None
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WaitingRoom:
    """The head of each tenant's queue, and how many jobs each of these tenants runs.

    `claims` counts all claims there ever were: a plan made of this room is good as long as
    nobody else has claimed a job.
    """

    queued: tuple[Queued, ...]
    running: Mapping[str, int]
    claims: int
