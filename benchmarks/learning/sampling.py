"""Batched sampling for a model so small that any serving engine would only add overhead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache


@torch.inference_mode()
def sample(
    model: Any,
    prompts: Sequence[NDArray[np.int32]],
    *,
    max_tokens: int,
    temperature: float,
    end: int,
    generator: torch.Generator,
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """One completion for each prompt: token ids int32[T] with the end token, log-probs float32[T].

    Prompts of equal length are sampled side by side with a key-value cache, without padding.
    """
    results: list[tuple[NDArray[np.int32], NDArray[np.float32]] | None] = [None] * len(prompts)
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [n for n, prompt in enumerate(prompts) if len(prompt) == length]
        batch = torch.from_numpy(np.stack([prompts[n] for n in rows])).long()
        ids, logprobs = _batch(model, batch, max_tokens, temperature, end, generator)
        for row, tokens, values in zip(rows, ids, logprobs, strict=True):
            ended = np.flatnonzero(tokens == end)
            stop = int(ended[0]) + 1 if len(ended) else len(tokens)
            results[row] = (tokens[:stop].astype(np.int32), values[:stop])
    return [result for result in results if result is not None]


def _batch(
    model: Any,
    inputs: torch.Tensor,
    max_tokens: int,
    temperature: float,
    end: int,
    generator: torch.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    cache = DynamicCache(config=model.config)
    done = torch.zeros(len(inputs), dtype=torch.bool)
    ids: list[torch.Tensor] = []
    logprobs: list[torch.Tensor] = []
    for _ in range(max_tokens):
        logits = model(input_ids=inputs, past_key_values=cache, use_cache=True).logits[:, -1]
        scores = (logits.float() / temperature).log_softmax(-1)
        inputs = torch.multinomial(scores.exp(), 1, generator=generator)
        ids.append(inputs[:, 0])
        logprobs.append(scores.gather(-1, inputs)[:, 0])
        done |= inputs[:, 0] == end
        if bool(done.all()):
            break
    return torch.stack(ids, 1).numpy(), torch.stack(logprobs, 1).numpy()
