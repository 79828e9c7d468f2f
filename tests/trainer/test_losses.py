"""Losses: what is clipped, what is capped, and that a split changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer.losses import (
    Aggregation,
    cispo_surrogate,
    clipped_surrogate,
    importance_weights,
    k3,
    sequence_log_ratios,
    token_scales,
)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_scales_of_an_update_sum_to_one(lengths: list[int]) -> None:
    sizes = np.array(lengths, dtype=np.int32)
    assert token_scales(sizes, "token_mean").sum() == pytest.approx(1, rel=1e-5)
    assert token_scales(sizes, "sequence_mean").sum() == pytest.approx(1, rel=1e-5)


def test_token_mean_weighs_tokens_alike_and_sequence_mean_completions() -> None:
    lengths = np.array([1, 3], dtype=np.int32)
    assert token_scales(lengths, "token_mean").tolist() == [0.25] * 4
    assert token_scales(lengths, "sequence_mean").tolist() == pytest.approx([1 / 2] + [1 / 6] * 3)


def surrogate_gradient(ratio: float, credit: float, dual_clip: float | None = None) -> float:
    log_ratio = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    made = clipped_surrogate(
        log_ratio, credit * one, one, clip_low=0.2, clip_high=0.28, dual_clip=dual_clip
    )
    made.loss.backward()
    assert log_ratio.grad is not None
    assert bool(made.low | made.high) == (log_ratio.grad.item() == 0)
    return log_ratio.grad.item()


def test_only_a_step_too_far_in_the_rewarded_direction_is_cut_off() -> None:
    assert surrogate_gradient(1.0, 1.0) == -1.0
    assert surrogate_gradient(1.27, 1.0) == pytest.approx(-1.27)
    assert surrogate_gradient(1.29, 1.0) == 0
    assert surrogate_gradient(0.5, 1.0) == pytest.approx(-0.5)
    assert surrogate_gradient(0.81, -1.0) == pytest.approx(0.81)
    assert surrogate_gradient(0.79, -1.0) == 0
    assert surrogate_gradient(1.5, -1.0) == pytest.approx(1.5)


def test_dual_clip_bounds_how_hard_a_blamed_token_is_pushed() -> None:
    assert surrogate_gradient(2.9, -1.0, dual_clip=3.0) == pytest.approx(2.9)
    assert surrogate_gradient(3.1, -1.0, dual_clip=3.0) == 0
    assert surrogate_gradient(3.1, -1.0) == pytest.approx(3.1)
    assert surrogate_gradient(1.2, 1.0, dual_clip=3.0) == pytest.approx(-1.2)


def test_importance_is_capped_above_and_free_below() -> None:
    learner, engine = torch.tensor([0.0, -1.0, -1.0]), torch.tensor([-5.0, -1.0, -3.0]) * 1.0
    engine[1], engine[2] = -1.0, 1.0
    weights = importance_weights(learner, engine, cap=2.0)
    assert weights.tolist() == pytest.approx([2.0, 1.0, np.exp(-2.0)])


def test_the_constant_aggregation_knows_no_length() -> None:
    lengths = np.array([1, 3], dtype=np.int32)
    scales = token_scales(lengths, "constant", max_tokens=10)
    assert scales.tolist() == pytest.approx([1 / 20] * 4)
    assert token_scales(lengths, "token_mean", max_tokens=10).tolist() == [0.25] * 4
    with pytest.raises(ValueError, match="max_tokens"):
        token_scales(lengths, "constant")


SEQUENCE = torch.tensor([0, 0, 0, 1, 1])


def random_rows(count: int, width: int = 5, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64).unbind()


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens() -> None:
    log_ratios = torch.tensor([0.1, 0.2, 0.3, -0.4, 0.0], dtype=torch.float64)
    found = sequence_log_ratios(log_ratios, SEQUENCE)
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.2, -0.2, -0.2])


def test_equal_credit_under_sequence_ratios_has_the_gradient_of_gspo() -> None:
    (log_ratios,) = random_rows(1)
    credit = torch.tensor([1.0, 1.0, 1.0, -0.5, -0.5], dtype=torch.float64)
    weights = torch.tensor([1 / 6] * 3 + [1 / 4] * 2, dtype=torch.float64)

    def gradient(loss: Any) -> Tensor:
        leaf = (0.05 * log_ratios).clone().requires_grad_()
        loss(leaf).backward()
        assert leaf.grad is not None
        return leaf.grad

    def gspo(leaf: Tensor) -> Tensor:
        ratios = torch.stack([leaf[:3].mean().exp(), leaf[3:].mean().exp()])
        return -(ratios * torch.tensor([1.0, -0.5])).mean()

    def ours(leaf: Tensor) -> Tensor:
        mean = sequence_log_ratios(leaf, SEQUENCE)
        return clipped_surrogate(mean, credit, weights, clip_low=0.2, clip_high=0.28).loss

    assert torch.allclose(gradient(ours), gradient(gspo), atol=1e-12)


def test_cispo_never_silences_a_token() -> None:
    old = torch.zeros(3, dtype=torch.float64)
    new = torch.tensor([0.1, 2.0, 0.9], dtype=torch.float64).log().requires_grad_()
    credit, weights = torch.tensor([1.0, 1.0, -1.0]).double(), torch.ones(3).double()
    made = cispo_surrogate(new, new - old, credit, weights, clip_low=0.2, clip_high=0.28)
    made.loss.backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([-0.8, -1.28, 0.9])
    assert made.low.tolist() == [True, False, False]
    assert made.high.tolist() == [False, True, False]


def test_k3_is_never_negative_and_estimates_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 6, generator=generator).double().log_softmax(-1)
    terms = k3(policy, reference)
    assert (terms >= 0).all()
    exact = (policy.exp() * (policy - reference)).sum()
    assert (policy.exp() * terms).sum() == pytest.approx(exact.item(), abs=1e-12)
    assert not k3(policy, policy).any()


def surrogate_loss(kind: str) -> Any:
    """A loss of five log-probs with everything else fixed, at ratios on both sides of 1."""
    old, credit = random_rows(2, seed=3)
    weights = torch.linspace(0.1, 0.3, 5, dtype=torch.float64)
    clips: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.28}

    def loss(shift: Tensor) -> Tensor:
        log_ratios = (old + 0.3 * shift) - old
        if kind == "cispo":
            return cispo_surrogate(old + 0.3 * shift, log_ratios, credit, weights, **clips).loss
        if kind == "k3":
            return (weights * k3(old + 0.3 * shift, old + credit)).sum()
        return clipped_surrogate(log_ratios, credit, weights, dual_clip=3.0, **clips).loss

    return loss


@pytest.mark.parametrize("kind", ["clipped", "k3"])
def test_the_gradient_is_that_of_finite_differences(kind: str) -> None:
    (shift,) = random_rows(1, seed=4)
    assert torch.autograd.gradcheck(surrogate_loss(kind), shift.requires_grad_(), atol=1e-8)


def test_cispo_has_the_gradient_of_a_weighted_log_likelihood() -> None:
    """Its weight is constant by design, so finite differences of the loss are not its gradient."""
    (shift,) = random_rows(1, seed=4)
    _, credit = random_rows(2, seed=3)
    weights = torch.linspace(0.1, 0.3, 5, dtype=torch.float64)
    shift.requires_grad_()
    surrogate_loss("cispo")(shift).backward()
    assert shift.grad is not None
    ratios = torch.exp(0.3 * shift.detach()).clamp(0.8, 1.28)
    assert torch.allclose(shift.grad, -0.3 * weights * ratios * credit)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_any_split_of_the_tokens_gives_the_same_gradient(aggregation: Aggregation) -> None:
    lengths = np.array([3, 5, 1, 4], dtype=np.int32)
    scales = torch.from_numpy(token_scales(lengths, aggregation, max_tokens=9))
    log_ratios, credit = random_rows(2, width=13)
    log_ratios.requires_grad_()

    def gradient(cuts: list[slice]) -> Tensor:
        log_ratios.grad = None
        for cut in cuts:
            clipped_surrogate(
                log_ratios[cut], credit[cut], scales[cut], clip_low=0.2, clip_high=0.28
            ).loss.backward()
        assert log_ratios.grad is not None
        return log_ratios.grad.clone()

    whole = gradient([slice(0, 13)])
    assert whole.any()
    assert torch.allclose(whole, gradient([slice(0, 3), slice(3, 9), slice(9, 13)]), atol=1e-15)
