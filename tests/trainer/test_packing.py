"""Packing: every sequence is whole in one pack, shared prompts are laid once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.packing import Pack, offsets, pack, shares

groups = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


def flat(groups: list[tuple[int, list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, lengths and prompt lengths of groups of (prompt length, completion lengths)."""
    rng = np.random.default_rng(0)
    tokens, lengths, prompts = [], [], []
    for prompt_length, completions in groups:
        prompt = rng.integers(0, 1000, prompt_length)
        for length in completions:
            tokens += [prompt, rng.integers(0, 1000, length)]
            lengths.append(prompt_length + length)
            prompts.append(prompt_length)
    as_int32 = [np.array(x, dtype=np.int32) for x in (lengths, prompts)]
    return np.concatenate(tokens).astype(np.int32), as_int32[0], as_int32[1]


def equal(a: Pack, b: Pack) -> bool:
    names = ("tokens", "positions", "lengths", "rows", "places", "predictors", "targets")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@given(groups, st.integers(1, 60))
def test_the_rows_of_each_sequence_spell_it_out(
    groups: list[tuple[int, list[int]]], budget: int
) -> None:
    tokens, lengths, prompts = flat(groups)
    starts, s, completions = offsets(lengths), 0, []
    for part in pack(tokens, lengths, prompts, budget=budget):
        bounds = offsets(part.lengths)
        assert np.array_equal(part.rows[part.places], np.arange(len(part.tokens)))
        assert np.array_equal(
            part.tokens[part.predictors + 0][:1], part.tokens[part.predictors[:1]]
        )
        seen = 0
        for i in range(len(part.lengths)):
            rows = part.rows[bounds[i] : bounds[i + 1]]
            assert np.array_equal(part.tokens[rows], tokens[starts[s] : starts[s + 1]])
            assert np.array_equal(part.positions[rows], np.arange(len(rows)))
            count = int(lengths[s] - prompts[s])
            assert np.array_equal(part.predictors[seen : seen + count], rows[prompts[s] - 1 : -1])
            assert np.array_equal(
                part.targets[seen : seen + count], part.tokens[rows[prompts[s] :]]
            )
            seen, s = seen + count, s + 1
        completions += part.completions.tolist()
    assert s == len(lengths)
    assert completions == list(range(int((lengths - prompts).sum())))


@given(groups, st.integers(1, 60))
def test_no_pack_exceeds_the_budget_unless_one_sequence_does(
    groups: list[tuple[int, list[int]]], budget: int
) -> None:
    for part in pack(*flat(groups), budget=budget):
        assert len(part.tokens) <= budget or len(part.lengths) == 1


@given(groups, st.integers(1, 60), st.data())
def test_a_run_of_whole_packs_packs_the_same_again(
    groups: list[tuple[int, list[int]]], budget: int, data: st.DataObject
) -> None:
    tokens, lengths, prompts = flat(groups)
    packs = pack(tokens, lengths, prompts, budget=budget)
    first = data.draw(st.integers(0, len(packs) - 1))
    last = data.draw(st.integers(first, len(packs) - 1))
    counts = offsets(np.array([len(p.lengths) for p in packs]))
    sequences = np.arange(counts[first], counts[last + 1])
    again = pack(tokens, lengths, prompts, budget=budget, sequences=sequences)
    assert len(again) == last + 1 - first
    assert all(equal(a, b) for a, b in zip(again, packs[first : last + 1], strict=True))


def test_neighbours_with_one_prompt_share_its_rows() -> None:
    tokens, lengths, prompts = flat([(5, [2, 3]), (4, [1])])
    (part,) = pack(tokens, lengths, prompts, budget=100)
    assert len(part.tokens) == 5 + 2 + 3 + 4 + 1
    assert part.shares_prompts


def test_a_fitting_prompt_is_shared_where_a_repeated_one_would_not_fit() -> None:
    tokens, lengths, prompts = flat([(6, [2, 2])])
    assert len(pack(tokens, lengths, prompts, budget=10)) == 1
    assert len(pack(tokens, lengths, prompts, budget=9)) == 2


@pytest.mark.parametrize(
    ("lengths", "prompts", "reason"),
    [([3, 3], [1, 1], "sum to 6"), ([4], [4], "sequence 0"), ([3, 1], [1, 0], "sequence 1")],
)
def test_arrays_that_do_not_fit_are_refused(
    lengths: list[int], prompts: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        pack(
            np.arange(4, dtype=np.int32),
            np.array(lengths, dtype=np.int32),
            np.array(prompts, dtype=np.int32),
            budget=10,
        )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 6))
def test_shares_cover_every_sequence_once_and_in_order(lengths: list[int], workers: int) -> None:
    parts = shares(np.array(lengths, dtype=np.int32), workers)
    assert len(parts) == workers
    assert np.concatenate(parts).tolist() == list(range(len(lengths)))
    even = sum(lengths) / workers
    assert all(sum(lengths[i] for i in part) <= even + max(lengths) for part in parts)
