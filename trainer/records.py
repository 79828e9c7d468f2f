"""The records that flow through a training job.

Frozen and made of arrays and plain data, so they cross process boundaries through the
Ray object store without a custom serialiser. S sequences, G rollouts a group, P prompt
tokens, T completion tokens, N tokens in all, C completion tokens in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from verifiers.verdict import Verdict

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Privileged:
    """What the teacher may see and the policy may not.

    `documents` are texts; `document_ids` name documents of the job's library.
    """

    answer: str | None = None
    trace: str | None = None
    documents: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with a checkable answer.

    `messages` is a chat in the OpenAI form (`role`, `content`: a text, or a list of text and
    image parts); `verifier` is a spec of
    `verifiers.spec` as plain data.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    verifier: Mapping[str, Any]
    privileged: Privileged = Privileged()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion.

    `prompt_ids` int32[P], `completion_ids` int32[T], `logprobs` float32[T]: natural log
    of the probability the engine sampled each token with, after temperature. `version`
    is the policy version that sampled it; `text` is the decoded completion.
    """

    prompt_ids: NDArray[np.int32]
    completion_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    text: str
    version: int
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one task, judged. `advantages` is float32[G], aligned with `rollouts`."""

    task: Task
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]
    advantages: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a learner step eats: S sequences, laid head to tail.

    tokens             int32[N]       prompt and completion of every sequence
    lengths            int32[S]       prompt + completion tokens of each sequence
    prompt_lengths     int32[S]       prompt tokens of each sequence (at least 1)
    advantages         float32[S]     group-relative advantage of each sequence
    engine_logprobs    float32[C]     the rollout engine's log-probs of the completion tokens
    teacher_logprobs   float32[C]     the teacher's, under its own prompt; None without a teacher
    contrast_logprobs  float32[C]     the teacher's, under wrong answers; None without contrast
    top_ids            int32[C, K]    the teacher's likeliest tokens at each place
    top_logprobs       float32[C, K]  and their log-probs; both None without them
    taught             bool[S]        sequences the teacher had a context for; None for all
    span_mask          bool[C]        tokens whose credit evidence may move; None for all

    What the teacher says of a sequence that is not taught is never read.
    """

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    prompt_lengths: NDArray[np.int32]
    advantages: NDArray[np.float32]
    engine_logprobs: NDArray[np.float32]
    teacher_logprobs: NDArray[np.float32] | None = None
    contrast_logprobs: NDArray[np.float32] | None = None
    top_ids: NDArray[np.int32] | None = None
    top_logprobs: NDArray[np.float32] | None = None
    taught: NDArray[np.bool_] | None = None
    span_mask: NDArray[np.bool_] | None = None

    @property
    def completion_lengths(self) -> NDArray[np.int32]:
        """int32[S]: completion tokens of each sequence; they sum to C."""
        return self.lengths - self.prompt_lengths

    @property
    def is_taught(self) -> NDArray[np.bool_]:
        """bool[S]: `taught`, all of them by default."""
        return np.ones(len(self.lengths), dtype=np.bool_) if self.taught is None else self.taught
