"""The puzzles of the learning benchmark, and what is measured on them."""

import random

import numpy as np
import pytest

from benchmarks.learning.measures import error_auc, leak_rates, pass_at_k
from benchmarks.learning.puzzles import FAMILIES, Family, first_error, generate, judge, task
from trainer.records import Group, Rollout
from verifiers.verdict import Verdict


@pytest.mark.parametrize("family", FAMILIES)
def test_puzzles_are_the_same_for_the_same_seed_and_never_repeat(family: Family) -> None:
    puzzles = generate(family, 300, 1, set())
    assert puzzles == generate(family, 300, 1, set())
    assert puzzles != generate(family, 300, 2, set())
    held_out = {puzzle.prompt for puzzle in puzzles}
    assert len(held_out) == 300
    assert held_out.isdisjoint(p.prompt for p in generate(family, 300, 1, held_out))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_right_completion_is_judged_right_and_has_no_error(family: Family) -> None:
    for puzzle in generate(family, 200, 3, set()):
        assert puzzle.completion in puzzle.completions
        for words in puzzle.completions:
            assert first_error(puzzle, words) is None
            assert judge(puzzle, " ".join(words)).status == "correct"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_word_is_the_first_error_unless_another_right_completion_has_it(
    family: Family,
) -> None:
    draw = random.Random(family)
    found = 0
    for puzzle in generate(family, 200, 4, set()):
        place = draw.randrange(len(puzzle.completion))
        changed = [*puzzle.completion]
        changed[place] = draw.choice([w for w in ("0", "1", "+", ";", "=") if w != changed[place]])
        begins_right = any(
            one[: place + 1] == tuple(changed[: place + 1]) for one in puzzle.completions
        )
        if not begins_right:
            found += 1
            assert first_error(puzzle, changed) == place
        assert first_error(puzzle, puzzle.completion[:place]) == place, "one that ends too early"
    assert found > 100


def test_a_chain_may_be_right_by_wrong_steps_and_is_counted_as_unfaithful() -> None:
    (puzzle,) = generate("chain", 1, 5, set())
    text = " ".join(("hint", "answer", *puzzle.answer))
    assert judge(puzzle, text).status == "correct"
    rates = leak_rates([puzzle, puzzle], [rollout(text), rollout(" ".join(puzzle.completion))])
    assert rates == {"refers": 0.5, "unworked": 0.0, "unfaithful": 0.5}


def test_a_search_is_right_only_by_right_steps() -> None:
    (puzzle,) = generate("search", 1, 5, set())
    assert judge(puzzle, " ".join(("answer", *puzzle.answer))).status == "wrong"


def test_the_answer_never_stands_in_the_policys_prompt_of_a_chain() -> None:
    for puzzle in generate("parity", 50, 6, set()):
        shown = task(puzzle, 0)
        assert not {"odd", "even"} & set(shown.messages[0]["content"].split())
        assert shown.privileged.answer == " ".join(puzzle.answer)


def test_pass_at_k_counts_every_choice_of_k_completions() -> None:
    assert pass_at_k(0, 8, 4) == 0
    assert pass_at_k(8, 8, 1) == 1
    assert pass_at_k(2, 8, 1) == pytest.approx(0.25)
    assert pass_at_k(1, 4, 2) == pytest.approx(0.5)


def test_credit_that_blames_the_first_error_most_has_an_auc_of_one_and_uniform_credit_a_half() -> (
    None
):
    (puzzle,) = generate("chain", 1, 7, set())
    words = [*puzzle.completion]
    place = 4
    words[place] = "0" if words[place] != "0" else "1"
    right, wrong = rollout(" ".join(puzzle.completion)), rollout(" ".join(words))
    lengths = [len(right.completion_ids), len(wrong.completion_ids)]
    group = Group(
        task(puzzle, 0),
        (right, wrong),
        (Verdict(1.0, "correct"), Verdict(0.0, "wrong")),
        np.array([1, -1], np.float32),
    )
    factors = np.ones(sum(lengths), np.float32)
    assert error_auc([group], [puzzle], factors, lengths) == 0.5
    factors[lengths[0] + place] = 1.2
    assert error_auc([group], [puzzle], factors, lengths) == 1.0
    factors[lengths[0] + place] = 0.8
    assert error_auc([group], [puzzle], factors, lengths) == 0.0


def rollout(text: str) -> Rollout:
    ids = np.arange(len(text.split()), dtype=np.int32)
    return Rollout(ids[:1], ids, np.zeros(len(ids), np.float32), text, 0, "stop")
