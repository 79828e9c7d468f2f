"""Intervals: known values, coverage, and what must hold for every input."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.statistics import paired_difference, pass_at_k, unpaired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # R: prop.test(x, n, correct = FALSE)$conf.int
        (15, 50, 0.1910, 0.4375),
        (1, 10, 0.0179, 0.4042),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_gives_the_textbook_interval(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_lies_in_the_unit_interval_around_the_share(n: int, part: float) -> None:
    successes = round(part * n)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


def test_wilson_of_nothing_is_everything_and_nonsense_is_refused() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_gain_lies_in_its_interval_and_turns_its_sign_with_the_order(
    pairs: list[tuple[bool, bool]],
) -> None:
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    gain = paired_difference(before, after)
    loss = paired_difference(after, before)
    assert gain["n"] == len(pairs)
    assert gain["difference"] == pytest.approx(sum(after) / len(pairs) - sum(before) / len(pairs))
    assert -1 <= gain["low"] <= gain["difference"] + 1e-12
    assert gain["difference"] - 1e-12 <= gain["high"] <= 1
    assert (loss["difference"], loss["low"], loss["high"]) == pytest.approx(
        (-gain["difference"], -gain["high"], -gain["low"])
    )


def test_the_interval_agrees_with_the_normal_one_for_paired_proportions() -> None:
    before = [0] * 60 + [1] * 20 + [0] * 80 + [1] * 80
    after = [1] * 60 + [0] * 20 + [0] * 80 + [1] * 80
    n, gained, lost = 240, 60, 20
    centre = (gained - lost) / n
    half = 1.96 * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    gain = paired_difference(before, after)
    assert (gain["low"], gain["high"]) == pytest.approx((centre - half, centre + half), abs=0.01)


def test_the_interval_covers_the_true_gain_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        before = rng.random(150) < 0.3
        after = np.where(rng.random(150) < 0.7, before, rng.random(150) < 0.6)
        gain = paired_difference(before.tolist(), after.tolist())
        covered += gain["low"] <= 0.3 * (0.6 - 0.3) <= gain["high"]
    assert 180 <= covered <= 199


def test_the_same_seed_gives_the_same_interval() -> None:
    outcomes = [0.0, 1.0, 0.5], [1.0, 1.0, 0.0]
    assert paired_difference(*outcomes, seed=3) == paired_difference(*outcomes, seed=3)


def test_unlike_or_absent_outcomes_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same tasks"):
        paired_difference([1, 0], [1])
    with pytest.raises(ValueError, match="no outcomes"):
        paired_difference([], [])


def test_the_unpaired_gain_gives_the_published_interval() -> None:
    gain = unpaired_difference((48, 80), (56, 70))  # Newcombe (1998), table II, example (a)
    assert gain["difference"] == pytest.approx(0.2)
    assert (gain["low"], gain["high"]) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_the_unpaired_gain_stays_in_bounds(n: int, m: int, a: float, b: float) -> None:
    gain = unpaired_difference((round(a * n), n), (round(b * m), m))
    assert -1 <= gain["low"] <= gain["difference"] <= gain["high"] <= 1


@given(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_correct_one(
    case: tuple[int, int, int],
) -> None:
    n, correct, k = case
    draws = list(combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("case", [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_of_impossible_counts_is_refused(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="drawn"):
        pass_at_k(*case)
