"""A tiny model and batches of random tokens for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_model import make_tiny_model
from trainer.records import Batch


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with tied embeddings."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def random_batch(seed: int = 0, *, tasks: int = 3, group: int = 4, longest: int = 9) -> Batch:
    """`tasks` prompts of different lengths with `group` completions each, of random tokens."""
    rng = np.random.default_rng(seed)
    tokens, lengths, prompts = [], [], []
    for task in range(tasks):
        prompt = rng.integers(3, 250, 5 + task)
        for _ in range(group):
            completion = rng.integers(3, 250, rng.integers(1, longest))
            tokens += [prompt, completion]
            lengths.append(len(prompt) + len(completion))
            prompts.append(len(prompt))
    count = sum(lengths) - sum(prompts)
    return Batch(
        tokens=np.concatenate(tokens).astype(np.int32),
        lengths=np.array(lengths, dtype=np.int32),
        prompt_lengths=np.array(prompts, dtype=np.int32),
        advantages=rng.normal(size=len(lengths)).astype(np.float32),
        engine_logprobs=rng.uniform(-6, -1, count).astype(np.float32),
        teacher_logprobs=rng.uniform(-6, -1, count).astype(np.float32),
    )


@pytest.fixture
def batch() -> Batch:
    """Twelve sequences of three tasks."""
    return random_batch()


@pytest.fixture
def untaught(batch: Batch) -> Batch:
    """The same without a teacher's log-probs."""
    return replace(batch, teacher_logprobs=None)
