"""Credit assignment: the published figures, and what must hold for any input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer.credit import (
    group_advantages,
    marginal_logprobs,
    overlong_penalty,
    reversed_evidence,
    rlsd,
    token_weights,
)

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden" / "credit.json"


def golden_rows() -> list[dict[str, Any]]:
    if not GOLDEN.is_file():
        pytest.skip("the published figures are not beside this checkout (../shared/golden)")
    return json.loads(GOLDEN.read_text())


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def credit_of(row: dict[str, Any], *, contrast: bool) -> Tensor:
    return rlsd(
        tensor(row["advantages"]),
        tensor(row["teacher_logprobs"]),
        tensor(row["student_logprobs"]),
        tensor(row["mask"]),
        mix=row["mix"],
        clip=row["clip"],
        negative_only=row["negative_only"],
        span_mask=None if row["span_mask"] is None else tensor(row["span_mask"]),
        contrast_logprobs=tensor(row["contrast_logprobs"]) if contrast else None,
    )


def test_every_published_row_is_reproduced() -> None:
    for row in golden_rows():
        error = (credit_of(row, contrast=False) - tensor(row["expected_rlsd"])).abs().max()
        assert error < 1e-9


def test_every_published_contrastive_row_is_reproduced() -> None:
    """Single-precision weights: a CPU's exp may round its last bit differently, nothing more."""
    errors: list[Tensor] = []
    for row in golden_rows():
        error = (credit_of(row, contrast=True) - tensor(row["expected_contrastive"])).abs()
        last_bit = tensor(row["advantages"]).abs().unsqueeze(-1) * 2.0**-23
        assert (error <= 1e-9 + last_bit).all()
        errors.append(error.flatten())
    assert (torch.cat(errors) < 1e-9).double().mean() > 0.99


finite = st.floats(-5, 5, allow_nan=False, width=32)
nats = st.floats(-40, 40, allow_nan=False, width=32)
mixes = st.floats(0, 1, allow_nan=False)
clips = st.floats(0.01, 2, allow_nan=False)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@given(st.lists(st.tuples(finite, nats, nats), min_size=1, max_size=8), mixes, clips, dtypes)
def test_credit_never_flips_the_sign_of_an_advantage(
    tokens: list[tuple[float, float, float]], mix: float, clip: float, dtype: torch.dtype
) -> None:
    advantages, teacher, student = torch.tensor(tokens, dtype=dtype).unbind(-1)
    mask = torch.ones(len(tokens), 1)
    for contrast in (None, student.unsqueeze(-1)):
        credit = rlsd(
            advantages,
            teacher.unsqueeze(-1),
            student.unsqueeze(-1),
            mask,
            mix=mix,
            clip=clip,
            contrast_logprobs=contrast,
        ).squeeze(-1)
        assert (credit * advantages >= 0).all()
        assert (credit[advantages == 0] == 0).all()
        if clip < 0.99 or mix < 0.99:
            assert (credit[advantages.abs() > 1e-30] != 0).all()


@given(st.lists(st.tuples(finite, nats, nats), min_size=1, max_size=8), clips, dtypes)
def test_without_mix_credit_is_exactly_the_advantage(
    tokens: list[tuple[float, float, float]], clip: float, dtype: torch.dtype
) -> None:
    advantages, teacher, student = torch.tensor(tokens, dtype=dtype).unbind(-1)
    factors = token_weights(advantages, teacher - student, mix=0.0, clip=clip)
    assert torch.equal(advantages * factors, advantages)


@given(st.lists(st.tuples(finite, nats), min_size=1, max_size=8), mixes, clips, dtypes)
def test_without_evidence_credit_is_exactly_the_advantage(
    tokens: list[tuple[float, float]], mix: float, clip: float, dtype: torch.dtype
) -> None:
    advantages, logprobs = torch.tensor(tokens, dtype=dtype).unbind(-1)
    factors = token_weights(advantages, logprobs - logprobs, mix=mix, clip=clip)
    assert torch.equal(advantages * factors, advantages)


