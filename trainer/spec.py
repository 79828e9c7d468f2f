"""What a user may set about learning beside the algorithm: optimizer, privileged context.

Pydantic models without torch, shared by the job spec above and the learner below.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from verifiers.patterns import PatternError, compile_pattern


class Spec(BaseModel):
    """Base of every spec: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PrivilegedKind = Literal["answer", "trace", "documents", "sibling", "feedback", "none"]

GROUP_KINDS = ("sibling", "feedback")
"""What such a teacher sees comes out of the group's own rollouts and verdicts."""


class PrivilegedSpec(Spec):
    """How the teacher's prompt differs from the policy's."""

    kind: PrivilegedKind = Field(
        default="trace",
        description="What the teacher sees: the task's `answer`, its worked `trace`, `documents` of "
        "yours; a `sibling`, another rollout of the group that the verifier found correct; the "
        "verifier's `feedback` on the completion, and a sibling where there is one; or nothing more.",
    )
    template: str | None = Field(
        default=None,
        description="Jinja template of the extra chat turn, over `answer`, `trace`, `documents` "
        "and, with those kinds, `sibling` and `feedback`; the built-in one of the kind when absent.",
    )
    documents: str | None = Field(
        default=None,
        description="Folder or JSONL file of documents, for kind `documents`. A task names its own "
        "by `document_ids`; for one that does not, BM25 finds passages by the words of its prompt.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=8,
        description="Most tokens that the privileged turn may add to the prompt; by default what "
        "`model.max_length` leaves beside the prompt and `sampling.max_tokens`.",
    )

    @model_validator(mode="after")
    def _read(self) -> PrivilegedSpec:
        if self.documents is not None and self.kind != "documents":
            raise ValueError(
                f"documents is set, but kind {self.kind} does not read them: set kind documents"
            )
        if self.max_tokens is not None and self.kind == "none":
            raise ValueError("max_tokens is set, but kind none shows the teacher nothing")
        return self


class LeakageSpec(Spec):
    """What counts as a leak of privileged context into completions."""

    patterns: tuple[str, ...] = Field(
        default=(),
        description="RE2 patterns of phrases that refer to what only the teacher sees, beside the "
        "built-in ones; upper and lower case are the same.",
    )
    alarm: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Warn when a leak rate stands this far above that of the first step, after "
        "three standard errors for the draw of tasks.",
    )

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                compile_pattern(pattern, ignore_case=True)
            except PatternError as error:
                raise ValueError(f"{pattern!r}: {error}") from None
        return patterns


class OptimizerSpec(Spec):
    """AdamW on fp32 master weights."""

    learning_rate: float = Field(default=1e-6, gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear warm-up from 0.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.999), description="Decay of the first and of the second moment."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are clipped to this norm."
    )
    updates_per_batch: int = Field(
        default=1, ge=1, description="Optimizer updates each batch is split into."
    )
    microbatch_tokens: int = Field(
        default=8192, ge=16, description="Token budget of one packed forward and backward pass."
    )
