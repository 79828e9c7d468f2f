"""The wrong counterpart of a privileged context: what a wrong answer of the group would show.

In: a judged group. Out: the same task and verdicts as if one of its wrong completions had
been the right one, so that the teacher's ordinary view composes the contrast in the ordinary
template: what both have in common cancels. Text only; knows nothing of prompts or models.
Source: CEPO (arXiv 2605.19436); RLCSD (arXiv 2606.11709).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.records import Privileged, Rollout, Task
from verifiers.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A group in which rollout number `index`, a wrong one, passes for the right one."""

    index: int
    task: Task
    verdicts: tuple[Verdict, ...]


def counterparts(
    task: Task, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict], *, with_answer: bool
) -> list[Counterpart]:
    """One for each wrong rollout, in order; with `with_answer` only for those that gave one.

    The wrong answer is what the verifier extracted, the wrong trace the completion's text.
    """
    found: list[Counterpart] = []
    for index, (rollout, verdict) in enumerate(zip(rollouts, verdicts, strict=True)):
        answer = verdict.evidence.get("extracted")
        said = answer if isinstance(answer, str) and answer.strip() else None
        if verdict.status != "wrong" or (with_answer and said is None):
            continue
        found.append(
            Counterpart(
                index,
                replace(task, privileged=Privileged(answer=said, trace=rollout.text)),
                tuple(
                    Verdict(1.0, "correct") if place == index else Verdict(0.0, "wrong")
                    for place in range(len(rollouts))
                ),
            )
        )
    return found


def chosen(
    index: int, rollouts: Sequence[Rollout], found: Sequence[Counterpart], count: int
) -> list[Counterpart]:
    """The first `count` counterparts for rollout `index`: not itself, and no copy of it."""
    own = rollouts[index].completion_ids
    return [
        one
        for one in found
        if one.index != index and not np.array_equal(rollouts[one.index].completion_ids, own)
    ][:count]
