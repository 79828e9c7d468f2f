"""Scoring: the log-probs a policy gives to completions that somebody sampled.

The teacher's and the learner's one code path: with equal weights, equal sequences in equal
order give bit-identical log-probs. Flat arrays in, flat arrays out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.packing import pack
from trainer.policy import Policy


class Scorer:
    """A policy that scores, at one temperature and one microbatch budget, without gradients."""

    def __init__(self, policy: Policy, *, temperature: float, microbatch_tokens: int) -> None:
        self.policy = policy
        self.temperature = temperature
        self.microbatch_tokens = microbatch_tokens

    @torch.no_grad()
    def score(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int32],
        prompt_lengths: NDArray[np.int32],
        sequences: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """float32[C]: log-probs (nats) of all completion tokens, after temperature.

        tokens int32[N], lengths and prompt_lengths int32[S], as in a Batch. With
        `sequences`, only these are scored and the others' tokens get 0. Raises ValueError
        when the arrays do not fit each other.
        """
        out = np.zeros(int(np.sum(lengths) - np.sum(prompt_lengths)), dtype=np.float32)
        budget = self.microbatch_tokens
        for part in pack(tokens, lengths, prompt_lengths, budget=budget, sequences=sequences):
            logprobs, _ = self.policy.completion_logprobs(part, self.temperature)
            out[part.completions] = logprobs.cpu().numpy()
        return out

    @torch.no_grad()
    def score_likeliest(
        self,
        tokens: NDArray[np.int32],
        lengths: NDArray[np.int32],
        prompt_lengths: NDArray[np.int32],
        *,
        k: int,
        vocabulary: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """As `score`, and the k likeliest of the first `vocabulary` tokens at each place.

        float32[C], int32[C, k] and float32[C, k]. Raises ValueError as `score` does.
        """
        count, width = int(np.sum(lengths) - np.sum(prompt_lengths)), min(k, vocabulary)
        out = np.zeros(count, dtype=np.float32)
        ids = np.zeros((count, width), dtype=np.int32)
        logprobs = np.zeros((count, width), dtype=np.float32)
        for part in pack(tokens, lengths, prompt_lengths, budget=self.microbatch_tokens):
            found = self.policy.completion_likeliest(part, self.temperature, k, vocabulary)
            for stream, values in zip((out, ids, logprobs), found, strict=True):
                stream[part.completions] = values.cpu().numpy()
        return out, ids, logprobs

    def logprobs_of(self, token_ids: Iterable[int]) -> NDArray[np.float32]:
        """float32[n - 1]: log-probs of the 2nd to the last of n tokens, each after those before it.

        The canary: what a rollout engine with the same weights must reproduce.
        """
        tokens = np.fromiter(token_ids, dtype=np.int32)
        one = np.ones(1, dtype=np.int32)
        return self.score(tokens, one * len(tokens), one)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the policy's weights in place. Raises ModelError unless all are given."""
        self.policy.load_weights(weights)
