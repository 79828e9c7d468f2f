"""Losses: what is clipped, what is capped, and that a split changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.losses import Aggregation, clipped_surrogate, importance_weights, token_scales


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_scales_of_an_update_sum_to_one(lengths: list[int]) -> None:
    sizes = np.array(lengths, dtype=np.int32)
    assert token_scales(sizes, "token_mean").sum() == pytest.approx(1, rel=1e-5)
    assert token_scales(sizes, "sequence_mean").sum() == pytest.approx(1, rel=1e-5)


def test_token_mean_weighs_tokens_alike_and_sequence_mean_completions() -> None:
    lengths = np.array([1, 3], dtype=np.int32)
    assert token_scales(lengths, "token_mean").tolist() == [0.25] * 4
    assert token_scales(lengths, "sequence_mean").tolist() == pytest.approx([1 / 2] + [1 / 6] * 3)


def surrogate_gradient(ratio: float, credit: float) -> float:
    old = torch.zeros(1, dtype=torch.float64)
    new = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    made = clipped_surrogate(new, old, credit * one, one, one, clip_low=0.2, clip_high=0.28)
    made.loss.backward()
    assert new.grad is not None
    assert bool(made.clipped) == (new.grad.item() == 0)
    return new.grad.item()


def test_only_a_step_too_far_in_the_rewarded_direction_is_cut_off() -> None:
    assert surrogate_gradient(1.0, 1.0) == -1.0
    assert surrogate_gradient(1.27, 1.0) == pytest.approx(-1.27)
    assert surrogate_gradient(1.29, 1.0) == 0
    assert surrogate_gradient(0.5, 1.0) == pytest.approx(-0.5)
    assert surrogate_gradient(0.81, -1.0) == pytest.approx(0.81)
    assert surrogate_gradient(0.79, -1.0) == 0
    assert surrogate_gradient(1.5, -1.0) == pytest.approx(1.5)


def test_importance_is_capped_above_and_free_below() -> None:
    learner, engine = torch.tensor([0.0, -1.0, -1.0]), torch.tensor([-5.0, -1.0, -3.0]) * 1.0
    engine[1], engine[2] = -1.0, 1.0
    weights = importance_weights(learner, engine, cap=2.0)
    assert weights.tolist() == pytest.approx([2.0, 1.0, np.exp(-2.0)])


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_any_split_of_the_tokens_gives_the_same_gradient(aggregation: Aggregation) -> None:
    lengths = np.array([3, 5, 1, 4], dtype=np.int32)
    scales = torch.from_numpy(token_scales(lengths, aggregation)).double()
    generator = torch.Generator().manual_seed(0)
    new, old, credit = torch.randn(3, 13, generator=generator, dtype=torch.float64).unbind()
    new.requires_grad_()

    def gradient(cuts: list[slice]) -> torch.Tensor:
        new.grad = None
        for cut in cuts:
            clipped_surrogate(
                new[cut],
                old[cut],
                credit[cut],
                torch.ones(13)[cut],
                scales[cut],
                clip_low=0.2,
                clip_high=0.28,
            ).loss.backward()
        assert new.grad is not None
        return new.grad.clone()

    whole = gradient([slice(0, 13)])
    assert whole.any()
    assert torch.allclose(whole, gradient([slice(0, 3), slice(3, 9), slice(9, 13)]), atol=1e-15)
