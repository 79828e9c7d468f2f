"""Controls that need a change of the evidence, for one step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from torch import Tensor

from benchmarks.learning.arms import Control
from trainer import algorithms
from trainer.learner import Learner
from trainer.records import Batch


@contextmanager
def controlled(
    control: Control | None, batch: Batch, learner: Learner, draw: np.random.Generator
) -> Generator[Batch]:
    """The batch that this step learns from; `normalised_weights` holds while the block runs."""
    if control == "random_weights":
        yield dealt_anew(batch, learner, draw)
    elif control == "normalised_weights":
        with patch.object(algorithms, "token_weights", normalised):
            yield batch
    else:
        yield batch


def dealt_anew(batch: Batch, learner: Learner, draw: np.random.Generator) -> Batch:
    """The same evidence, dealt to random tokens among those with the same sign of advantage.

    Weights depend on evidence and sign alone, so their distribution stays what it was.
    """
    assert batch.teacher_logprobs is not None, "the arm has a teacher"
    student = learner.score(batch.tokens, batch.lengths, batch.prompt_lengths)
    evidence = batch.teacher_logprobs - student
    signs = np.sign(np.repeat(batch.advantages, batch.completion_lengths))
    for sign in (-1, 1):
        where = np.flatnonzero(signs == sign)
        evidence[where] = evidence[draw.permutation(where)]
    return replace(batch, teacher_logprobs=student + evidence)


def normalised(*arguments: Any, **options: Any) -> Tensor:
    """Token weights divided by their mean: only their distribution over tokens is left."""
    weights = _TOKEN_WEIGHTS(*arguments, **options)
    return weights / weights.mean()


_TOKEN_WEIGHTS = algorithms.token_weights
