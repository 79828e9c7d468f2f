"""The teacher tier: whoever teaches, scoring completions that the policy sampled.

Mostly the policy itself, shown the privileged context; or a model of its own. In: tasks and
references to their rollouts and verdicts. Out: log-probs of exactly the sampled tokens, which
stay in the object store. The torch code is the learner's own and it scores the sequences the
learner will run, in the same order, so that equal weights and equal prompts give equal numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from services.config import JobSpec
from services.precision import dtype_of
from services.preparation import room
from services.replicas import Beat
from services.weights import Manifest, unpack_verified
from trainer.algorithm_spec import AlgorithmSpec, Distillation, Rlsd
from trainer.algorithms import with_gradient
from trainer.batch import learnable
from trainer.contrast import chosen, counterparts
from trainer.credit import marginal_logprobs
from trainer.evidence import Evidence
from trainer.policy import Dtype, Policy
from trainer.privileged import TeacherPrompt, TeacherView
from trainer.records import Group, Task
from trainer.rewards import judged_group
from trainer.scorer import Scorer
from trainer.spec import PrivilegedSpec
from trainer.templates import fields_used

Prompt = NDArray[np.int32]

MARGINAL_ANSWERS = 3
"""Wrong answers whose probabilities `contrastive_marginal` averages; each costs a forward."""


@dataclass(frozen=True, slots=True)
class TeacherOptions:
    """How a teacher is built.

    `policy_path` has the tokenizer and, without a teacher of its own, the weights.
    `privileged` is None for a teacher that reads the policy's own prompt. `room` is the most
    tokens that a prompt may have, and `shorten` whether context is cut to fit.
    """

    model_path: str
    policy_path: str
    dtype: Dtype
    temperature: float
    microbatch_tokens: int
    algorithm: AlgorithmSpec
    max_tokens: int
    privileged: PrivilegedSpec | None
    room: int
    shorten: bool

    @classmethod
    def of(cls, job: JobSpec, *, model_path: Path | str, policy_path: Path | str) -> TeacherOptions:
        """How the teacher of a job is built."""
        return cls(
            model_path=str(model_path),
            policy_path=str(policy_path),
            dtype=dtype_of(job),
            temperature=job.sampling.temperature,
            microbatch_tokens=job.optimizer.microbatch_tokens,
            algorithm=job.algorithm,
            max_tokens=job.sampling.max_tokens,
            privileged=job.privileged,
            room=room(job),
            shorten=job.tasks.overlong == "shorten",
        )


@dataclass(slots=True)
class _Passes:
    """Sequences to score, head to tail: prompts with completions."""

    prompts: list[Prompt] = field(default_factory=list[Prompt])
    completions: list[NDArray[np.int32]] = field(default_factory=list[NDArray[np.int32]])

    def add(self, prompt: Prompt, completion: NDArray[np.int32]) -> int:
        """Ask for one more; returns its place."""
        self.prompts.append(prompt)
        self.completions.append(completion)
        return len(self.prompts) - 1

    @property
    def tokens(self) -> int:
        """How many tokens go through the model."""
        return sum(map(len, self.prompts)) + sum(map(len, self.completions))

    @property
    def flat(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """tokens, lengths and prompt lengths, as in a Batch."""
        pairs = list(zip(self.prompts, self.completions, strict=True))
        return (
            np.concatenate([part for pair in pairs for part in pair]).astype(np.int32),
            np.array([len(p) + len(c) for p, c in pairs], np.int32),
            np.array([len(p) for p, _ in pairs], np.int32),
        )

    def cut(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """An array over all completion tokens as one array for each sequence."""
        return np.split(flat, np.cumsum([len(c) for c in self.completions])[:-1])


class Teacher:
    """One scorer. Its methods run one at a time, but for those of the group `life`."""

    def __init__(self, options: TeacherOptions) -> None:
        self._options = options
        self._algorithm = options.algorithm
        tokenizer: Any = AutoTokenizer.from_pretrained(options.policy_path, trust_remote_code=False)
        self._vocabulary = len(tokenizer)
        self._scorer = Scorer(
            Policy(options.model_path, dtype=options.dtype),
            temperature=options.temperature,
            microbatch_tokens=options.microbatch_tokens,
        )
        self._view: TeacherView | None = None
        if options.privileged is not None:
            self._view = TeacherView(
                options.privileged, tokenizer, room=options.room, shorten=options.shorten
            )

    def start(self) -> None:
        """Answers once the model is loaded."""

    @ray.method(concurrency_group="life")
    def beat(self) -> Beat:
        """That it lives, and how far it is: packs of sequences that went through the model."""
        here = ray.get_runtime_context()
        return Beat(self._scorer.policy.passes, os.getpid(), here.get_node_id())

    @ray.method(concurrency_group="life")
    def stop(self) -> None:
        """Nothing outlives the process."""

    def load_weights(self, manifest: Manifest, buckets: Sequence[Any]) -> None:
        """Have these weights from now on. Raises StaleWeights when they arrived damaged."""
        arrays: Iterator[NDArray[np.uint8]] = (ray.get(reference) for reference in buckets)  # type: ignore[misc]
        self.take(unpack_verified(manifest, arrays))

    def take(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Have these weights from now on."""
        self._scorer.load_weights(weights)

    def score(
        self, tasks: Sequence[Task], rollouts: Sequence[Any], verdicts: Sequence[Any]
    ) -> tuple[list[list[Evidence | None]], int]:
        """`evidence` of groups that lie in the object store; called with `num_returns=2`, what
        it says of them stays there too."""
        algorithm, longest = self._algorithm, self._options.max_tokens
        groups = [
            judged_group(task, ray.get(said), ray.get(judged), algorithm, longest)
            for task, said, judged in zip(tasks, rollouts, verdicts, strict=True)
        ]
        return self.evidence(groups)

    def evidence(self, groups: Sequence[Group]) -> tuple[list[list[Evidence | None]], int]:
        """What is said of each group's rollouts, in order, and the number of tokens scored.

        None for a rollout that cannot move the policy, or for which there is no context.
        """
        asked, passes = self._asked(groups), _Passes()
        prompts = [self._prompts(group, asked[g]) for g, group in enumerate(groups)]
        for group, row in zip(groups, prompts, strict=True):
            for prompt, rollout in zip(row, group.rollouts, strict=True):
                if prompt is not None:
                    passes.add(prompt.ids, rollout.completion_ids)
        if not passes.prompts:
            return [[None] * len(group.rollouts) for group in groups], 0
        scored = iter(self._scored(passes))
        said = [
            [
                None
                if prompt is None
                else replace(next(scored), turn=prompt.turn, left_out=prompt.left_out)
                for prompt in row
            ]
            for row in prompts
        ]
        tokens = passes.tokens
        if isinstance(self._algorithm, Rlsd) and self._algorithm.contrasts:
            said, more = self._contrasted(groups, said, self._algorithm.evidence)
            tokens += more
        return said, tokens

    def _asked(self, groups: Sequence[Group]) -> list[list[bool]]:
        """Which rollouts the learner will run, if there is context for them."""
        asked = [[False] * len(group.rollouts) for group in groups]
        where = learnable(groups)
        advantages = np.array([groups[g].advantages[r] for g, r in where], np.float32)
        moved = with_gradient(self._algorithm, advantages, np.ones(len(where), np.bool_))
        for (g, r), moves in zip(where, moved.tolist(), strict=True):
            asked[g][r] = moves
        return asked

    def _prompts(self, group: Group, asked: Sequence[bool]) -> list[TeacherPrompt | None]:
        """The prompt under which each rollout is scored; None for one that is not."""
        if not any(asked):
            return [None] * len(asked)
        if self._view is None:
            seen: list[TeacherPrompt | None] = [TeacherPrompt(r.prompt_ids) for r in group.rollouts]
        else:
            seen = self._view.of_group(group.task, group.rollouts, group.verdicts)
        return [prompt if wanted else None for prompt, wanted in zip(seen, asked, strict=True)]

    def _scored(self, passes: _Passes) -> list[Evidence]:
        """Score the sequences; the likeliest tokens too, where the algorithm compares them."""
        algorithm, prompts = self._algorithm, passes.prompts
        k = algorithm.top_k if isinstance(algorithm, Distillation) else 0
        if k == 0:
            scored = passes.cut(self._scorer.score(*passes.flat))
            return [Evidence(len(p), x) for p, x in zip(prompts, scored, strict=True)]
        found = self._scorer.score_likeliest(*passes.flat, k=k, vocabulary=self._vocabulary)
        streams = zip(prompts, *(passes.cut(stream) for stream in found), strict=True)
        return [
            Evidence(len(prompt), sampled, top_ids=ids, top_logprobs=logprobs)
            for prompt, sampled, ids, logprobs in streams
        ]

    def _contrasted(
        self, groups: Sequence[Group], said: list[list[Evidence | None]], kind: str
    ) -> tuple[list[list[Evidence | None]], int]:
        """The evidence with what the teacher says under wrong answers; a rollout without a wrong
        answer to compare with loses its evidence."""
        count = 1 if kind == "contrastive" else MARGINAL_ANSWERS
        passes = _Passes()
        places: dict[tuple[int, int], list[int]] = {}
        for g, group in enumerate(groups):
            for r, prompts in enumerate(self._wrong_prompts(group, said[g], count)):
                completion = group.rollouts[r].completion_ids
                places[g, r] = [passes.add(prompt, completion) for prompt in prompts]
        if not passes.prompts:
            return [[None] * len(row) for row in said], 0
        scored = passes.cut(self._scorer.score(*passes.flat))

        def contrasted(place: tuple[int, int], evidence: Evidence | None) -> Evidence | None:
            views = [scored[index] for index in places[place]]
            if evidence is None or not views:
                return None
            stacked = torch.from_numpy(np.stack(views, axis=-1))
            contrast = marginal_logprobs(stacked).numpy()
            return replace(evidence, contrast=contrast)

        both = [
            [contrasted((g, r), evidence) for r, evidence in enumerate(row)]
            for g, row in enumerate(said)
        ]
        return both, passes.tokens

    def _wrong_prompts(
        self, group: Group, said: Sequence[Evidence | None], count: int
    ) -> list[list[Prompt]]:
        """The prompts with a wrong answer under which each rollout is scored too."""
        view, rollouts = self._view, group.rollouts
        if view is None or all(evidence is None for evidence in said):
            return [[] for _ in rollouts]
        found = counterparts(
            group.task,
            rollouts,
            group.verdicts,
            with_answer=view.spec.kind == "answer" or "answer" in fields_used(view.spec),
        )
        seen = {one.index: view.of_group(one.task, rollouts, one.verdicts) for one in found}
        return [
            []
            if evidence is None
            else [
                prompt.ids
                for one in chosen(r, rollouts, found, count)
                if (prompt := seen[one.index][r]) is not None
            ]
            for r, evidence in enumerate(said)
        ]
