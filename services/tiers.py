"""The four tiers of one job: actors started, called with deadlines, and ended.

Implements what the training loop asks for. Work goes to the least loaded replica; only
references and small numbers come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from services.config import JobSpec, ModelTierSpec
from services.learning import GroupRefs, LearnerWorker, LearningOptions
from services.pipeline import Judged, Rolled, abandon, side_by_side
from services.rollout import EngineOptions, RolloutEngine, SamplingOptions
from services.saving import NotSaved
from services.shared_verifiers import SharedVerifiers, Tell
from services.task_databases import folders
from services.teacher import Teacher, TeacherOptions
from services.threads import compute_env, threads_of
from services.verifier_tier import PoolShape
from trainer.checkpoint import Checkpoint
from trainer.group import LearnerGroup, Placement
from trainer.records import Task

T = TypeVar("T")

# Groups in flight on one engine; what is beyond waits here, not in the engine's memory.
IN_FLIGHT = 128
CANARY_TOKENS = 32


class TierFailed(RuntimeError):
    """A tier did not do what it was asked within its deadline, or lost an actor."""


class Replicas:
    """The actors of one tier and how much work each has."""

    def __init__(self, actors: Sequence[Any], in_flight: int) -> None:
        self.actors = list(actors)
        self._load = [0] * len(self.actors)
        self._room = asyncio.Semaphore(in_flight * len(self.actors))

    async def call(self, method: str, *args: Any) -> Any:
        """Call the least loaded actor's two-valued method; returns (reference, small value)."""
        async with self._room:
            index = min(range(len(self.actors)), key=self._load.__getitem__)
            self._load[index] += 1
            try:
                bound = getattr(self.actors[index], method)
                reference, summary = bound.options(num_returns=2).remote(*args)
                return reference, await summary
            finally:
                self._load[index] -= 1


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
    ) -> None:
        """`prompts` are the policy's prompts as token ids, by task id; `folder` is the job's own.

        `teacher_path` holds the teacher's weights, where they are not the policy's;
        `tell_verifiers` is told what the verifiers count.
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
        self._group: LearnerGroup | None = None
        self._teachers: list[Any] = []
        self._lesson: int | None = None  # version of the teachers' weights, once they have ours
        self._rollout = Replicas([], 1)
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
        )

    @property
    def engines(self) -> list[Any]:
        """The rollout actors."""
        return self._rollout.actors

    async def start(self, saved: Checkpoint | None = None) -> None:
        """Place every actor and load every model, side by side; the learner from a checkpoint."""
        job, tiers = self._job, self._job.tiers
        self._group = LearnerGroup(
            LearnerWorker,
            self._learning_options(),
            Placement(
                workers=tiers.trainer.replicas,
                cpus=tiers.trainer.cpus,
                gpus=tiers.trainer.gpus,
                labels=tiers.trainer.labels,
                env=self._env(tiers.trainer),
            ),
            storage=str(self._folder / "ray"),
        )
        engines = [
            self._actor(RolloutEngine, tiers.rollout, self._engine_options(replica))
            for replica in range(tiers.rollout.replicas)
        ]
        self._rollout = Replicas(engines, IN_FLIGHT)
        if job.has_teacher:
            teacher = TeacherOptions.of(
                job, model_path=self._teacher_path, policy_path=self._model_path
            )
            self._teachers = [
                self._actor(Teacher, tiers.teacher, teacher) for _ in range(tiers.teacher.replicas)
            ]
        waits: list[Awaitable[Any]] = [engine.start.remote() for engine in engines]
        waits += [teacher.ready.remote() for teacher in self._teachers]
        waits.append(self._verifiers.start())
        waits.append(self._group.call("ready", timeout=job.deadlines.start_s))
        await self._within(
            "start", side_by_side(_one(wait) for wait in waits), job.deadlines.start_s
        )
        if saved is not None:
            await self._trainers("resume", saved)

    def _actor(self, kind: type, tier: ModelTierSpec, *args: Any) -> Any:
        options: dict[str, Any] = {
            "num_cpus": tier.cpus,
            "num_gpus": tier.gpus,
            "max_restarts": 0,
            "runtime_env": {"env_vars": self._env(tier)},
        }
        if tier.labels:
            options["label_selector"] = dict(tier.labels)
        return ray.remote(kind).options(**options).remote(*args)

    def _env(self, tier: ModelTierSpec) -> dict[str, str]:
        if tier.gpus:
            return {"TOKENIZERS_PARALLELISM": "false"}
        return compute_env(threads_of(self._job, tier))

    def _engine_options(self, replica: int) -> EngineOptions:
        job = self._job
        return EngineOptions(
            model_path=self._model_path,
            dtype=job.model.dtype,
            max_length=job.model.max_length,
            max_sequences=job.engine.max_sequences,
            seed=job.seed + replica,
            kv_cache_gib=job.engine.kv_cache_gib,
            gpu_memory_utilization=job.engine.gpu_memory_utilization,
            gpus=job.tiers.rollout.gpus,
        )

    def _learning_options(self) -> LearningOptions:
        job = self._job
        first = next(iter(self._prompts.values()))
        return LearningOptions(
            model_path=self._model_path,
            dtype=job.model.dtype,
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
            leak_patterns=job.leakage.patterns,
        )

    async def generate(self, task: Task, count: int) -> Rolled:
        """Sample `count` completions of a task."""
        work = self._rollout.call("generate", self._prompts[task.id], self._sampling, count)
        rollouts, (version, tokens) = await self._within("rollout", work)
        return Rolled(task, rollouts, version, tokens)

    async def verify(self, rolled: Rolled) -> Judged:
        """Judge a task's rollouts."""
        spec, cost = dict(rolled.task.verifier), self._job.sampling.group_size
        work = self._verifiers.judge(spec, rolled.rollouts, cost)
        verdicts, summary = await self._within("verify", work)
        return Judged(rolled, verdicts, tuple(s for s, _ in summary), tuple(s for _, s in summary))

    async def score(self, groups: Sequence[Judged]) -> list[Any]:
        """Evidence of the groups, as references to one list for each teacher's share, in order."""
        shares = _shares(groups, len(self._teachers))
        answers = [
            teacher.score.options(num_returns=2).remote(
                [group.rolled.task for group in share],
                [group.rolled.rollouts for group in share],
                [group.verdicts for group in share],
            )
            for teacher, share in zip(self._teachers, shares, strict=False)
        ]
        await self._within("score", side_by_side(_one(tokens) for _, tokens in answers))
        return [evidence for evidence, _ in answers]

    async def learn(self, groups: Sequence[Judged], evidence: Any, step: int) -> dict[str, float]:
        """One learning step on every trainer rank; rank 0's metrics."""
        references = [
            GroupRefs(group.rolled.task, group.rolled.rollouts, group.verdicts) for group in groups
        ]
        return (await self._trainers("learn", references, evidence, step))[0]

    async def policy_logprobs(
        self, prompts: Sequence[NDArray[np.int32]], completions: Sequence[NDArray[np.int32]]
    ) -> list[NDArray[np.float32]]:
        """float32[T] of each completion under its prompt, by the learner's own forward (nats)."""
        return (await self._trainers("score", list(prompts), list(completions)))[0]

    async def publish(self, version: int, *, to_teacher: bool) -> dict[str, float]:
        """Bring the learner's weights to every engine, and to the teachers those that are theirs.

        Returns the bytes of one copy and the widest canary gap of the engines (nats).
        """
        policy, lesson = (await self._trainers("publish", version, to_teacher=to_teacher))[0]
        engines = self._rollout.actors
        loads = [actor.load_weights.remote(policy.manifest, policy.buckets) for actor in engines]
        if lesson is not None and lesson.version != self._lesson:
            loads += [
                teacher.load_weights.remote(lesson.manifest, lesson.buckets)
                for teacher in self._teachers
            ]
            self._lesson = lesson.version
        proofs = await self._within("publish", side_by_side(_one(load) for load in loads))
        gaps = [proof["canary_gap"] for proof in proofs[: len(engines)]]
        return {"weight_bytes": float(policy.manifest.nbytes), "canary_gap": max(gaps)}

    async def checkpoint(self, step: int, cursor: Mapping[str, int]) -> str:
        """Save the learner's state; the model folder inside. Raises NotSaved."""
        saved, refused = (await self._trainers("save", step, dict(cursor)))[0]
        if refused is not None:
            raise NotSaved(refused)
        return saved

    async def _trainers(self, method: str, *args: Any, **options: Any) -> list[Any]:
        if self._group is None:
            raise TierFailed(f"the trainer tier was asked to {method} before it was started")
        timeout = self._job.deadlines.phase_s
        return await self._group.call(method, *args, timeout=timeout, **options)

    async def _within(self, phase: str, work: Awaitable[T], seconds: float | None = None) -> T:
        deadline = seconds or self._job.deadlines.phase_s
        try:
            return await asyncio.wait_for(work, deadline)
        except TimeoutError as error:
            raise TierFailed(
                f"{phase} did not finish within its deadline of {deadline:.0f} s"
            ) from error

    async def stop(self, seconds: float = 30.0) -> None:
        """End every actor and the processes it started; what does not end in time is killed."""
        stops: list[Awaitable[Any]] = [_one(actor.stop.remote()) for actor in self.engines]
        stops.append(self._verifiers.close(seconds))
        if self._group is not None:
            stops.append(self._group.close(seconds))
        ended, late = await asyncio.wait(
            [asyncio.ensure_future(stop) for stop in stops], timeout=seconds
        )
        # An actor that is gone, or never began, cannot be asked to stop: that is no error here.
        await asyncio.gather(*ended, return_exceptions=True)
        await abandon(late)
        for actor in (*self.engines, *self._teachers):
            ray.kill(actor)


async def _one(wait: Awaitable[T]) -> T:
    return await wait


def _shares(groups: Sequence[T], count: int) -> list[Sequence[T]]:
    """Cut a sequence into at most `count` runs of nearly equal length, in order."""
    bounds = np.linspace(0, len(groups), min(count, len(groups)) + 1).round().astype(int)
    return [groups[first:last] for first, last in pairwise(bounds)]
