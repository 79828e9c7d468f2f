"""Distillation: each divergence against its definition, and what the tail and the clip do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer.divergences import (
    Divergence,
    divergence_of,
    sampled_reverse_kl,
    top_k_divergence,
    with_tail,
)

KINDS: list[Divergence] = ["reverse_kl", "forward_kl", 0.5, 0.1]
VOCABULARY = 8


def tables(seed: int = 0, tokens: int = 5) -> tuple[Tensor, Tensor]:
    """Log-probs [tokens, 8] of a student and of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, tokens, VOCABULARY, generator=generator, dtype=torch.float64)
    student, teacher = logits.log_softmax(-1)
    return student, teacher


def likeliest(student: Tensor, teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    ids = teacher.topk(k, dim=-1).indices
    return student.gather(-1, ids), teacher.gather(-1, ids)


def test_a_hand_worked_example() -> None:
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    reverse = divergence_of(student, teacher, "reverse_kl").item()
    assert reverse == pytest.approx(0.5 * (torch.tensor(4 / 3)).log().item())
    forward = divergence_of(student, teacher, "forward_kl").item()
    assert forward == pytest.approx(0.75 * 0.405465 - 0.25 * 0.693147, abs=1e-5)
    jensen = divergence_of(student, teacher, 0.5).item()
    # Mixture (0.625, 0.375): 0.5 * 0.035249 + 0.5 * 0.032270
    assert jensen == pytest.approx(0.0338, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_is_zero_exactly_between_equals(kind: Divergence) -> None:
    student, teacher = tables()
    assert divergence_of(student, student, kind).abs().max() < 1e-15
    assert (divergence_of(student, teacher, kind) > 1e-3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_vocabulary_leaves_nothing_in_the_tail(kind: Divergence) -> None:
    student, teacher = tables()
    found = top_k_divergence(*likeliest(student, teacher, VOCABULARY), kind)
    assert torch.allclose(found, divergence_of(student, teacher, kind), atol=1e-6)


@given(st.integers(0, 999), st.integers(1, VOCABULARY - 1), st.sampled_from(KINDS))
def test_a_coarser_view_never_sees_more(seed: int, k: int, kind: Divergence) -> None:
    student, teacher = tables(seed)
    coarse = top_k_divergence(*likeliest(student, teacher, k), kind)
    assert (coarse >= -1e-12).all()
    assert (coarse <= divergence_of(student, teacher, kind) + 1e-9).all()


def test_the_tail_holds_all_other_tokens() -> None:
    student, teacher = tables()
    for table in likeliest(student, teacher, 3):
        assert torch.allclose(with_tail(table).exp().sum(-1), torch.ones(5).double())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_gradient_is_that_of_finite_differences(kind: Divergence, k: int) -> None:
    student, teacher = tables()
    ids = teacher.topk(k, dim=-1).indices

    def loss(logits: Tensor) -> Tensor:
        return top_k_divergence(
            logits.log_softmax(-1).gather(-1, ids), teacher.gather(-1, ids), kind
        ).sum()

    assert torch.autograd.gradcheck(loss, student.clone().requires_grad_(), atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_clip_a_token_counts_no_more_and_has_no_gradient(kind: Divergence) -> None:
    student, teacher = tables()
    whole = divergence_of(student, teacher, kind)
    clip = whole.median().item()
    leaf = student.clone().requires_grad_()
    found = top_k_divergence(*likeliest(leaf, teacher, VOCABULARY), kind, token_clip=clip)
    found.sum().backward()
    assert leaf.grad is not None
    assert (found <= clip).all()
    assert not leaf.grad[whole > clip + 1e-5].any()
    assert leaf.grad[whole < clip - 1e-5].any(-1).all()


def test_the_sampled_token_has_the_gradient_of_reverse_kl_on_average() -> None:
    (logits, teacher), tokens = tables(tokens=1), torch.arange(VOCABULARY)

    def gradient(loss: Any) -> Tensor:
        leaf = logits.clone().requires_grad_()
        loss(leaf.log_softmax(-1)[0]).backward()
        assert leaf.grad is not None
        return leaf.grad

    def sampled(student: Tensor) -> Tensor:
        old = student.detach()
        terms = sampled_reverse_kl(student - old, old, teacher[0])
        return (old.exp() * terms)[tokens].sum()

    exact = gradient(lambda student: divergence_of(student, teacher[0], "reverse_kl"))
    assert torch.allclose(gradient(sampled), exact, atol=1e-12)


def test_a_sampled_tokens_reward_is_clipped_on_both_sides() -> None:
    old, teacher = torch.tensor([-1.0, -9.0]), torch.tensor([-5.0, -1.0])
    zeros = torch.zeros(2)
    assert sampled_reverse_kl(zeros, old, teacher).tolist() == [4, -8]
    assert sampled_reverse_kl(zeros, old, teacher, token_clip=2.5).tolist() == [2.5, -2.5]


def test_half_precision_log_probs_are_close_to_whole_ones() -> None:
    student, teacher = tables()
    for kind in KINDS:
        exact = divergence_of(student, teacher, kind)
        rough = divergence_of(student.bfloat16().float(), teacher.bfloat16().float(), kind)
        assert (exact - rough).abs().max() < 0.03
