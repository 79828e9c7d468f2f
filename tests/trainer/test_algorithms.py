"""Recipes: what each kind makes of the same signals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import random_batch
from trainer.algorithm_spec import (
    Grpo,
    GrpoOpsd,
    Mix,
    Opsd,
    Rlsd,
    Sdpo,
)
from trainer.algorithms import (
    AlgorithmError,
    Outcome,
    Tokens,
    mix_at,
    require,
    run,
    with_gradient,
)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tokens(logprobs: Tensor | None = None, **changes: Any) -> Tokens:
    """Three tokens of three completions: rewarded, blamed, and neither."""
    ones = t(1, 1, 1)
    given: dict[str, Any] = {
        "logprobs": t(-2, -2, -2) if logprobs is None else logprobs,
        "old": t(-2, -2, -2),
        "advantages": t(1, -1, 0),
        "importance": ones,
        "scales": ones / 3,
        "sequence": torch.arange(3),
        "taught": torch.tensor([True, True, True]),
        "lessons": ones / 3,
        "teacher": t(-1.9, -1.9, -1.0),
    }
    return Tokens(**given | changes)


def factors(spec: Any, mix: float = 1.0, **changes: Any) -> list[float]:
    return run(spec, tokens(**changes), mix).factors.tolist()


def gradient(spec: Any, mix: float = 1.0, **changes: Any) -> list[float]:
    logprobs = t(-2, -2, -2).requires_grad_()
    run(spec, tokens(logprobs, **changes), mix).loss.backward()
    assert logprobs.grad is not None
    return logprobs.grad.tolist()


def test_the_mix_is_linear_a_constant_or_a_warm_up() -> None:
    falling = Rlsd(mix=Mix(over=4))
    assert [mix_at(falling, step) for step in range(6)] == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    rising = Rlsd(mix=Mix(start=0.0, end=0.4, over=2))
    assert [mix_at(rising, step) for step in range(4)] == pytest.approx([0.0, 0.2, 0.4, 0.4])
    assert mix_at(Rlsd(mix=Mix(start=0.5, end=0.5)), 1000) == 0.5
    assert mix_at(Grpo(), 0) == 0


def test_the_mix_may_last_a_share_of_the_run() -> None:
    spec = Rlsd(mix=Mix(over="25%"))
    assert [mix_at(spec, step, 8) for step in range(4)] == [0.5, 0.25, 0.0, 0.0]
    assert mix_at(spec, 50, 400) == 0.25
    with pytest.raises(ValueError, match=r"mix.over is 25%"):
        mix_at(spec, 0)


def test_grpo_leaves_every_advantage_as_it_is() -> None:
    assert factors(Grpo()) == [1, 1, 1]
    assert gradient(Grpo()) == pytest.approx([-1 / 3, 1 / 3, 0])


def test_rlsd_moves_magnitude_towards_what_the_teacher_would_have_said() -> None:
    e = torch.e
    assert factors(Rlsd()) == pytest.approx([e**0.1, e**-0.1, 1.0])
    assert gradient(Rlsd()) == pytest.approx([-(e**0.1) / 3, e**-0.1 / 3, 0])


def test_rlsd_without_mix_is_grpo() -> None:
    assert factors(Rlsd(), mix=0.0) == factors(Grpo())
    assert gradient(Rlsd(), mix=0.0) == gradient(Grpo())


def test_contrastive_evidence_is_measured_against_a_wrong_answer() -> None:
    contrast = t(-2.0, -1.8, -3.0)
    for kind in ("contrastive", "contrastive_marginal"):
        found = factors(Rlsd(evidence=kind), contrast=contrast)
        assert found == pytest.approx([torch.e**0.1, torch.e**0.1, 1.0])
    # Flags hold for it too: nothing moves where it may not.
    spec = Rlsd(evidence="contrastive", negative_only=True)
    assert factors(spec, contrast=contrast) == pytest.approx([1.0, torch.e**0.1, 1.0])


def test_reversed_evidence_praises_what_the_teacher_would_not_have_said() -> None:
    assert factors(Rlsd(evidence="reversed")) == pytest.approx([torch.e**-0.1, 1.0, 1.0])


def test_a_completion_without_context_has_no_evidence_and_nothing_to_distil() -> None:
    untaught: dict[str, Any] = {
        "taught": torch.tensor([False, True, True]),
        "lessons": t(0, 0.5, 0.5),
    }
    assert factors(Rlsd(), **untaught)[0] == 1
    assert gradient(Opsd(), **untaught)[0] == 0


def test_self_distillation_pulls_the_sampled_token_towards_the_teacher() -> None:
    assert gradient(Opsd()) == pytest.approx([-0.1 / 3, -0.1 / 3, -1 / 3])
    assert gradient(Sdpo(token_clip=0.5)) == pytest.approx([-0.1 / 3, -0.1 / 3, -0.5 / 3])


def test_the_blend_is_grpo_and_self_distillation_by_their_shares() -> None:
    blend, parts = gradient(GrpoOpsd(alpha=0.25)), (gradient(Grpo()), gradient(Opsd()))
    assert blend == pytest.approx([0.75 * a + 0.25 * b for a, b in zip(*parts, strict=True)])


def test_the_penalty_pulls_back_to_the_first_weights() -> None:
    start = t(-2.5, -2.0, -1.0)
    plain, held = gradient(Grpo()), gradient(Grpo(kl=0.3), start=start)
    expected = [
        a + 0.3 / 3 * (1 - np.exp(s + 2)) for a, s in zip(plain, start.tolist(), strict=True)
    ]
    assert held == pytest.approx(expected)
    value = run(Grpo(kl=0.3), tokens(start=start), 0.0).loss - run(Grpo(), tokens(), 0.0).loss
    terms = [np.exp(s + 2) - (s + 2) - 1 for s in start.tolist()]
    assert value.item() == pytest.approx(0.3 * np.mean(terms))


def test_a_batch_without_what_the_algorithm_reads_is_refused_by_name() -> None:
    batch = replace(random_batch(), teacher_logprobs=None)
    require(Grpo(), batch)
    for spec, lacking in [
        (Rlsd(), "teacher_logprobs"),
        (Rlsd(evidence="contrastive"), "teacher_logprobs and contrast_logprobs"),
        (Opsd(), "teacher_logprobs"),
        (GrpoOpsd(top_k=4), "top_ids and top_logprobs"),
    ]:
        with pytest.raises(AlgorithmError, match=f"{spec.kind} reads {lacking},"):
            require(spec, batch)


def test_only_sequences_that_can_move_the_policy_are_run() -> None:
    advantages = np.array([1, 0, -1, 0], np.float32)
    taught = np.array([True, True, False, False])
    for spec, moved in [
        (Rlsd(), [True, False, True, False]),
        (Sdpo(), [True, True, False, False]),
        (GrpoOpsd(), [True, True, True, False]),
        (Grpo(kl=0.1), [True] * 4),
    ]:
        assert with_gradient(spec, advantages, taught).tolist() == moved


@pytest.mark.parametrize("spec", [Grpo(), Grpo(ratio="sequence"), Grpo(ratio="cispo"), Rlsd()])
def test_an_outcome_tells_what_each_token_got(spec: Any) -> None:
    made: Outcome = run(spec, tokens(), 1.0)
    assert made.low is not None
    assert made.high is not None
    assert not (made.low | made.high).any(), "nothing is clipped at a ratio of 1"
    assert made.factors.shape == (3,)
