"""The teacher tier: the policy itself, shown the privileged context, scoring completions.

In: a task and a reference to its rollouts. Out: the log-probs of exactly the sampled tokens
under the privileged prompt, which stay in the object store. The torch code is the learner's
own, so that equal weights and equal sequences give equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from transformers import AutoTokenizer

from services.weights import Manifest, unpack_verified
from trainer.evidence import Evidence
from trainer.policy import Dtype, Policy
from trainer.privileged import teacher_prompt
from trainer.records import Rollout, Task
from trainer.scorer import Scorer
from trainer.spec import PrivilegedSpec


@dataclass(frozen=True, slots=True)
class TeacherOptions:
    """How a teacher is built."""

    model_path: str
    dtype: Dtype
    temperature: float
    microbatch_tokens: int
    privileged: PrivilegedSpec


class Teacher:
    """One scorer. Its methods run one at a time."""

    def __init__(self, options: TeacherOptions) -> None:
        self._options = options
        self._tokenizer = AutoTokenizer.from_pretrained(options.model_path)
        self._scorer = Scorer(
            Policy(options.model_path, dtype=options.dtype),
            temperature=options.temperature,
            microbatch_tokens=options.microbatch_tokens,
        )

    def ready(self) -> None:
        """Answers once the model is loaded."""

    def load_weights(self, manifest: Manifest, buckets: Sequence[Any]) -> None:
        """Take over a published policy version. Raises StaleWeights when it arrived damaged."""
        arrays: Iterator[NDArray[np.uint8]] = (ray.get(reference) for reference in buckets)  # type: ignore[misc]
        self._scorer.load_weights(unpack_verified(manifest, arrays))

    def score(
        self, tasks: Sequence[Task], references: Sequence[Any]
    ) -> tuple[list[list[Evidence]], int]:
        """The evidence of each group, in order, and the number of tokens scored, as two values:
        called with `num_returns=2`, the evidence never leaves the object store."""
        groups: list[tuple[Rollout, ...]] = ray.get(list(references))
        prompts = [
            teacher_prompt(task, self._tokenizer, self._options.privileged) for task in tasks
        ]
        parts: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        prompt_lengths: list[int] = []
        completions: list[int] = []
        for prompt, rollouts in zip(prompts, groups, strict=True):
            for rollout in rollouts:
                parts += [prompt, rollout.completion_ids]
                lengths.append(len(prompt) + len(rollout.completion_ids))
                prompt_lengths.append(len(prompt))
                completions.append(len(rollout.completion_ids))
        flat = self._scorer.score(
            np.concatenate(parts).astype(np.int32),
            np.asarray(lengths, np.int32),
            np.asarray(prompt_lengths, np.int32),
        )
        arrays = iter(np.split(flat, np.cumsum(completions)[:-1]))
        evidence = [
            [Evidence(len(prompt), next(arrays)) for _ in rollouts]
            for prompt, rollouts in zip(prompts, groups, strict=True)
        ]
        return evidence, sum(lengths)
