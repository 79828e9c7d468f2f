"""The job spec: the whole of what a user may set about a training job.

Pydantic models without torch, ray or vllm. Unknown keys are refused, every field is
documented, and combinations that mean nothing are refused with the field's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pydantic import Field, model_validator

from services.job_sections import (
    CheckpointSpec,
    DeadlinesSpec,
    EngineSpec,
    EvaluationSpec,
    ModelSpec,
    SamplingSpec,
    TasksSpec,
    TiersSpec,
    TracesSpec,
)
from services.trackers.spec import Tracker
from trainer.algorithm_spec import AlgorithmSpec, PolicyGradient, Rlsd, SelfTaught, Synced
from trainer.spec import LeakageSpec, OptimizerSpec, PrivilegedSpec, Spec

DEFAULT_VIEWS = {"rlsd": "trace", "opsd": "trace", "grpo_opsd": "trace", "sdpo": "feedback"}
"""What the teacher sees by default, for algorithms whose teacher is the policy itself."""

SDPO_VIEWS = ("sibling", "feedback")
WRONG_VIEWS = ("answer", "trace", "sibling")
"""Views of which a wrong completion of the group makes a wrong counterpart."""


class JobSpec(Spec):
    """A training job."""

    name: str = Field(
        default="job", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="A short name."
    )
    seed: int = Field(
        default=0, ge=0, description="Seed of task order, sampling and initialisation."
    )
    steps: int = Field(default=100, ge=1, description="Learning steps.")
    model: ModelSpec = Field(description="The policy.")
    tasks: TasksSpec = Field(description="The tasks.")
    algorithm: AlgorithmSpec = Field(default_factory=Rlsd, description="Credit and loss.")
    privileged: PrivilegedSpec | None = Field(
        default=None, description="What the teacher sees; only for algorithms with a teacher."
    )
    leakage: LeakageSpec = Field(default_factory=LeakageSpec, description="The leak monitor.")
    sampling: SamplingSpec = Field(default_factory=SamplingSpec, description="Rollouts.")
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec, description="AdamW.")
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="Held-out accuracy."
    )
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec, description="Saved state.")
    engine: EngineSpec = Field(default_factory=EngineSpec, description="vLLM limits.")
    traces: TracesSpec = Field(default_factory=TracesSpec, description="Kept rollouts.")
    tiers: TiersSpec = Field(default_factory=TiersSpec, description="Placement and scale.")
    deadlines: DeadlinesSpec = Field(default_factory=DeadlinesSpec, description="Deadlines.")
    tracking: tuple[Tracker, ...] = Field(
        default=(), description="Where the job's metrics also go, each kind at most once."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_privileged(cls, data: Any) -> Any:
        """Give a teacher its default view, so that the resolved spec shows it."""
        if not isinstance(data, dict):
            return data
        fields = cast("dict[str, Any]", data)
        algorithm: Any = fields.get("algorithm", {"kind": "rlsd"})
        if isinstance(algorithm, dict):
            kind = cast("dict[str, Any]", algorithm).get("kind")
        else:
            kind = getattr(algorithm, "kind", None)
        default = DEFAULT_VIEWS.get(str(kind))
        if default is not None and fields.get("privileged") is None:
            return {**fields, "privileged": {"kind": default}}
        return fields

    @model_validator(mode="after")
    def _combinations(self) -> JobSpec:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What is wrong with fields that are each right, one sentence a problem."""
        sampling, algorithm = self.sampling, self.algorithm
        yield from self._view_problems()
        if sampling.group_size < 2 and self.needs_contrast:
            yield (
                f"sampling.group_size is {sampling.group_size}: {algorithm.kind} compares "
                "completions of one task with each other and needs at least 2"
            )
        if sampling.max_tokens >= self.model.max_length:
            yield (
                f"sampling.max_tokens is {sampling.max_tokens}, which leaves no room for a prompt "
                f"in model.max_length {self.model.max_length}"
            )
        if isinstance(algorithm, PolicyGradient) and (
            algorithm.overlong_buffer >= sampling.max_tokens
        ):
            yield (
                f"algorithm.overlong_buffer is {algorithm.overlong_buffer}, which leaves no length "
                f"unpunished in sampling.max_tokens {sampling.max_tokens}"
            )
        if self.evaluation.every and self.tasks.holdout is None:
            yield "evaluation.every is set, but tasks.holdout names no held-out tasks"
        if self.optimizer.updates_per_batch > sampling.groups_per_step:
            yield (
                f"optimizer.updates_per_batch is {self.optimizer.updates_per_batch}, more than the "
                f"{sampling.groups_per_step} groups of sampling.groups_per_step"
            )
        if self.optimizer.warmup_steps > self.steps:
            yield (
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, more than steps {self.steps}"
            )
        kinds = [tracker.kind for tracker in self.tracking]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            yield f"tracking names {', '.join(twice)} more than once: a job is one run of a tracker"

    def _view_problems(self) -> Iterator[str]:
        """Whether the teacher's view fits the algorithm."""
        algorithm, view = self.algorithm, self.privileged
        if view is None:
            return
        if not isinstance(algorithm, SelfTaught):
            whose = "no teacher" if algorithm.kind == "grpo" else "a teacher of its own"
            yield (
                f"privileged is set, but algorithm.kind {algorithm.kind} has {whose}, "
                "which reads nothing more than the task"
            )
        if algorithm.kind == "sdpo" and view.kind not in SDPO_VIEWS:
            yield (
                f"privileged.kind is {view.kind}: sdpo learns from {' or '.join(SDPO_VIEWS)}; "
                "for this context take algorithm.kind opsd"
            )
        if isinstance(algorithm, Rlsd) and algorithm.contrasts and view.kind not in WRONG_VIEWS:
            yield (
                f"algorithm.evidence is {algorithm.evidence}, but privileged.kind {view.kind} has no "
                f"wrong counterpart: it may be {', '.join(WRONG_VIEWS)}"
            )

    @property
    def has_teacher(self) -> bool:
        """Whether the algorithm asks a teacher for evidence."""
        return self.algorithm.kind != "grpo"

    @property
    def refills(self) -> int:
        """Times a step replaces its groups without contrast."""
        return self.algorithm.refills if isinstance(self.algorithm, PolicyGradient) else 0

    @property
    def needs_contrast(self) -> bool:
        """Whether a task teaches only by the differences between its completions."""
        return isinstance(self.algorithm, PolicyGradient) or (
            self.privileged is not None and self.privileged.kind == "sibling"
        )

    @property
    def teaches_itself(self) -> bool:
        """Whether the teacher's weights are made of the policy's as it learns."""
        return isinstance(self.algorithm, SelfTaught) and self.algorithm.teacher != "frozen"

    def syncs_teacher(self, version: int) -> bool:
        """Whether policy `version` is also sent to the teacher; it began with version 0."""
        weights = getattr(self.algorithm, "teacher", None)
        if isinstance(weights, Synced):
            return version % weights.synced == 0
        return self.teaches_itself
