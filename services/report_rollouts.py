"""Which rollouts tell the story, and what their tokens were worth.

Picks from a job's traces a few completions on which evidence moved credit most, right and
wrong ones, and pairs every token's text with its credit. In: a trace folder and a
callable that decodes token by token. Out: plain records for the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.traces import StepTrace, read_job, read_step, step_paths
from trainer.batch import learnable
from trainer.privileged import completion_turn
from trainer.records import Group, Rollout
from trainer.spec import PrivilegedSpec

DecodeTokens = Callable[[Sequence[int]], list[str]]

STEPS_READ = 16
MAX_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token. Log-probs in nats; None where no teacher scored it."""

    text: str
    credit: float
    weight: float
    teacher: float | None
    student: float | None

    @property
    def evidence(self) -> float | None:
        """log p_teacher - log p_student: what privileged context says of the token."""
        if self.teacher is None or self.student is None:
            return None
        return self.teacher - self.student


@dataclass(frozen=True, slots=True)
class Example:
    """A rollout to be shown."""

    step: int
    task_id: str
    verifier: str
    prompt: str
    privileged: str | None  # what only the teacher read
    right: bool
    status: str
    advantage: float
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    trace: StepTrace
    group: Group
    rollout: Rollout
    index: int
    credit: np.ndarray
    teacher: np.ndarray | None
    student: np.ndarray | None

    @property
    def advantage(self) -> float:
        return float(self.group.advantages[self.index])

    @property
    def spread(self) -> float:
        """How unevenly credit lies on the tokens."""
        return float(np.std(self.credit / self.advantage))

    @property
    def verifier(self) -> str:
        return str(self.group.task.verifier["kind"])


def examples(folder: str | Path, decode: DecodeTokens, count: int = 3) -> list[Example]:
    """Up to `count` rollouts of a trace folder: a right one, a wrong one, then others.

    Of different tasks, of different verifiers where there are some. A long job is read in
    evenly spaced steps.
    """
    paths = step_paths(folder)
    if len(paths) > STEPS_READ:
        paths = [paths[round(i)] for i in np.linspace(0, len(paths) - 1, STEPS_READ)]
    found = [candidate for path in paths for candidate in _candidates(read_step(path))]
    found.sort(key=lambda candidate: candidate.spread, reverse=True)
    chosen: list[_Candidate] = []
    while len(chosen) < count:
        tasks = {c.group.task.id for c in chosen}
        left = [c for c in found if c.group.task.id not in tasks]
        if not left:
            break
        chosen.append(min(left, key=lambda c: _rank(c, chosen)))
    view = read_job(folder).get("privileged")
    spec = None if view is None else PrivilegedSpec.model_validate(view)
    return [_example(candidate, spec, decode) for candidate in chosen]


def _rank(candidate: _Candidate, chosen: Sequence[_Candidate]) -> tuple[bool, int]:
    """Prefer the side not shown yet, then the verifier shown least; order is kept in ties."""
    right = candidate.advantage > 0
    missing = [side for side in (True, False) if all((c.advantage > 0) != side for c in chosen)]
    wanted = missing[0] if missing else right
    return right != wanted, sum(c.verifier == candidate.verifier for c in chosen)


def _candidates(trace: StepTrace) -> Iterator[_Candidate]:
    if trace.credit is None:
        return
    end = 0
    for g, r in learnable(trace.groups):
        group = trace.groups[g]
        rollout = group.rollouts[r]
        start, end = end, end + len(rollout.completion_ids)
        if group.advantages[r] == 0 or end - start > MAX_TOKENS:
            continue
        part = slice(start, end)
        yield _Candidate(
            trace=trace,
            group=group,
            rollout=rollout,
            index=r,
            credit=trace.credit[part],
            teacher=None if trace.teacher_logprobs is None else trace.teacher_logprobs[part],
            student=None if trace.student_logprobs is None else trace.student_logprobs[part],
        )


def _example(candidate: _Candidate, spec: PrivilegedSpec | None, decode: DecodeTokens) -> Example:
    group = candidate.group
    task = group.task
    texts = decode(candidate.rollout.completion_ids.tolist())
    verdict = group.verdicts[candidate.index]
    teacher, student = candidate.teacher, candidate.student
    return Example(
        step=candidate.trace.step,
        task_id=task.id,
        verifier=candidate.verifier,
        prompt=str(task.messages[-1]["content"]),
        privileged=None
        if spec is None
        else completion_turn(candidate.index, task, group.rollouts, group.verdicts, spec),
        right=candidate.advantage > 0,
        status=verdict.status,
        advantage=candidate.advantage,
        tokens=tuple(
            Token(
                text=text,
                credit=float(credit),
                weight=float(credit) / candidate.advantage,
                teacher=None if teacher is None else float(teacher[i]),
                student=None if student is None else float(student[i]),
            )
            for i, (text, credit) in enumerate(zip(texts, candidate.credit, strict=True))
        ),
    )
