"""The four tiers of one job: started, called with deadlines, and ended.

Implements what the training loop asks for; only references and small numbers come back. How
actors are kept alive is services/replicas.py, services/learner_tier.py and
services/shared_verifiers.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from services.config import JobSpec
from services.health import Limits
from services.histograms import flat
from services.idle import IdleClock
from services.job_sections import ModelTierSpec
from services.learner_tier import LearnerTier, TrainerLost
from services.learning import GroupRefs, LearnerWorker, LearningOptions
from services.pipeline import Judged, Rolled, side_by_side
from services.precision import dtype_of
from services.replicas import Care, PublicationLost, Replicas, TierFailed
from services.rollout import EngineOptions, RolloutEngine, SamplingOptions
from services.saving import NotSaved
from services.shared_verifiers import SharedVerifiers, Tell
from services.task_needs import folders
from services.teacher import Teacher, TeacherOptions
from services.threads import compute_env, threads_of
from services.verifier_pools import PoolShape
from services.weights import Publication
from trainer.checkpoint import Checkpoint
from trainer.group import LearnerGroup, Placement
from trainer.records import Task

T = TypeVar("T")

# Groups in flight on one engine; what is beyond waits here, not in the engine's memory.
IN_FLIGHT = 128
TIER_OF = {"rollout": "rollout", "verify": "verifier", "score": "teacher"}
CANARY_TOKENS = 32

log = logging.getLogger(__name__)


class RayTiers:
    """All tiers of a job, on the cluster this process is connected to."""

    def __init__(
        self,
        job: JobSpec,
        model_path: Path,
        folder: Path,
        prompts: Mapping[str, NDArray[np.int32]],
        *,
        teacher_path: Path | None = None,
        tell_verifiers: Tell | None = None,
        tell: Callable[[str], Awaitable[None]] | None = None,
        owner: Any = None,
    ) -> None:
        """`prompts` are the policy's prompts as token ids, by task id; `folder` is the job's own.

        `teacher_path` holds the teacher's weights, where they are not the policy's;
        `tell_verifiers` is told what the verifiers count, and `tell` what died and was replaced;
        `owner` is as in SharedVerifiers.
        """
        self._job = job
        self._model_path = str(model_path)
        self._teacher_path = str(teacher_path or model_path)
        self._folder = folder
        self._prompts = prompts
        self._sampling = SamplingOptions(
            max_tokens=job.sampling.max_tokens,
            temperature=job.sampling.temperature,
            top_p=job.sampling.top_p,
        )
        self._tell = tell or _log_warning
        tiers = job.tiers
        care = Care(
            Limits(progress_s=job.deadlines.progress_s),
            start_s=job.deadlines.start_s,
            tell=self._tell,
            dumps=folder / "dumps",
        )
        self._rollout = Replicas(
            "rollout",
            lambda number: self._actor(RolloutEngine, tiers.rollout, self._engine_options(number)),
            tiers.rollout.replicas,
            care,
            in_flight=IN_FLIGHT,
        )
        self._teachers = Replicas(
            "teacher",
            lambda _: self._actor(Teacher, tiers.teacher, self._teacher_options()),
            tiers.teacher.replicas if job.has_teacher else 0,
            care,
            in_flight=1,
            needs_weights=job.teaches_itself,
        )
        self._lesson: Publication | None = None  # what the teachers were sent last
        self._learner = LearnerTier(self._learner_group, tiers.trainer.replicas, care)
        used = [*TIER_OF.values(), "trainer"]
        self._idle = IdleClock(t for t in used if t != "teacher" or job.has_teacher)
        tier = job.tiers.verifier
        self._verifiers = SharedVerifiers(
            PoolShape(
                cpus=tier.cpus,
                labels=tier.labels,
                env=compute_env(max(1, int(tier.cpus))),
                workers=max(1, int(tier.cpus)),
                databases=folders(job.tasks),
            ),
            least=tier.replicas,
            most=tier.max_replicas or tier.replicas,
            deadline_s=job.deadlines.verify_s,
            tell=tell_verifiers,
            owner=owner,
        )

    @property
    def engines(self) -> list[Any]:
        """The rollout actors."""
        return self._rollout.actors

    async def start(self, saved: Checkpoint | None = None) -> None:
        """Place every actor and load every model, side by side; the learner from a checkpoint."""
        parts = (
            self._rollout.start,
            self._teachers.start,
            self._verifiers.start,
            lambda: self._learner.start(saved),
        )
        whole = side_by_side(part() for part in parts)
        await self._within("start", whole, self._job.deadlines.start_s)

    async def go_back(self, saved: Checkpoint | None, reason: str) -> None:
        """Make the learner anew that was lost for `reason`, from a checkpoint or from the start."""
        again = self._learner.go_back(saved, reason)
        await self._within("restart", again, self._job.deadlines.start_s)

    def _learner_group(self) -> LearnerGroup:
        tier = self._job.tiers.trainer
        placement = Placement(
            workers=tier.replicas,
            cpus=tier.cpus,
            gpus=tier.gpus,
            labels=tier.labels,
            env=self._env(tier),
        )
        options, storage = self._learning_options(), str(self._folder / "ray")
        return LearnerGroup(LearnerWorker, options, placement, storage)

    def _actor(self, kind: type, tier: ModelTierSpec, *args: Any) -> Any:
        options: dict[str, Any] = {
            "num_cpus": tier.cpus,
            "num_gpus": tier.gpus,
            "max_restarts": 0,
            "runtime_env": {"env_vars": self._env(tier)},
        }
        if kind is Teacher:
            options["concurrency_groups"] = {"life": 1}  # it answers while it scores
        if tier.labels:
            options["label_selector"] = dict(tier.labels)
        make: Any = ray.remote(**options)
        return make(kind).remote(*args)

    def _env(self, tier: ModelTierSpec) -> dict[str, str]:
        if tier.gpus:
            return {"TOKENIZERS_PARALLELISM": "false"}
        return compute_env(threads_of(self._job, tier))

    def _engine_options(self, replica: int) -> EngineOptions:
        job = self._job
        return EngineOptions(
            model_path=self._model_path,
            dtype=dtype_of(job),
            max_length=job.model.max_length,
            max_sequences=job.engine.max_sequences,
            seed=job.seed + replica,
            kv_cache_gib=job.engine.kv_cache_gib,
            gpu_memory_utilization=job.engine.gpu_memory_utilization,
            gpus=job.tiers.rollout.gpus,
        )

    def _teacher_options(self) -> TeacherOptions:
        return TeacherOptions.of(
            self._job, model_path=self._teacher_path, policy_path=self._model_path
        )

    def _learning_options(self) -> LearningOptions:
        job = self._job
        first = next(iter(self._prompts.values()))
        return LearningOptions(
            model_path=self._model_path,
            dtype=dtype_of(job),
            temperature=job.sampling.temperature,
            max_tokens=job.sampling.max_tokens,
            steps=job.steps,
            seed=job.seed,
            algorithm=job.algorithm,
            optimizer=job.optimizer,
            canary_ids=tuple(int(token) for token in first[-CANARY_TOKENS:]),
            trace_folder=str(self._folder / "traces"),
            checkpoint_folder=str(self._folder / "checkpoints"),
            checkpoints_kept=job.checkpoint.keep,
            alternatives=job.traces.alternatives,
            leak_patterns=job.leakage.patterns,
        )

    async def generate(self, task: Task, count: int) -> Rolled:
        """Sample `count` completions of a task."""
        work = self._rollout.call("generate", self._prompts[task.id], self._sampling, count)
        rollouts, (version, tokens) = await self._within("rollout", work, amount=count)
        return Rolled(task, rollouts, version, tokens)

    async def verify(self, rolled: Rolled) -> Judged:
        """Judge a task's rollouts."""
        spec, cost = dict(rolled.task.verifier), self._job.sampling.group_size
        work = self._verifiers.judge(spec, rolled.rollouts, cost)
        verdicts, summary = await self._within("verify", work)
        return Judged(rolled, verdicts, tuple(s for s, _ in summary), tuple(s for _, s in summary))

    async def score(self, groups: Sequence[Judged]) -> list[Any]:
        """Evidence of the groups, as references to one list for each teacher's share, in order."""
        shares = _shares(groups, len(self._teachers.actors))
        work = side_by_side(
            self._teachers.call(
                "score",
                [group.rolled.task for group in share],
                [group.rolled.rollouts for group in share],
                [group.verdicts for group in share],
            )
            for share in shares
        )
        return [evidence for evidence, _ in await self._within("score", work)]

    async def learn(self, groups: Sequence[Judged], evidence: Any, step: int) -> dict[str, float]:
        """One learning step on every trainer rank; rank 0's metrics."""
        references = [
            GroupRefs(group.rolled.task, group.rolled.rollouts, group.verdicts) for group in groups
        ]
        metrics, refused = await self._trainers("learn", references, evidence, step)
        for tier in (self._rollout, self._teachers, self._learner):
            tier.restarts.reached(step + 1)
        if refused is not None:
            await self._tell(f"{refused}; the job goes on without it")
        return metrics

    async def policy_logprobs(
        self, prompts: Sequence[NDArray[np.int32]], completions: Sequence[NDArray[np.int32]]
    ) -> list[NDArray[np.float32]]:
        """float32[T] of each completion under its prompt, by the learner's own forward (nats)."""
        return await self._trainers("score", list(prompts), list(completions))

    async def publish(self, version: int, *, to_teacher: bool) -> dict[str, float]:
        """Bring the learner's weights to every engine, and to the teachers those that are theirs.

        Returns the bytes of one copy, the widest canary gap of the engines (nats), and since the
        last publication how idle each tier was and how many rollouts were in flight.
        """
        policy, lesson = await self._trainers("publish", version, to_teacher=to_teacher)
        due = [(self._rollout, policy)]
        if lesson is not None and lesson != self._lesson:
            due.append((self._teachers, lesson))
        try:
            work = side_by_side(tier.publish(weights) for tier, weights in due)
            proofs, *_ = await self._within("publish", work)
        except PublicationLost as error:
            raise TrainerLost(str(error)) from error
        self._lesson = lesson
        gaps = [proof["canary_gap"] for proof in proofs]
        metrics = {"weight_bytes": float(policy.manifest.nbytes), "canary_gap": max(gaps)}
        told = self._idle.read()
        metrics["rollouts_in_flight"] = told.in_hand["rollout"]
        return metrics | flat("idle_share", told.idle)

    async def checkpoint(self, step: int, cursor: Mapping[str, int]) -> str:
        """Save the learner's state; the model folder inside. Raises NotSaved."""
        saved, refused = await self._trainers("save", step, dict(cursor))
        if refused is not None:
            raise NotSaved(refused)
        return saved

    async def _trainers(self, method: str, *args: Any, **options: Any) -> Any:
        with self._idle.busy("trainer"):
            return await self._learner.call(method, self._job.deadlines.phase_s, *args, **options)

    async def _within(
        self, phase: str, work: Awaitable[T], seconds: float | None = None, *, amount: int = 1
    ) -> T:
        deadline = seconds or self._job.deadlines.phase_s
        try:
            with self._idle.busy(TIER_OF[phase], amount) if phase in TIER_OF else nullcontext():
                async with asyncio.timeout(deadline):
                    return await work
        except TimeoutError as error:
            raise TierFailed(
                f"{phase} did not finish within its deadline of {deadline:.0f} s"
            ) from error

    async def stop(self, seconds: float = 30.0) -> None:
        """End every actor and the processes it started; what does not end in time is killed."""
        parts = (self._rollout.stop, self._teachers.stop, self._verifiers.close, self._learner.stop)
        ended = await asyncio.gather(*(part(seconds) for part in parts), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                log.warning("a tier did not end well", exc_info=error)


async def _log_warning(message: str) -> None:
    log.warning("%s", message)


def _shares(groups: Sequence[T], count: int) -> list[Sequence[T]]:
    """Cut a sequence into at most `count` runs of nearly equal length, in order."""
    bounds = np.linspace(0, len(groups), min(count, len(groups)) + 1).round().astype(int)
    return [groups[first:last] for first, last in pairwise(bounds)]
