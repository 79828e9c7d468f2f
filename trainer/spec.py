"""What a user may set about learning beside the algorithm: optimizer, privileged context.

Pydantic models without torch, shared by the job spec above and the learner below.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of every spec: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PrivilegedSpec(Spec):
    """How the teacher's prompt differs from the policy's."""

    kind: Literal["answer", "trace", "none"] = Field(
        default="trace",
        description="What the teacher sees: the task's answer, its worked trace, or nothing more.",
    )
    template: str | None = Field(
        default=None,
        description="Jinja template of the extra chat turn, over `answer`, `trace` and "
        "`documents`; the built-in one of the kind when absent.",
    )


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
