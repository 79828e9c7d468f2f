"""The wire: OpenAI's fine-tuning objects, with what Strop knows besides.

Fields that OpenAI's clients expect and Strop has no use for are constant. What was asked
with names of uploaded files or models shows these names again, never where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, Field

from services.api.hyperparameters import shown
from services.api.pages import Page
from services.jobs import Checkpoint, Event, EventLevel, EventType, Job, JobStatus
from services.model_names import model_name


class JobErrorObject(BaseModel):
    """Why a job failed."""

    code: str = Field(description="Stable code.")
    message: str = Field(description="What happened.")
    param: str | None = Field(description="The field concerned.")


class JobObject(BaseModel):
    """A fine-tuning job."""

    id: str = Field(description="Identifier, `ftjob-...`.")
    object: Literal["fine_tuning.job"] = Field(
        default="fine_tuning.job", description="Kind of object."
    )
    status: JobStatus = Field(description="Where the job stands.")
    created_at: int = Field(description="Seconds since the epoch.")
    started_at: int | None = Field(description="When it was first started.")
    finished_at: int | None = Field(description="When it ended.")
    estimated_finish: int | None = Field(
        description="When it ends if it goes on as so far; null while nobody can tell."
    )
    model: str = Field(description="The model that is trained.")
    fine_tuned_model: str | None = Field(
        description="Name of the trained model, which the routes of models know."
    )
    training_file: str = Field(description="The training tasks.")
    validation_file: str | None = Field(description="The held-out tasks.")
    seed: int = Field(description="Seed of the job.")
    trained_tokens: int | None = Field(description="Completion tokens it was trained on.")
    organization_id: str = Field(description="The tenant.")
    result_files: list[str] = Field(default_factory=list, description="Always empty.")
    integrations: list[dict[str, Any]] = Field(
        description="The tracker `wandb` of its spec, in OpenAI's form."
    )
    hyperparameters: dict[str, Any] = Field(
        description="`n_epochs` (when asked for), `batch_size` and `learning_rate_multiplier`."
    )
    method: dict[str, Any] = Field(description="How to train, as it was asked for.")
    user_provided_suffix: str | None = Field(description="The `suffix` that was asked for.")
    metadata: dict[str, str] = Field(description="The caller's own pairs.")
    error: JobErrorObject | None = Field(description="Why it failed.")

    spec: dict[str, Any] = Field(description="The resolved job spec. Beyond OpenAI, as all below.")
    notes: list[str] = Field(description="What the request meant in the spec's own terms.")
    priority: int = Field(description="Jobs of a higher priority are started first.")
    waiting: str | None = Field(description="Why a queued job has not been started.")
    cancel_requested: bool = Field(description="Whether somebody asked it to stop.")
    pause_requested: bool = Field(description="Whether somebody asked it to pause.")
    max_runtime: float | None = Field(description="Seconds of running after which it is paused.")
    max_tokens: int | None = Field(description="Completion tokens after which it is paused.")
    runtime: float = Field(description="Seconds it ran before it was last started.")
    attempts: int = Field(description="Starts since it last finished a step.")
    retry_of: str | None = Field(description="The job that this one tries again.")
    revision: int = Field(description="Counts its changes; the number in its `ETag`.")
    progress: dict[str, Any] | None = Field(description="Data of the newest step event.")
    last_progress_at: int | None = Field(
        description="When it last got on: a phase, a step, or its start. Of a running job that is "
        "long ago when it is stalled."
    )
    reward_history: list[tuple[int, float]] = Field(
        description="Step and mean reward of every step, or in a long job of every second, fourth, "
        "...: at most 64. `/metrics` has them all."
    )
    result: dict[str, Any] | None = Field(description="What a succeeded job leaves behind.")

    @classmethod
    def of(cls, job: Job) -> JobObject:
        """The job on the wire."""
        asked = job.asked or {}
        spec = cast("dict[str, Any]", named(dict(job.spec), asked.get("files", {})))
        method: dict[str, Any] = asked.get("method", {"type": "strop", "strop": spec})
        return cls(
            id=job.id,
            status=job.status,
            created_at=int(job.created_at),
            started_at=_whole(job.started_at),
            finished_at=_whole(job.finished_at),
            estimated_finish=_estimated_finish(job),
            model=spec["model"]["path"],
            fine_tuned_model=_name(job) if job.status == "succeeded" else None,
            training_file=spec["tasks"]["train"],
            validation_file=spec["tasks"]["holdout"],
            seed=spec["seed"],
            trained_tokens=job.trained_tokens,
            organization_id=job.tenant,
            integrations=_integrations(spec),
            hyperparameters=shown(spec, asked.get("epochs")),
            method=method,
            user_provided_suffix=asked.get("suffix"),
            metadata=dict(job.metadata),
            error=None if job.error is None else JobErrorObject(**job.error),
            spec=spec,
            notes=list(asked.get("notes", ())),
            priority=job.priority,
            waiting=job.waiting,
            cancel_requested=job.request == "cancel",
            pause_requested=job.request == "pause",
            max_runtime=job.max_runtime_s,
            max_tokens=job.max_tokens,
            runtime=job.runtime_s,
            attempts=job.attempts,
            retry_of=job.retry_of,
            revision=job.revision,
            progress=None if job.progress is None else dict(job.progress),
            last_progress_at=_whole(job.pulse_at or job.claimed_at),
            reward_history=list(job.rewards),
            result=None if job.result is None else dict(job.result),
        )


def _integrations(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "wandb", "wandb": {key: own for key, own in one.items() if key != "kind"}}
        for one in spec.get("tracking", ())
        if one["kind"] == "wandb"
    ]


class EventObject(BaseModel):
    """One event of a job."""

    id: str = Field(description="The event's number in its job, from 1 without a gap.")
    object: Literal["fine_tuning.job.event"] = Field(
        default="fine_tuning.job.event", description="Kind of object."
    )
    created_at: int = Field(description="Seconds since the epoch.")
    level: EventLevel = Field(description="How serious it is.")
    type: EventType = Field(description="`metrics` when `data` holds numbers of a step.")
    message: str = Field(description="A sentence for a person.")
    data: dict[str, Any] = Field(
        description="`kind` says what it holds: status, phase, step, evaluation, checkpoint, "
        "update, note or result."
    )

    @classmethod
    def of(cls, event: Event) -> EventObject:
        """The event on the wire."""
        return cls(
            id=str(event.id),
            created_at=int(event.created_at),
            level=event.level,
            type=event.type,
            message=event.message,
            data=dict(event.data),
        )


class MetricsObject(BaseModel):
    """The numbers of one step, or of one evaluation."""

    id: str = Field(description="Number of the event that told them.")
    object: Literal["fine_tuning.job.metrics"] = Field(
        default="fine_tuning.job.metrics", description="Kind of object."
    )
    created_at: int = Field(description="Seconds since the epoch.")
    kind: str = Field(description="`step` or `evaluation`.")
    step: int = Field(description="Steps done by then.")
    metrics: dict[str, Any] = Field(description="The numbers by name.")

    @classmethod
    def of(cls, event: Event) -> MetricsObject:
        """The numbers on the wire."""
        numbers = {k: v for k, v in event.data.items() if k not in ("kind", "step")}
        return cls(
            id=str(event.id),
            created_at=int(event.created_at),
            kind=str(event.data.get("kind")),
            step=int(event.data.get("step", 0)),
            metrics=numbers,
        )


class CheckpointObject(BaseModel):
    """A checkpoint of a job."""

    id: str = Field(description="Identifier, `ftckpt-...`.")
    object: Literal["fine_tuning.job.checkpoint"] = Field(
        default="fine_tuning.job.checkpoint", description="Kind of object."
    )
    created_at: int = Field(description="Seconds since the epoch.")
    fine_tuning_job_id: str = Field(description="The job.")
    fine_tuned_model_checkpoint: str = Field(
        description="Name of the model, which the routes of models know."
    )
    step_number: int = Field(description="Steps done by then.")
    metrics: dict[str, float] = Field(
        description="`step`, and the numbers that were known by then."
    )

    @classmethod
    def of(cls, checkpoint: Checkpoint, job: Job) -> CheckpointObject:
        """The checkpoint on the wire."""
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at),
            fine_tuning_job_id=job.id,
            fine_tuned_model_checkpoint=_name(job, checkpoint.step),
            step_number=checkpoint.step,
            metrics={**checkpoint.metrics, "step": checkpoint.step},
        )


class JobPage(Page):
    """A page of jobs, newest first."""

    data: list[JobObject] = Field(description="The jobs.")


class EventPage(Page):
    """A page of events, in the order they happened."""

    data: list[EventObject] = Field(description="The events.")


class MetricsPage(Page):
    """A page of metrics, in the order they were measured."""

    data: list[MetricsObject] = Field(description="The metrics.")


class CheckpointPage(Page):
    """A page of checkpoints, newest first."""

    data: list[CheckpointObject] = Field(description="The checkpoints.")


def _name(job: Job, step: int | None = None) -> str:
    spec = job.spec
    return model_name(spec["model"]["path"], spec["name"], job.id, step)


def named(value: Any, names: Mapping[str, str]) -> Any:
    """A value of JSON with names for the paths they stand for."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {key: named(part, names) for key, part in cast("dict[str, Any]", value).items()}
    return value


def _estimated_finish(job: Job) -> int | None:
    """By the newest step's word; from the last sign of life on."""
    left = (job.progress or {}).get("seconds_left")
    if job.status != "running" or left is None or job.pulse_at is None:
        return None
    return int(job.pulse_at + left)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
