"""Recipes: what grpo and rlsd make of the same signals."""

from __future__ import annotations

import pytest
import torch

from trainer.algorithms import AlgorithmError, Signals, credit_factors, mix_at
from trainer.spec import Grpo, Rlsd

SIGNALS = Signals(
    advantages=torch.tensor([1.0, -1.0, 0.0]),
    student=torch.tensor([-2.0, -2.0, -2.0]),
    teacher=torch.tensor([-1.9, -1.9, -1.0]),
)


def test_mix_falls_linearly_to_zero_and_stays_there() -> None:
    spec = Rlsd(mix=0.5, mix_decay_steps=4)
    assert [mix_at(spec, step) for step in range(6)] == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert mix_at(Rlsd(mix=0.5, mix_decay_steps=0), 1000) == 0.5
    assert mix_at(Grpo(), 0) == 0


def test_grpo_leaves_every_advantage_as_it_is() -> None:
    assert credit_factors(Grpo(), SIGNALS, 0).tolist() == [1, 1, 1]


def test_rlsd_moves_magnitude_towards_what_the_teacher_would_have_said() -> None:
    factors = credit_factors(Rlsd(mix=1.0, mix_decay_steps=0), SIGNALS, 0)
    e = torch.e
    assert factors.tolist() == pytest.approx([e**0.1, e**-0.1, 1.0])


def test_rlsd_at_the_end_of_its_decay_is_grpo() -> None:
    spec = Rlsd(mix_decay_steps=3)
    assert torch.equal(credit_factors(spec, SIGNALS, 3), credit_factors(Grpo(), SIGNALS, 3))
    assert not torch.equal(credit_factors(spec, SIGNALS, 2), credit_factors(Grpo(), SIGNALS, 2))


def test_rlsd_without_teacher_log_probs_is_refused() -> None:
    with pytest.raises(AlgorithmError, match="teacher"):
        credit_factors(Rlsd(), Signals(SIGNALS.advantages, SIGNALS.student), 0)
