"""The wire: OpenAI's fine-tuning objects, with what Strop knows besides.

Fields that OpenAI's clients expect and Strop has no use for are constant.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.jobs import Event, EventLevel, EventType, Job, JobStatus

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class StropMethod(BaseModel):
    """A full Strop job spec."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["strop"] = Field(description="The kind of `method`.")
    strop: dict[str, Any] = Field(
        description="The job spec; its JSON Schema is at `/v1/config/schema`."
    )


class CreateJob(BaseModel):
    """A job to queue: OpenAI's form, with the spec as its method.

    OpenAI's own fields complete the spec where it is silent; one that contradicts it is refused.
    """

    model_config = ConfigDict(extra="forbid")

    method: StropMethod = Field(description="How to train.")
    model: str | None = Field(default=None, description="Completes `method.strop.model.path`.")
    training_file: str | None = Field(
        default=None, description="Completes `method.strop.tasks.train`."
    )
    validation_file: str | None = Field(
        default=None, description="Completes `method.strop.tasks.holdout`."
    )
    seed: int | None = Field(default=None, description="Completes `method.strop.seed`.")
    suffix: str | None = Field(default=None, description="Completes `method.strop.name`.")
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        default=None, max_length=16, description="Up to 16 pairs of the caller's own."
    )


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
    started_at: int | None = Field(description="When a dispatcher took it.")
    finished_at: int | None = Field(description="When it ended.")
    model: str = Field(description="The model that is trained.")
    fine_tuned_model: str | None = Field(description="Where the trained model lies.")
    training_file: str = Field(description="The training tasks.")
    validation_file: str | None = Field(description="The held-out tasks.")
    seed: int = Field(description="Seed of the job.")
    trained_tokens: int | None = Field(description="Completion tokens it was trained on.")
    organization_id: str = Field(default="strop", description="Constant.")
    result_files: list[str] = Field(default_factory=list, description="Always empty.")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="Always empty: see `method`."
    )
    method: dict[str, Any] = Field(description="The resolved job spec.")
    metadata: dict[str, str] = Field(description="The caller's own pairs.")
    error: JobErrorObject | None = Field(description="Why it failed.")
    cancel_requested: bool = Field(description="Whether somebody asked it to stop.")
    progress: dict[str, Any] | None = Field(description="Data of the newest step event.")
    result: dict[str, Any] | None = Field(description="What a succeeded job leaves behind.")

    @classmethod
    def of(cls, job: Job) -> JobObject:
        """The job on the wire."""
        result = dict(job.result) if job.result is not None else None
        return cls(
            id=job.id,
            status=job.status,
            created_at=int(job.created_at),
            started_at=None if job.started_at is None else int(job.started_at),
            finished_at=None if job.finished_at is None else int(job.finished_at),
            model=job.spec["model"]["path"],
            fine_tuned_model=None if result is None else result.get("model"),
            training_file=job.spec["tasks"]["train"],
            validation_file=job.spec["tasks"]["holdout"],
            seed=job.spec["seed"],
            method={"type": "strop", "strop": dict(job.spec)},
            trained_tokens=job.trained_tokens,
            metadata=dict(job.metadata),
            error=None if job.error is None else JobErrorObject(**job.error),
            cancel_requested=job.request == "cancel",
            progress=None if job.progress is None else dict(job.progress),
            result=result,
        )


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
        description="`kind` says what it holds: status, phase, step, evaluation or result."
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


class _Page(BaseModel):
    object: Literal["list"] = Field(default="list", description="Kind of object.")
    first_id: str | None = Field(description="Id of the first item.")
    last_id: str | None = Field(description="Id of the last item: the next page's `after`.")
    has_more: bool = Field(description="Whether another page follows.")


class JobPage(_Page):
    """A page of jobs, newest first."""

    data: list[JobObject] = Field(description="The jobs.")

    @classmethod
    def of(cls, jobs: list[Job], has_more: bool) -> JobPage:
        """The page on the wire."""
        ids = [job.id for job in jobs] or [None]
        return cls(
            data=[JobObject.of(job) for job in jobs],
            first_id=ids[0],
            last_id=ids[-1],
            has_more=has_more,
        )


class EventPage(_Page):
    """A page of events, in the order they happened."""

    data: list[EventObject] = Field(description="The events.")

    @classmethod
    def of(cls, events: list[Event], has_more: bool) -> EventPage:
        """The page on the wire."""
        ids = [str(event.id) for event in events] or [None]
        return cls(
            data=[EventObject.of(event) for event in events],
            first_id=ids[0],
            last_id=ids[-1],
            has_more=has_more,
        )
