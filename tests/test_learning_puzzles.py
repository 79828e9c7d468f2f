"""The puzzles of the learning benchmark, and what is measured on them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.learning.__main__ import README, REAL_RESULTS, RESULTS, page
from benchmarks.learning.controls import dealt_anew
from benchmarks.learning.measures import error_auc, leak_rates, pass_at_k
from benchmarks.learning.model import make_model
from benchmarks.learning.puzzles import (
    FAMILIES,
    SHORTCUTS,
    SLIPS,
    STEPS,
    Family,
    demonstrate,
    first_error,
    generate,
    judge,
    task,
)
from benchmarks.learning.real import read_real
from benchmarks.learning.results import read
from benchmarks.learning.sampling import sample
from benchmarks.learning.schedule import strangers
from trainer.algorithm_spec import Rlsd
from trainer.learner import Learner
from trainer.records import Batch, Group, Rollout
from trainer.spec import OptimizerSpec
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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_demonstration_slips_as_often_as_it_should_and_its_hint_is_what_it_ends_at(
    family: Family,
) -> None:
    draw = random.Random(family)
    puzzles = generate(family, 400, 8, set())
    made = [demonstrate(puzzle, draw) for puzzle in puzzles]
    for puzzle, one in zip(puzzles, made, strict=True):
        said = judge(puzzle, " ".join(one.completion)).evidence["extracted"]
        assert said == " ".join(one.hint), "what was extracted is a hint that leads to it"
    right = [
        first_error(puzzle, one.completion) is None
        for puzzle, one in zip(puzzles, made, strict=True)
    ]
    steps = len(puzzles[0].chains) * STEPS[family]
    assert np.mean(right) == pytest.approx((1 - SLIPS[family]) ** steps, abs=0.08)
    refers = [one.hinted[0] == "hint" for one in made]
    assert np.mean(refers) == pytest.approx(SHORTCUTS, abs=0.06)
    assert all(word != "hint" for one in made for word in one.completion)


def test_the_written_out_sampler_gives_the_log_probs_of_the_model_it_samples(
    tmp_path: Path,
) -> None:
    folder = make_model(tmp_path, seed=0, width=64, layers=2)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lengths = (5, 9, 5, 5)
    draw = np.random.default_rng(0)
    prompts = [draw.integers(4, 25, length).astype(np.int32) for length in lengths]
    prompts[2] = prompts[0]
    outputs = sample(
        model, prompts, max_tokens=12, temperature=0.7, end=5, generator=torch.Generator()
    )
    for prompt, (ids, logprobs) in zip(prompts, outputs, strict=True):
        assert len(ids) == 12 or ids[-1] == 5
        assert (ids[:-1] != 5).all()
        whole = torch.from_numpy(np.concatenate([prompt, ids])).long()[None]
        with torch.no_grad():
            scores = (model(whole).logits[0] / 0.7).log_softmax(-1).numpy()
        expected = scores[len(prompt) - 1 : -1][np.arange(len(ids)), ids]
        np.testing.assert_allclose(logprobs, expected, atol=1e-5)


def test_dealt_weights_keep_their_distribution_and_their_sign(tmp_path: Path) -> None:
    folder = make_model(tmp_path, seed=0, width=64, layers=2)
    draw = np.random.default_rng(0)
    lengths, prompts = np.full(6, 11, np.int32), np.full(6, 4, np.int32)
    batch = Batch(
        tokens=draw.integers(4, 25, 66).astype(np.int32),
        lengths=lengths,
        prompt_lengths=prompts,
        advantages=np.array([1, -1, 0, 1, -1, 2], np.float32),
        engine_logprobs=np.full(42, -3, np.float32),
        teacher_logprobs=draw.normal(-3, 1, 42).astype(np.float32),
    )
    learner = Learner(
        folder, algorithm=Rlsd(), optimizer=OptimizerSpec(), dtype="float32", max_tokens=8
    )
    student = learner.score(batch.tokens, lengths, prompts)
    dealt = dealt_anew(batch, learner, np.random.default_rng(1))
    assert batch.teacher_logprobs is not None
    assert dealt.teacher_logprobs is not None
    before, after = batch.teacher_logprobs - student, dealt.teacher_logprobs - student
    signs = np.repeat(np.sign(batch.advantages), 7)
    assert not np.allclose(before, after)
    for sign in (-1, 0, 1):
        where = signs == sign
        np.testing.assert_allclose(np.sort(before[where]), np.sort(after[where]), atol=1e-5)
    np.testing.assert_allclose(before[signs == 0], after[signs == 0], atol=1e-5)


def test_the_pages_tables_are_what_the_report_makes_of_the_recorded_results() -> None:
    readme = README.read_text()
    assert page(readme, read(RESULTS), read_real(REAL_RESULTS)) == readme


def test_all_recorded_runs_of_a_family_began_from_one_policy() -> None:
    rows = read(RESULTS)
    for family in FAMILIES:
        own = [row for row in rows if row["family"] == family]
        assert own
        assert strangers(rows, family, own[0]["start"]) == []
        assert strangers(rows, family, own[0]["start"] | {"steps": 1}) == own


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