@given(st.lists(st.tuples(finite, nats, st.booleans()), min_size=1, max_size=8), mixes, clips)
def test_flat_and_padded_forms_agree(
    tokens: list[tuple[float, float, bool]], mix: float, clip: float
) -> None:
    advantages = torch.tensor([t[0] for t in tokens], dtype=torch.float64)
    evidence = torch.tensor([t[1] for t in tokens], dtype=torch.float64)
    span = torch.tensor([t[2] for t in tokens])
    flat = advantages * token_weights(
        advantages, evidence, mix=mix, clip=clip, negative_only=True, span_mask=span
    )
    padded = rlsd(
        advantages,
        evidence.unsqueeze(-1),
        torch.zeros(len(tokens), 1, dtype=torch.float64),
        torch.ones(len(tokens), 1),
        mix=mix,
        clip=clip,
        negative_only=True,
        span_mask=span.unsqueeze(-1),
    ).squeeze(-1)
    assert torch.equal(flat, padded)


def test_what_lies_under_the_mask_is_never_read() -> None:
    logprobs = torch.tensor([[-1.0, float("nan"), -float("inf")]])
    credit = rlsd(
        torch.tensor([1.0]),
        logprobs,
        logprobs,
        torch.tensor([[1, 0, 0]]),
        mix=0.5,
        clip=0.2,
    )
    assert credit.tolist() == [[1.0, 0.0, 0.0]]


def test_negative_only_leaves_praised_completions_alone() -> None:
    teacher, student = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[-2.0], [-2.0]])
    credit = rlsd(
        torch.tensor([1.0, -1.0]),
        teacher,
        student,
        torch.ones(2, 1),
        mix=0.5,
        clip=0.2,
        negative_only=True,
    )
    assert credit[0].item() == 1.0
    assert credit[1].item() == pytest.approx(-0.9)


def test_a_group_is_centred_and_scaled_by_its_own_deviation() -> None:
    scores = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert group_advantages(scores, normalize_std=False).tolist() == [0.5, -0.5, -0.5, 0.5]
    scaled = group_advantages(scores)
    assert scaled.tolist() == pytest.approx((scores - 0.5).div(scores.std() + 1e-6).tolist())


def test_a_completion_without_a_verdict_counts_for_nothing() -> None:
    scores = torch.tensor([[1.0, 0.0, 0.7], [float("nan"), 0.25, 0.75]])
    valid = torch.tensor([[True, True, False], [False, True, True]])
    advantages = group_advantages(scores, valid, normalize_std=False)
    assert advantages.tolist() == [[0.5, -0.5, 0.0], [0.0, -0.25, 0.25]]


@given(st.floats(0, 1, width=32), st.integers(1, 9), st.booleans())
def test_a_group_without_contrast_gets_exactly_zero(
    score: float, size: int, normalize_std: bool
) -> None:
    advantages = group_advantages(torch.full((size,), score), normalize_std=normalize_std)
    assert not advantages.any()


def test_a_lone_verdict_gets_exactly_zero() -> None:
    valid = torch.tensor([True, False])
    assert not group_advantages(torch.tensor([1.0, 0.0]), valid).any()


def test_a_long_completion_loses_up_to_one_over_the_buffer() -> None:
    lengths = torch.tensor([10, 80, 90, 100, 120])
    penalties = overlong_penalty(lengths, max_tokens=100, buffer=20)
    assert penalties.tolist() == pytest.approx([0, 0, -0.5, -1, -1])


def test_reversed_evidence_is_the_opposite_where_something_was_rewarded() -> None:
    evidence = torch.tensor([0.3, 0.3, -0.2])
    found = reversed_evidence(torch.tensor([1.0, -1.0, 2.0]), evidence)
    assert found.tolist() == pytest.approx([-0.3, 0.0, 0.2])


@given(st.lists(st.lists(nats, min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_marginal_is_the_mean_of_probabilities(rows: list[list[float]]) -> None:
    logprobs = tensor(rows)
    assert torch.allclose(marginal_logprobs(logprobs).exp(), logprobs.exp().mean(-1))
    one = marginal_logprobs(logprobs[:, :1])
    assert torch.equal(one, logprobs[:, 0]), "one view is its own mean"


def rough_and_exact(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 4, 50, generator=generator, dtype=torch.float64) - 2
    advantages, mask = tensor([1.0, -1.0, 0.5, -2.0]), torch.ones(4, 50)
    exact = rlsd(advantages, teacher, student, mask, mix=0.5, clip=0.2)
    rough = rlsd(
        advantages.to(dtype), teacher.to(dtype), student.to(dtype), mask, mix=0.5, clip=0.2
    )
    return rough.double(), exact


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_credit_in_few_bits_is_close_to_credit_in_many(
    dtype: torch.dtype, tolerance: float
) -> None:
    rough, exact = rough_and_exact(dtype)
    assert ((rough - exact).abs() <= tolerance * exact.abs()).all()
