"""What clients send about jobs: OpenAI's form, and what Strop knows besides."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.api.methods import Method
from services.jobs import PRIORITIES

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = dict[MetadataKey, MetadataValue]

MAX_PREVIEW = 20

Priority = Annotated[
    int,
    Field(
        ge=min(PRIORITIES),
        le=max(PRIORITIES),
        description="Jobs of a higher priority are started first.",
    ),
]
MaxRuntime = Annotated[
    float,
    Field(gt=0, le=1e9, description="Seconds of running after which the job is paused."),
]
MaxTokens = Annotated[
    int,
    Field(ge=1, le=10**15, description="Completion tokens after which the job is paused."),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WandbIntegration(_Request):
    """Where a job's metrics go in Weights & Biases."""

    project: str = Field(description="Project of the run.")
    name: str | None = Field(default=None, description="Name of the run; the job's when absent.")
    entity: str | None = Field(default=None, description="Who owns the project.")
    tags: list[str] | None = Field(default=None, description="Tags of the run.")


class Integration(_Request):
    """OpenAI's form of a tracker; the others are named in `tracking` of the job spec."""

    type: Literal["wandb"] = Field(description="Weights & Biases.")
    wandb: WandbIntegration = Field(description="Its run.")


class CreateJob(_Request):
    """A job to queue, or with `dry_run` to look at.

    OpenAI's own fields complete the method's spec where it is silent; one that contradicts it
    is refused.
    """

    method: Method = Field(description="How to train.")
    model: str | None = Field(
        default=None,
        max_length=4096,
        description="The model to train: a Hugging Face id, a folder, or the demo model.",
        examples=["smollm2-135m-instruct"],
    )
    training_file: str | None = Field(
        default=None,
        max_length=4096,
        description="The tasks: the id of an uploaded file, or a path that the operator opened.",
        examples=["file-0123456789abcdef01234567"],
    )
    validation_file: str | None = Field(
        default=None, max_length=4096, description="The held-out tasks, in the same way."
    )
    seed: int | None = Field(default=None, ge=0, description="Seed of the job.")
    suffix: str | None = Field(
        default=None, description="Name of the job, which the trained model's name contains."
    )
    metadata: Metadata | None = Field(
        default=None, max_length=16, description="Up to 16 pairs of the caller's own."
    )
    priority: Priority = 0
    max_runtime: MaxRuntime | None = None
    max_tokens: MaxTokens | None = None
    dry_run: bool = Field(
        default=False, description="Only check the job, and say what it would take."
    )
    preview: int = Field(
        default=0,
        ge=0,
        le=MAX_PREVIEW,
        description="With `dry_run`: show so many tasks as the models will see them.",
    )
    hyperparameters: dict[str, Any] | None = Field(
        default=None, description="Of supervised fine-tuning: refused unless empty."
    )
    integrations: list[Integration] | None = Field(
        default=None,
        max_length=1,
        description="Weights & Biases, in OpenAI's form: the tracker `wandb` of the job spec.",
    )

    @field_validator("hyperparameters")
    @classmethod
    def _none_of_supervised(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value:
            raise ValueError("belong to supervised fine-tuning: give them inside of `method`")
        return value

    def completions(self) -> dict[str, object]:
        """What completes the spec, by the spec's field."""
        return {
            "model.path": self.model,
            "tasks.train": self.training_file,
            "tasks.holdout": self.validation_file,
            "seed": self.seed,
            "name": self.suffix,
            "tracking": [
                {"kind": one.type, **one.wandb.model_dump(exclude_none=True)}
                for one in self.integrations or ()
            ]
            or None,
        }

    def asked(self) -> dict[str, Any]:
        """What is kept of the request beside the resolved spec."""
        return {"method": self.method.model_dump(exclude_none=True), "suffix": self.suffix}


class ChangeJob(_Request):
    """What may change about a job that has not ended; what is absent stays."""

    priority: Priority | None = None
    max_runtime: MaxRuntime | None = None
    max_tokens: MaxTokens | None = None
    metadata: Metadata | None = Field(
        default=None, max_length=16, description="The caller's own pairs, all of them."
    )


class RetryJob(_Request):
    """From where to try again."""

    checkpoint: str | None = Field(
        default=None,
        description="Id of a checkpoint of the job, `ftckpt-...`; from its first step when absent.",
    )
