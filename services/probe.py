"""`strop probe`: one step of a job through its real tiers, before any training.

Samples tasks, rolls out, verifies, scores both views, samples once more under the teacher's
prompt, takes one learning step for its time, and throws the weights away. Says what it saw as
a `Sample`; what that means is said elsewhere. Needs a Ray cluster and no service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from services.config import JobSpec
from services.pipeline import Judged, clock, side_by_side
from services.preparation import Prepared, room
from services.probe_digest import Sample
from services.tiers import RayTiers
from trainer.privileged import TeacherPrompt, TeacherView
from trainer.records import Group, Rollout, Task
from trainer.spec import PrivilegedSpec
from verifiers.verdict import Verdict

Tell = Callable[[str], None]
"""Told of each phase as it begins."""


async def probe(
    job: JobSpec, ready: Prepared, tasks: Sequence[Task], folder: Path, tell: Tell
) -> Sample:
    """Run the probe on the cluster this process is connected to; `folder` is for its traces.

    Whatever ends it, its tiers are gone. Raises what the tiers raise.
    """
    seconds: dict[str, float] = {}
    prompts = dict(ready.prompts)
    tiers = RayTiers(job, ready.model_path, folder, prompts, teacher_path=ready.teacher_path)
    try:
        tell("starting the tiers and loading the model")
        with clock(seconds, "start"):
            await tiers.start()
        await tiers.publish(0, to_teacher=job.has_teacher)
        tell(f"sampling {job.sampling.group_size} completions of each of {len(tasks)} tasks")
        judged = await _judged(tiers, job, tasks, seconds)
        groups = [_group(one) for one in judged]

        views = _views(job, ready, groups)
        hinted: list[Group] = []
        if hints := _hints(groups, views):
            tell("sampling and scoring under the privileged context")
            prompts.update({_beside(task): prompt for task, prompt in hints})
            shown = [replace(task, id=_beside(task)) for task, _ in hints]
            again = [_group(one) for one in await _judged(tiers, job, shown, {})]
            hinted = [replace(g, task=task) for g, (task, _) in zip(again, hints, strict=True)]
        evidence = await _evidence(tiers, groups, views)
        if any(verdict.score is not None for group in groups for verdict in group.verdicts):
            tell("taking one learning step, for its time")
            await _learn(tiers, job, judged, seconds)
        return Sample(groups, hinted, evidence, seconds)
    finally:
        await tiers.stop()


def view_of(job: JobSpec, tasks: Sequence[Task]) -> PrivilegedSpec | None:
    """What the teacher sees; for an algorithm without one, what it could: the tasks' traces, or
    their answers, where every task has one. None where there is nothing to see."""
    if job.has_teacher:
        return job.privileged  # None for a teacher of its own, which reads the policy's prompt
    for kind in ("trace", "answer"):
        if all(getattr(task.privileged, kind) is not None for task in tasks):
            return PrivilegedSpec(kind=kind)
    return None


async def _judged(
    tiers: RayTiers, job: JobSpec, tasks: Sequence[Task], seconds: dict[str, float]
) -> list[Judged]:
    with clock(seconds, "rollout"):
        rolled = await side_by_side(tiers.generate(t, job.sampling.group_size) for t in tasks)
    with clock(seconds, "verify"):
        return await side_by_side(tiers.verify(one) for one in rolled)


async def _learn(
    tiers: RayTiers, job: JobSpec, judged: Sequence[Judged], seconds: dict[str, float]
) -> None:
    evidence = None
    if job.has_teacher:
        with clock(seconds, "score"):
            evidence = await tiers.score(judged)
    with clock(seconds, "learn"):
        await tiers.learn(judged, evidence, 0)
    with clock(seconds, "publish"):
        await tiers.publish(1, to_teacher=False)


def _beside(task: Task) -> str:
    """Under which the teacher's prompt of a task stands beside the policy's."""
    return f"{task.id}\0hinted"


def _group(judged: Judged) -> Group:
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]
    rollouts, verdicts = ray.get([judged.rolled.rollouts, judged.verdicts])
    return Group(judged.rolled.task, rollouts, verdicts, np.zeros(len(rollouts), np.float32))


def _views(
    job: JobSpec, ready: Prepared, groups: Sequence[Group]
) -> list[list[TeacherPrompt | None]]:
    """The privileged prompt of each rollout of each group."""
    spec = view_of(job, [group.task for group in groups])
    if spec is None:
        return [[None] * len(group.rollouts) for group in groups]
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(ready.model_path, trust_remote_code=False)
    shorten = job.tasks.overlong == "shorten"
    view = TeacherView(spec, tokenizer, room=room(job), shorten=shorten)
    return [view.of_group(group.task, group.rollouts, group.verdicts) for group in groups]


def _hints(
    groups: Sequence[Group], views: Sequence[Sequence[TeacherPrompt | None]]
) -> list[tuple[Task, NDArray[np.int32]]]:
    """The tasks that have a privileged prompt, each with one: where they differ by completion,
    the first."""
    found: list[tuple[Task, NDArray[np.int32]]] = []
    for group, prompts in zip(groups, views, strict=True):
        first = next((prompt.ids for prompt in prompts if prompt is not None), None)
        if first is not None:
            found.append((group.task, first))
    return found


async def _evidence(
    tiers: RayTiers, groups: Sequence[Group], views: Sequence[Sequence[TeacherPrompt | None]]
) -> list[list[NDArray[np.float32] | None]]:
    """log p_teacher - log p_student of each rollout, the teacher being the policy itself."""
    found: list[list[NDArray[np.float32] | None]] = [[None] * len(g.rollouts) for g in groups]
    seen = [
        (g, r, prompt.ids, rollout)
        for g, (group, prompts) in enumerate(zip(groups, views, strict=True))
        for r, (rollout, prompt) in enumerate(zip(group.rollouts, prompts, strict=True))
        if prompt is not None and len(rollout.completion_ids)
    ]
    if not seen:
        return found
    completions = [rollout.completion_ids for *_, rollout in seen]
    teacher = await tiers.policy_logprobs([ids for _, _, ids, _ in seen], completions)
    own = [rollout.prompt_ids for *_, rollout in seen]
    student = await tiers.policy_logprobs(own, completions)
    for (g, r, _, _), high, low in zip(seen, teacher, student, strict=True):
        found[g][r] = high - low
    return found
