"""Jobs and their events: the records the store keeps and everybody reads.

Frozen plain data, and the table of legal status changes. Knows nothing of Redis or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

JobStatus = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
EventLevel = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]

STATUSES: tuple[JobStatus, ...] = (
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled",
)  # fmt: skip
TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

# Which statuses a job may come from. A terminal status is never left, and a claim is the
# only way into `running`, so that no two workers can run one job.
SOURCES: Mapping[JobStatus, frozenset[JobStatus]] = {
    "running": frozenset({"queued"}),
    "succeeded": frozenset({"running"}),
    "failed": frozenset({"queued", "running"}),
    "cancelled": frozenset({"queued", "running"}),
}


class JobError(TypedDict):
    """Why a job failed: a stable code, a sentence for a person, the field concerned if any."""

    code: str
    message: str
    param: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as it stands.

    Times are seconds since the epoch by the store's clock. `spec` is the resolved job spec
    as JSON data. `progress` is the data of the newest step event. `worker` is the
    dispatcher that claimed the job.
    """

    id: str
    status: JobStatus
    created_at: float
    started_at: float | None
    finished_at: float | None
    spec: Mapping[str, Any]
    metadata: Mapping[str, str]
    error: JobError | None
    result: Mapping[str, Any] | None
    cancel_requested: bool
    worker: str | None
    progress: Mapping[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether the status is terminal."""
        return self.status in TERMINAL


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
